/**
 * Grouping: which elements carry which id, in a stable order. Routing and every deterministic scatter stand on it.
 *
 * @module
 */
import { castTo, fullLike, iota, plus, reshapeTo, times } from "../core/arithmetic.ts";
import { ConfigError, ShapeError } from "../core/errors.ts";
import { hostFill } from "../core/host.ts";
import { type KernelContext, type Operand, wgsl } from "../core/kernel.ts";
import { definePrimitive, type HostArray, type Primitive } from "../core/primitive.ts";
import { type Aval, formatAval } from "../core/shape.ts";
import { applyAll, type Tensor } from "../core/tensor.ts";
import { less } from "./compare.ts";
import { buildCountingGroup, MAX_COUNTED_GROUPS, NO_POSITION } from "./group_kernel.ts";
import { buildMergeSort } from "./merge_sort.ts";
import { expectInteger } from "./operand.ts";
import { where } from "./select.ts";
import { sliceAxis } from "./slice.ts";

/** Elements by group. Positions count elements sorted by group, each group in the original order. */
export interface Grouping {
  /** u32 [groups + 1]: group `e` is at positions `offsets[e]` to `offsets[e + 1]`, exclusive. */
  readonly offsets: Tensor;
  /** u32 [A]: the element at each position. Elements without a group come last, in order. */
  readonly order: Tensor;
  /** u32 [A]: the position of each element, 0xFFFFFFFF for one without a group. */
  readonly rank: Tensor;
  /** u32 [groups]: how many elements each group has. */
  readonly counts: Tensor;
}

interface GroupAttrs {
  readonly groups: number;
}

function outputs(size: number, groups: number): readonly Aval[] {
  return [groups + 1, size, size, groups].map((n) => ({ shape: [n], dtype: "u32" }));
}

function groupOnHost([ids]: readonly HostArray[], { groups }: GroupAttrs): readonly HostArray[] {
  const size = ids!.data.length;
  const members = Array.from({ length: groups + 1 }, (): number[] => []);
  ids!.data.forEach((id, i) => members[Math.min(id, groups)]!.push(i));
  const order = members.flat();
  const starts = [0];
  for (const group of members.slice(0, groups)) starts.push(starts.at(-1)! + group.length);
  const rank = new Float64Array(size).fill(NO_POSITION);
  order.slice(0, starts[groups]).forEach((element, position) => {
    rank[element] = position;
  });
  const results = [starts, order, rank, members.slice(0, groups).map((group) => group.length)];
  return outputs(size, groups).map((aval, i) => hostFill(aval, (k) => results[i]![k]!));
}

/**
 * Groups a whole batch at once: in row b, group e becomes group b · (groups + 1) + e, and elements without a group get
 * the last number of their row. So row b has the positions from b · A, and its tables are rows of the tables of all.
 */
function groupBatch([ids]: readonly Tensor[], { groups }: GroupAttrs, batch: number): readonly Tensor[] {
  const size = ids!.shape[1]!;
  const columns = groups + 1;
  const capped = where(less(ids!, groups), ids!, groups);
  const row = (shape: readonly number[], scale: number) => times(iota(shape, "u32", 0), fullLike(shape, "u32", scale));
  const shared = plus(capped, row([batch, size], columns));
  const all = applyAll(groupPrimitive, [reshapeTo(shared, [batch * size])], { groups: batch * columns });
  const [offsets, order, rank, counts] = all as [Tensor, Tensor, Tensor, Tensor];
  const starts = reshapeTo(sliceAxis(offsets, 0, { stop: -1 }), [batch, columns]);
  // Adding b · (-A), which wraps around, subtracts b · A.
  const ownOffsets = plus(starts, row([batch, columns], -size));
  const ownOrder = plus(reshapeTo(order, [batch, size]), row([batch, size], -size));
  const ownRank = plus(reshapeTo(rank, [batch, size]), row([batch, size], -size));
  return [
    ownOffsets,
    ownOrder,
    where(less(ids!, groups), ownRank, NO_POSITION),
    sliceAxis(reshapeTo(counts, [batch, columns]), 1, { stop: groups }),
  ];
}

function build(kernel: KernelContext, { groups }: GroupAttrs): void {
  const [ids] = kernel.inputs as [Operand];
  if (ids.shape[0] === 0) buildEmptyGroup(kernel, groups);
  else if (groups <= MAX_COUNTED_GROUPS) buildCountingGroup(kernel, groups);
  else buildSortedGroup(kernel, groups);
}

