/**
 * Sorting along an axis.
 *
 * @module
 */
import { hostFill } from "../core/host.ts";
import type { Operand } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { normalizeAxis } from "../core/shape.ts";
import { apply, applyAll, type Tensor } from "../core/tensor.ts";
import { pickAlong } from "./along.ts";
import { buildMergeSort, compareForSort, type SortOrder } from "./merge_sort.ts";
import { moveAxis } from "./view.ts";

/** Options of {@linkcode sort} and {@linkcode argsort}. */
export interface SortOptions {
  /** Axis to sort on, the last by default. */
  readonly axis?: number;
  /** Whether the greatest element comes first. Equal elements keep their order and NaN comes last in any case. */
  readonly descending?: boolean;
}

interface SortAttrs {
  readonly order: SortOrder;
}

/** Primitive behind {@linkcode argsort}, along the last axis. */
export const argsortPrimitive: Primitive = definePrimitive<SortAttrs>({
  name: "argsort",
  kind: "discrete",
  shape: ([x]) => [{ shape: x!.shape, dtype: "u32" }],
  host([x], { order }) {
    const n = x!.shape.at(-1)!;
    const places = new Float64Array(x!.data.length);
    for (let row = 0; row < places.length; row += n) {
      const sorted = Array.from({ length: n }, (_, i) => i);
      sorted.sort((a, b) => compareForSort(x!.data[row + a]!, x!.data[row + b]!, order) || a - b);
      places.set(sorted, row);
    }
    return [hostFill({ shape: x!.shape, dtype: "u32" }, (i) => places[i]!)];
  },
  batch: ([x], _mapped, attrs) => [apply(argsortPrimitive, [x!], attrs)],
  lower: {
    as: "kernel",
    build(kernel, { order }) {
      const [x] = kernel.inputs as [Operand];
      const [places] = kernel.outputs as [Operand];
      const length = x.shape.at(-1)!;
      if (x.shape.includes(0)) return;
      buildMergeSort(kernel, x, length, order, places);
    },
  },
});

/** Primitive behind {@linkcode sort}: values along the last axis and where they came from. */
export const sortPrimitive: Primitive = definePrimitive<SortAttrs>({
  name: "sort",
  kind: "composite",
  shape: ([x]) => [x!, { shape: x!.shape, dtype: "u32" }],
  expand([x], attrs) {
    const places = apply(argsortPrimitive, [x!], attrs);
    return [pickAlong(x!, places), places];
  },
  // The places are a permutation: sorting them inverts it, which beats adding up rows of any length.
  vjp: ([ct], _inputs, [, places]) => [
    pickAlong(ct!, apply(argsortPrimitive, [places!], { order: "ascending" })),
  ],
  lower: { as: "inline" },
});

function sortLast(op: string, x: Tensor, { axis = -1, descending = false }: SortOptions): {
  readonly at: number;
  readonly moved: Tensor;
  readonly attrs: SortAttrs;
} {
  const at = normalizeAxis(op, axis, x.shape.length);
  return { at, moved: moveAxis(x, at, -1), attrs: { order: descending ? "descending" : "ascending" } };
}

/**
 * Sorts along an axis; any length, any type. NaN comes last, -0 equals 0.
 *
 * The gradient goes back to where each element came from; among equal elements it follows the stable order.
 *
 * @throws {ShapeError} If the axis does not exist.
 *
 * @example Greatest first
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, sort, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await sort(tensor([2, 3, 1]), { descending: true }).data()], [3, 2, 1]);
 * ```
 */
export function sort(x: Tensor, options: SortOptions = {}): Tensor {
  const { at, moved, attrs } = sortLast("sort", x, options);
  return moveAxis(applyAll(sortPrimitive, [moved], attrs)[0]!, -1, at);
}

/**
 * The places of the elements in sorted order, u32: `takeAlong(x, argsort(x))` is `sort(x)`. Stable in both directions.
 *
 * @throws {ShapeError} If the axis does not exist.
 *
 * @example Where the smallest elements are
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { argsort, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await argsort(tensor([2, 3, 1])).data()], [2, 0, 1]);
 * ```
 */
export function argsort(x: Tensor, options: SortOptions = {}): Tensor {
  const { at, moved, attrs } = sortLast("argsort", x, options);
  return moveAxis(apply(argsortPrimitive, [moved], attrs), -1, at);
}
