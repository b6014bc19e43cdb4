/**
 * Kernels that sort rows: a stable merge sort without workgroup memory, one dispatch for each doubling.
 *
 * Elements become u32 keys of the same order. The first dispatch sorts blocks of 16 by counting, for each element, how
 * many of its block come before it; each further dispatch merges pairs of sorted runs: an element's place in the
 * merged run is its place in its own run plus the number of elements of the sibling run that come before it, found by
 * binary search. Equal elements of the left run come first, so the sort is stable. Every element is written exactly
 * once.
 *
 * @module
 */
import type { DType } from "../core/dtype.ts";
import { isFloat } from "../core/dtype.ts";
import { type KernelContext, type Operand, wgsl } from "../core/kernel.ts";

/** Elements that the first dispatch sorts by counting. */
const BLOCK = 16;

/** Order of a sort. NaN comes last in both. */
export type SortOrder = "ascending" | "descending";

/** Module-level WGSL: `sort_key(value)`, a u32 whose order is that of the values. -0 equals 0; NaN is the greatest. */
export function sortKeyFunction(dtype: DType, order: SortOrder): string {
  const flip = order === "descending" ? "~" : "";
  if (dtype === "bool") return `fn sort_key(value: bool) -> u32 { return ${flip}select(0u, 1u, value); }`;
  if (dtype === "u32") return `fn sort_key(value: u32) -> u32 { return ${flip}value; }`;
  if (dtype === "i32") return `fn sort_key(value: i32) -> u32 { return ${flip}(bitcast<u32>(value) ^ 0x80000000u); }`;
  // Bits of positive floats are ordered as integers, those of negative ones in reverse.
  return wgsl`fn sort_key(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  if ((bits & 0x7fffffffu) == 0u) { return ${flip}0x80000000u; }
  return ${flip}select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}`;
}

/** Compares two numbers as the kernels do. */
export function compareForSort(a: number, b: number, order: SortOrder): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return order === "ascending" ? a - b || 0 : b - a || 0;
}

/** Sorted keys of rows and where they came from. */
export interface SortedRows {
  /** u32 keys, ascending in each row. */
  readonly keys: Operand;
  /** Places in the unsorted row. */
  readonly places: Operand;
}

/**
 * Emits the dispatches that sort the rows of `input`, seen as [rows, length] with `rows * length` > 0.
 *
 * @param target Receives the places; scratch by default.
 */
export function buildMergeSort(
  kernel: KernelContext,
  input: Operand,
  length: number,
  order: SortOrder,
  target?: Operand,
): SortedRows {
  const size = input.shape.reduce((product, n) => product * n, 1);
  const passes = Math.max(0, Math.ceil(Math.log2(length / BLOCK)));
  function buffers(isLast: boolean): SortedRows {
    return {
      keys: kernel.scratch([size], "u32"),
      places: isLast && target !== undefined ? target : kernel.scratch([size], "u32"),
    };
  }
  let sorted = buffers(passes === 0);
  sortBlocks(kernel, input, length, order, sorted);
  for (let pass = 0; pass < passes; pass++) {
    const merged = buffers(pass === passes - 1);
    mergeRuns(kernel, length, BLOCK * 2 ** pass, sorted, merged);
    sorted = merged;
  }
  return sorted;
}

function sortBlocks(kernel: KernelContext, input: Operand, length: number, order: SortOrder, to: SortedRows): void {
  const size = to.keys.shape[0]!;
  kernel.dispatch({
    label: "sort: blocks",
    grid: { threads: size },
    reads: [input],
    writes: [to.keys, to.places],
    prelude: () => sortKeyFunction(isFloat(input.dtype) ? "f32" : input.dtype, order),
    body: (code) =>
      wgsl`
    let place = id % ${length}u;
    let row = id - place;
    let first = place - place % ${BLOCK}u;
    let end = min(first + ${BLOCK}u, ${length}u);
    let key = sort_key(${code.load(input, "id")});
    var target_place = first;
    for (var j = first; j < end; j++) {
      let other = sort_key(${code.load(input, "row + j")});
      target_place += select(0u, 1u, other < key || (other == key && j < place));
    }
    ${code.store(to.keys, "row + target_place", "key")}
    ${code.store(to.places, "row + target_place", "place")}`,
  });
}

function mergeRuns(kernel: KernelContext, length: number, run: number, from: SortedRows, to: SortedRows): void {
  const size = from.keys.shape[0]!;
  kernel.dispatch({
    label: `sort: merge ${run}`,
    grid: { threads: size },
    reads: [from.keys, from.places],
    writes: [to.keys, to.places],
    body: (code) =>
      wgsl`
    let at = id % ${length}u;
    let row = id - at;
    let own = at - at % ${run}u;
    let isRight = (at / ${run}u) % 2u == 1u;
    let pair = select(own, own - ${run}u, isRight);
    let sibling = select(own + ${run}u, pair, isRight);
    let key = ${code.load(from.keys, "id")};
    // Lower bound in the right run, upper bound in the left one: equal keys keep their order.
    var low = min(sibling, ${length}u);
    let first = low;
    var high = min(sibling + ${run}u, ${length}u);
    while (low < high) {
      let middle = (low + high) / 2u;
      let other = ${code.load(from.keys, "row + middle")};
      if (other < key || (isRight && other == key)) { low = middle + 1u; } else { high = middle; }
    }
    let target_place = row + pair + (at - own) + (low - first);
    ${code.store(to.keys, "target_place", "key")}
    ${code.store(to.places, "target_place", code.load(from.places, "id"))}`,
  });
}