function buildEmptyGroup(kernel: KernelContext, groups: number): void {
  const [offsets, , , counts] = kernel.outputs as [Operand, Operand, Operand, Operand];
  kernel.dispatch({
    label: "group: nothing",
    grid: { threads: groups + 1 },
    reads: [],
    writes: [offsets, counts],
    body: (code) => `${code.store(offsets, "id", "0u")} if (id < ${groups}u) { ${code.store(counts, "id", "0u")} }`,
  });
}

/** For more groups than can be counted in a table: sorts the ids and searches the boundaries. */
function buildSortedGroup(kernel: KernelContext, groups: number): void {
  const [ids] = kernel.inputs as [Operand];
  const [offsets, order, rank, counts] = kernel.outputs as [Operand, Operand, Operand, Operand];
  const size = ids.shape[0]!;
  // Ids from `groups` up are equal for a grouping, but not for a sort.
  const capped = kernel.scratch([size], "u32");
  kernel.dispatch({
    label: "group: cap",
    grid: { threads: size },
    reads: [ids],
    writes: [capped],
    body: (code) => code.store(capped, "id", `min(${code.load(ids, "id")}, ${groups}u)`),
  });
  const { keys } = buildMergeSort(kernel, capped, size, "ascending", order);
  kernel.dispatch({
    label: "group: bounds",
    grid: { threads: groups + 1 },
    reads: [keys],
    writes: [offsets, counts],
    prelude: (code) =>
      wgsl`fn lower_bound(e: u32) -> u32 {
  var low = 0u;
  var high = ${size}u;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (${code.load(keys, "middle")} < e) { low = middle + 1u; } else { high = middle; }
  }
  return low;
}`,
    body: (code) =>
      wgsl`
    let start = lower_bound(id);
    ${code.store(offsets, "id", "start")}
    if (id < ${groups}u) { ${code.store(counts, "id", "lower_bound(id + 1u) - start")} }`,
  });
  kernel.dispatch({
    label: "group: invert",
    grid: { threads: size },
    reads: [keys, order],
    writes: [rank],
    body: (code) =>
      code.store(rank, code.load(order, "id"), `select(id, ${NO_POSITION}u, ${code.load(keys, "id")} == ${groups}u)`),
  });
}

/** Primitive behind {@linkcode group}. */
export const groupPrimitive: Primitive = definePrimitive<GroupAttrs>({
  name: "group",
  kind: "discrete",
  shape: ([ids], { groups }) => outputs(ids!.shape[0]!, groups),
  host: groupOnHost,
  batch: (inputs, _mapped, attrs, batch) => groupBatch(inputs, attrs, batch),
  lower: { as: "kernel", build },
});

/**
 * Finds which elements carry which id: a stable counting sort that never leaves the device and repeats bit for bit.
 *
 * Ids from `groups` up, and negative ones, belong to no group ("null"): they are not counted and come last in `order`.
 * Takes two or three dispatches up to 65,536 groups, and a sort beyond.
 *
 * @param ids One integer for each element, [A] with A from 0 up.
 * @param groups Number of groups, from 1 up.
 * @returns Where each group is and who is in it.
 * @throws {ShapeError} If `ids` does not have one axis.
 * @throws {DTypeError} If it does not hold integers.
 * @throws {ConfigError} If `groups` is not a whole number from 1 up.
 *
 * @example Four tokens, two experts, one token dropped
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { group, init, read, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const { offsets, order } = await read(group(tensor([1, 0, 2, 1], { dtype: "u32" }), 2));
 * assertEquals([...offsets], [0, 1, 3]);
 * assertEquals([...order], [1, 0, 3, 2]);
 * ```
 */
export function group(ids: Tensor, groups: number): Grouping {
  expectInteger("group", ids);
  if (ids.shape.length !== 1) {
    throw new ShapeError("shape/group", {
      summary: `Cannot group ${formatAval(ids)}: ids must have one axis, not ${ids.shape.length}`,
      facts: [["op", "group(ids, groups)"]],
      fix: "reshape the ids to [-1]",
      details: { shape: ids.shape },
    });
  }
  if (!Number.isInteger(groups) || groups < 1) {
    throw new ConfigError("config/groups", {
      summary: `Cannot make ${groups} groups: it must be a whole number from 1 up`,
      facts: [["op", "group(ids, groups)"]],
      fix: "pass the number of groups",
      details: { groups },
    });
  }
  const [offsets, order, rank, counts] = applyAll(groupPrimitive, [castTo(ids, "u32")], { groups });
  return { offsets: offsets!, order: order!, rank: rank!, counts: counts! };
}
