/**
 * Kernels that add rows by segment in a fixed order, so that a run repeats bit for bit.
 *
 * Letters: A rows of D columns, E segments. A segment's rows are order[offsets[e]] to order[offsets[e + 1] - 1].
 * One invocation adds four columns (one where D is not a multiple of 4) of a segment, row after row. Where a segment
 * may be long (skewed ids, or few segments), segments are cut into pieces of `PIECE` rows, each added by invocations
 * of its own, and a second dispatch adds the pieces in order. A segment's pieces have the numbers from offsets[e] /
 * PIECE + e: distinct, below A / PIECE + E, and found again by binary search, so no table of pieces is needed.
 *
 * Sums are in f32. A software adapter silently stops an invocation after 65,535 loop iterations; neither level comes
 * near.
 *
 * @module
 */
import { wgslLiteral } from "../core/arithmetic.ts";
import type { DType } from "../core/dtype.ts";
import { type Code, type KernelContext, type Operand, wgsl } from "../core/kernel.ts";

/** Rows of a piece: many on a CPU driver, where only the total work counts. */
const PIECE = { software: 512, hardware: 64 };
/** Rows from which one long segment would be too slow, or run into the iteration limit. */
const LONG = { software: 16_384, hardware: 512 };
/** Invocations below which a CPU driver's cores are not all busy. */
const ENOUGH_INVOCATIONS = 64;

interface Sizes {
  readonly rows: number;
  readonly segments: number;
  readonly lanes: 1 | 4;
  /** D / lanes. */
  readonly chunks: number;
  readonly dtype: DType;
}

/** Emits the dispatches. Inputs: values [A, D], ids (unused here), order u32[A], offsets u32[E+1]. Output [E, D]. */
export function buildSegmentSum(kernel: KernelContext): void {
  const [values] = kernel.inputs as [Operand];
  const [output] = kernel.outputs as [Operand];
  const [segments, columns] = output.shape as [number, number];
  if (segments * columns === 0) return;
  const lanes = columns % 4 === 0 ? 4 : 1;
  const sizes: Sizes = { rows: values.shape[0]!, segments, lanes, chunks: columns / lanes, dtype: output.dtype };
  const { software } = kernel.adapter;
  const piece = PIECE[software ? "software" : "hardware"];
  const isIdle = segments * sizes.chunks < ENOUGH_INVOCATIONS && sizes.rows > piece;
  if (sizes.rows > LONG[software ? "software" : "hardware"] || isIdle) addPieces(kernel, sizes, piece);
  else addSegments(kernel, sizes);
}

function typeOf({ dtype, lanes }: Sizes): string {
  return lanes === 4 ? `vec4<${dtype}>` : dtype;
}

/** WGSL that adds the rows at positions `first` to `end` into `sum`. */
function addRows(code: Code, kernel: KernelContext, sizes: Sizes): string {
  const [values, , order] = kernel.inputs as [Operand, Operand, Operand];
  const { lanes, chunks } = sizes;
  const place = `${code.load(order, "p")} * ${chunks * lanes}u + chunk * ${lanes}u`;
  return wgsl`
    var sum = ${typeOf(sizes)}(${wgslLiteral(0, sizes.dtype)});
    for (var p = first; p < end; p++) { sum += ${code.load(values, place, lanes)}; }`;
}

function addSegments(kernel: KernelContext, sizes: Sizes): void {
  const [values, , order, offsets] = kernel.inputs as [Operand, Operand, Operand, Operand];
  const [output] = kernel.outputs as [Operand];
  const { segments, chunks, lanes } = sizes;
  kernel.dispatch({
    label: "segment sum",
    grid: { threads: segments * chunks },
    // Neighboring segments differ in length: small workgroups share the work better.
    workgroupSize: [kernel.adapter.software ? 8 : 64, 1, 1],
    reads: [values, order, offsets],
    writes: [output],
    body: (code) =>
      wgsl`
    let e = id / ${chunks}u;
    let chunk = id % ${chunks}u;
    let first = ${code.load(offsets, "e")};
    let end = ${code.load(offsets, "e + 1u")};
    ${addRows(code, kernel, sizes)}
    ${code.store(output, `id * ${lanes}u`, "sum", lanes)}`,
  });
}

function addPieces(kernel: KernelContext, sizes: Sizes, piece: number): void {
  const [values, , order, offsets] = kernel.inputs as [Operand, Operand, Operand, Operand];
  const [output] = kernel.outputs as [Operand];
  const { rows, segments, chunks, lanes, dtype } = sizes;
  const slots = Math.floor(rows / piece) + segments;
  const partial = kernel.scratch([slots, chunks * lanes], dtype);
  kernel.dispatch({
    label: "segment sum: pieces",
    grid: { threads: slots * chunks },
    workgroupSize: [kernel.adapter.software ? 8 : 64, 1, 1],
    reads: [values, order, offsets],
    writes: [partial],
    body: (code) =>
      wgsl`
    let slot = id / ${chunks}u;
    let chunk = id % ${chunks}u;
    var low = 0u;
    var high = ${segments}u;
    while (high - low > 1u) {
      let middle = (low + high) / 2u;
      if (${code.load(offsets, "middle")} / ${piece}u + middle <= slot) { low = middle; } else { high = middle; }
    }
    let start = ${code.load(offsets, "low")};
    let stop = ${code.load(offsets, "low + 1u")};
    let first = start + (slot - start / ${piece}u - low) * ${piece}u;
    let end = min(first + ${piece}u, stop);
    ${addRows(code, kernel, sizes)}
    ${code.store(partial, `id * ${lanes}u`, "sum", lanes)}`,
  });
  kernel.dispatch({
    label: "segment sum: join",
    grid: { threads: segments * chunks },
    workgroupSize: [kernel.adapter.software ? 8 : 64, 1, 1],
    reads: [partial, offsets],
    writes: [output],
    body: (code) =>
      wgsl`
    let e = id / ${chunks}u;
    let chunk = id % ${chunks}u;
    let start = ${code.load(offsets, "e")};
    let length = ${code.load(offsets, "e + 1u")} - start;
    let first = start / ${piece}u + e;
    let end = first + (length + ${piece - 1}u) / ${piece}u;
    var sum = ${typeOf(sizes)}(${wgslLiteral(0, dtype)});
    for (var slot = first; slot < end; slot++) {
      sum += ${code.load(partial, `(slot * ${chunks}u + chunk) * ${lanes}u`, lanes)};
    }
    ${code.store(output, `id * ${lanes}u`, "sum", lanes)}`,
  });
}
