/**
 * Adding up what a token's experts returned, in the order of its assignments.
 *
 * @module
 */
import type { KernelContext, Operand as Buffer } from "../core/kernel.ts";
import {
  ceilDiv,
  dispatchKernelText,
  type KernelText,
  linearGrid,
  MAX_ITERATIONS,
  type Operand,
  times,
} from "../ops/kernel_text.ts";
import type { ExpertShape } from "./execute_shape.ts";

/** Where the rows of a token's assignments are. */
export interface TokenAssignments {
  /** Row of each assignment, u32[A]; 0xFFFFFFFF for none. */
  readonly assignRow: Buffer;
  /** First assignment of each token and the end, u32[T + 1], where tokens have different numbers. */
  readonly tokenOffsets?: Buffer;
}

/** Which assignments a token has: always the same number, or those between its offsets. */
interface CombineOptions {
  /** T. */
  readonly tokens: number;
  /** D. */
  readonly width: number;
  /** Assignments of every token, or null if they are between a token's offsets. */
  readonly perToken: number | null;
  /** A. */
  readonly assignments: number;
  /** Partial rows of every assignment. */
  readonly parts: number;
}

/** Assignments of every token up to which there is no loop: llvmpipe runs a loop once more than it has to. */
const MOST_UNROLLED = 8;

/**
 * Adds the rows of each token's assignments, ascending. Inputs: rows [parts, A, D], assignRow, and tokenOffsets where there
 * is no fixed number. An assignment without a row is skipped, because its memory may hold anything.
 */
function combineKernel({ tokens, width, perToken, assignments, parts }: CombineOptions): KernelText {
  const lanes = 64;
  // One token may have all of them, and an invocation may not loop that often.
  const step = Math.max(1, ceilDiv(perToken ?? assignments, MAX_ITERATIONS));
  const isVector = width % 4 === 0;
  const [unit, suffix, zero] = isVector ? [4, "v", "vec4<f32>()"] : [1, "", "0.0"];
  const grid = linearGrid(ceilDiv(tokens * width / unit, lanes), "group");
  const [begin, end] = perToken === null
    ? ["ldu2(token)", "ldu2(token + 1u)"]
    : [`token * ${perToken}u`, `(token + 1u) * ${perToken}u`];
  const addRow = parts === 1
    ? `sum += ld0${suffix}(a * ${width}u + column);`
    : `for (var part = 0u; part < ${parts}u; part++) {\n` +
      `sum += ld0${suffix}((part * ${assignments}u + a) * ${width}u + column);\n}`;
  const add = (assignment: string, inside: string): string =>
    `{ let a = ${assignment};\nif (${inside}ldu1(a) != 0xffffffffu) { ${addRow} } }\n`;
  const addAll = perToken !== null && perToken <= MOST_UNROLLED
    ? times(perToken, (i) => add(`token * ${perToken}u + ${i}u`, ""))
    : `let end = ${end};\nfor (var first = ${begin}; first < end; first += ${step}u) {\n` +
      times(step, (i) => add(`first + ${i}u`, i === 0 ? "" : "a < end && ")) + "}\n";
  const inputs: readonly Operand[] = [
    { name: "rows", kind: "f32" },
    { name: "assignRow", kind: "u32" },
    { name: "tokenOffsets", kind: "u32" },
  ];
  return {
    inputs,
    outputs: [{ name: "out", kind: "f32" }],
    preludes: "",
    body:
      `${grid.text}let item = (group * ${lanes}u + lane) * ${unit}u;\nif (item >= ${tokens * width}u) { return; }\n` +
      `let token = item / ${width}u;\nlet column = item % ${width}u;\nvar sum = ${zero};\n` +
      addAll +
      `st0${suffix}(item, sum);\n`,
    workgroupSize: [lanes, 1, 1],
    workgroups: grid.workgroups,
  };
}

/** Where experts leave their rows: in `out` if there is nothing to add, else in rows for {@linkcode dispatchCombine}. */
export function rowsToCombine(
  kernel: KernelContext,
  { assignments, width }: ExpertShape,
  { target, parts, out }: {
    readonly target: "token" | "assignment";
    readonly parts: number;
    readonly out: Buffer;
  },
): Buffer {
  if (parts > 1) return kernel.scratch([parts, assignments, width], "f32");
  return target === "token" ? out : kernel.scratch([assignments, width], "f32");
}

/** Adds the rows of each token's assignments: [A, D], or [parts, A, D] where each row is in parts. */
export function dispatchCombine(
  kernel: KernelContext,
  { assignRow, tokenOffsets }: TokenAssignments,
  { perToken }: Pick<CombineOptions, "perToken">,
  rows: Buffer,
  out: Buffer,
): void {
  const [tokens, width] = out.shape as readonly [number, number];
  const [parts, assignments] = rows.shape.length === 3 ? rows.shape as [number, number, number] : [1, rows.shape[0]!];
  const text = combineKernel({ tokens, width, perToken, assignments, parts });
  dispatchKernelText(kernel, `experts combine ${tokens}x${width}`, text, [rows, assignRow, tokenOffsets ?? null], [
    out,
  ]);
}
