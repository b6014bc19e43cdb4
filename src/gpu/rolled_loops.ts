/**
 * Keeps the software driver from unrolling loops, and from compiling a kernel again for the sizes it is given.
 *
 * What should be unrolled was written out. The driver also unrolls every loop of up to 32 turns, and then compiles several
 * times longer for a kernel that runs no faster. And where a loop ends at a number from a uniform buffer, it looks whether a
 * copy of the kernel made for that number would be half as large; if so, it compiles a copy at each dispatch. So ends of
 * loops get an addend that is always 0, because no grid has 65,536 workgroups along an axis, which the driver does not know.
 *
 * @module
 */
import type { AdapterTraits } from "../core/kernel.ts";
import type { Dispatch } from "./dispatch.ts";

/** The addend in the entry point: the same in all of a workgroup, so that loops may hold barriers. */
const ZERO = "unknown_zero";
/** The addend in functions beside the entry point. */
const ZERO_OUTSIDE = "unknown_zero_outside";
/** A loop up to a number or a size, in the way all kernels are written. */
const LOOP = /(\bfor \(var \w+ = [^;\n]*; \w+ < )(\d+u|sizes\[\d+\]\.[xyzw])(?=; )/g;
/** A size with a name, which is there for the ends of loops. */
const NAMED_SIZE = /(^let \w+ = sizes\[\d+\]\.[xyzw])(?=;$)/gm;
/** The beginning of the entry point. */
const ENTRY = /(\bfn main\([^{]*\) \{\n)/;

/** Rewrites the kernels of a program for software adapters; others unroll what pays. */
export function rollLoops(
  dispatches: readonly Dispatch[],
  { software }: Pick<AdapterTraits, "software">,
): readonly Dispatch[] {
  return software ? dispatches.map((dispatch) => ({ ...dispatch, wgsl: withRolledLoops(dispatch.wgsl) })) : dispatches;
}

/** The text of a kernel with loops that stay loops. */
export function withRolledLoops(wgsl: string): string {
  const [functions, entry, body] = wgsl.split(ENTRY);
  // Copies have no text.
  if (functions === undefined || entry === undefined || body === undefined) return wgsl;
  const [outside, inside] = [withAddend(functions, ZERO_OUTSIDE), withAddend(body, ZERO)];
  if (outside === functions && inside === body) return wgsl;
  const value = `let ${ZERO} = wg.z >> 16u;\n`;
  if (outside === functions) return `${functions}${entry}${value}${inside}`;
  // Behind the rest, because directives come first.
  return `${outside}${entry}${value}${ZERO_OUTSIDE} = ${ZERO};\n${inside}var<private> ${ZERO_OUTSIDE}: u32;\n`;
}

function withAddend(text: string, zero: string): string {
  return text.replace(LOOP, `$1$2 + ${zero}`).replace(NAMED_SIZE, `$1 + ${zero}`);
}
