/**
 * The greatest elements of each row.
 *
 * @module
 */
import { ConfigError, ShapeError } from "../core/errors.ts";
import { computeType } from "../core/arithmetic.ts";
import { hostFill } from "../core/host.ts";
import { type KernelContext, type Operand, wgsl } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { formatAval, sizeOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { pickAlong } from "./along.ts";
import { compareForSort, sortKeyFunction } from "./merge_sort.ts";
import { sliceAxis } from "./slice.ts";
import { argsort } from "./sort.ts";

/** Elements a single invocation keeps in variables; more go through a sort. */
const MAX_KEPT = 16;
/** Row length that a single invocation walks: far below the 65,535 iterations at which a software adapter stops it. */
const MAX_ROW = 16_384;

/** The greatest elements of each row and where they are. */
export interface TopK {
  /** [..., k], greatest first. Differentiable. */
  readonly values: Tensor;
  /** u32 [..., k]: places on the last axis. */
  readonly indices: Tensor;
}

/** Primitive that finds the places of the k greatest elements on the last axis, for small k. */
export const topKPrimitive: Primitive = definePrimitive<{ k: number }>({
  name: "topK",
  kind: "discrete",
  shape: ([x], { k }) => [{ shape: x!.shape.with(-1, k), dtype: "u32" }],
  host([x], { k }) {
    const n = x!.shape.at(-1)!;
    const rows = sizeOf(x!.shape.slice(0, -1));
    const found = Array.from({ length: rows }, (_, row) => {
      const places = Array.from({ length: n }, (_, i) => i);
      places.sort((a, b) => compareForSort(x!.data[row * n + a]!, x!.data[row * n + b]!, "descending") || a - b);
      return places.slice(0, k);
    }).flat();
    return [hostFill({ shape: x!.shape.with(-1, k), dtype: "u32" }, (i) => found[i]!)];
  },
  batch: ([x], _mapped, attrs) => [apply(topKPrimitive, [x!], attrs)],
  lower: { as: "kernel", build: (kernel, { k }) => buildTopK(kernel, k), prologue: [0] },
});

/**
 * One invocation walks one row and keeps the k greatest so far, in order: a greater element moves all after it down.
 * An equal one does not, so ties go to the lowest index. Keys are those of a descending sort, where less is greater.
 */
function buildTopK(kernel: KernelContext, k: number): void {
  const [x] = kernel.inputs as [Operand];
  const [indices] = kernel.outputs as [Operand];
  const n = x.shape.at(-1)!;
  const rows = sizeOf(x.shape.slice(0, -1));
  if (rows * k === 0) return;
  const lanes = n % 4 === 0 ? 4 : 1;
  const slots = Array.from({ length: k }, (_, slot) => slot);
  // The greatest key could belong to an element, so a slot is empty until its place is known.
  const offer = wgsl`fn offer(value: ${computeType(x.dtype)}, place: u32) {
  var key = sort_key(value);
  var origin = place;
  var isTaken = false;
  ${
    slots.map((slot) =>
      `if (isTaken || key < key${slot} || place${slot} == 0xffffffffu) {
    isTaken = true;
    let old_key = key${slot}; key${slot} = key; key = old_key;
    let old_place = place${slot}; place${slot} = origin; origin = old_place;
  }`
    ).join("\n  ")
  }
}`;
  const state = slots.map((slot) =>
    `var<private> key${slot}: u32 = 0xffffffffu;\nvar<private> place${slot}: u32 = 0xffffffffu;`
  ).join("\n");
  kernel.dispatch({
    label: `top ${k}`,
    grid: { threads: rows },
    workgroupSize: [kernel.adapter.software ? 16 : 64, 1, 1],
    reads: [x],
    writes: [indices],
    prelude: () => `${sortKeyFunction(computeType(x.dtype), "descending")}\n${state}\n${offer}`,
    body: (code) =>
      wgsl`
    for (var i = 0u; i < ${n}u; i += ${lanes}u) {
      let value = ${code.load(x, `id * ${n}u + i`, lanes)};
      ${
        lanes === 1
          ? "offer(value, i);"
          : "offer(value.x, i); offer(value.y, i + 1u); offer(value.z, i + 2u); offer(value.w, i + 3u);"
      }
    }
    ${slots.map((slot) => code.store(indices, `id * ${k}u + ${slot}u`, `place${slot}`)).join("\n    ")}`,
  });
}

/**
 * Finds the `k` greatest elements of each row, greatest first.
 *
 * Shapes: x [..., n] -> values and indices [..., k]. Ties go to the lowest index; -Infinity is an element like any
 * other; NaN is taken last. The gradient of `values` goes to the elements taken.
 *
 * @param k Elements to take, 0..n.
 * @throws {ShapeError} If `x` has no axis.
 * @throws {ConfigError} If `k` is not a whole number in 0..n.
 *
 * @example Two of four
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, read, tensor, topK } from "@switchyard/switchyard";
 *
 * await init();
 * const { values, indices } = await read(topK(tensor([1, 4, 4, 2]), 2));
 * assertEquals([...values], [4, 4]);
 * assertEquals([...indices], [1, 2]);
 * ```
 */
export function topK(x: Tensor, k: number): TopK {
  const n = x.shape.at(-1);
  if (n === undefined) {
    throw new ShapeError("shape/top-k", {
      summary: `Cannot take the greatest elements of ${formatAval(x)}: it has no axis`,
      facts: [["op", "topK(x, k)"]],
      fix: "pass a tensor with one axis or more",
    });
  }
  if (!Number.isInteger(k) || k < 0 || k > n) {
    throw new ConfigError("config/top-k", {
      summary: `Cannot take the ${k} greatest of ${n} elements`,
      facts: [["op", "topK(x, k)"], ["x", formatAval(x)]],
      fix: `use a whole number in 0..${n}`,
      details: { shape: x.shape, k },
    });
  }
  const isSmall = k <= MAX_KEPT && n <= MAX_ROW;
  const indices = isSmall
    ? apply(topKPrimitive, [x], { k })
    : sliceAxis(argsort(x, { descending: true }), -1, { stop: k });
  return { values: pickAlong(x, indices), indices };
}
