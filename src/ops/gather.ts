/**
 * Picking elements by index. Indices are clamped: one past the end picks the last element, a negative one the first.
 *
 * @module
 */
import { castTo, fullLike, iota, plus, reshapeTo, times, transposeTo } from "../core/arithmetic.ts";
import type { DType } from "../core/dtype.ts";
import { ShapeError } from "../core/errors.ts";
import { hostMap } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { formatAval, normalizeAxis, sizeOf, stridesOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { pickAlong } from "./along.ts";
import { equal } from "./compare.ts";
import { expectInteger } from "./operand.ts";
import { takeRows } from "./rows.ts";
import { slice } from "./slice.ts";
import { type AxisOptions, broadcastTo, moveAxis, unsqueeze } from "./view.ts";

/** Primitive that brings indices, u32 or i32, into 0..count-1 as u32. */
export const clampIndexPrimitive: Primitive = definePrimitive<{ count: number }>({
  name: "clampIndex",
  kind: "discrete",
  elementwise: true,
  shape: ([indices]) => [{ shape: indices!.shape, dtype: "u32" }],
  host: ([indices], { count }) => [hostMap([indices!], (i) => Math.max(0, Math.min(i, count - 1)), "u32")],
  lower: {
    as: "expr",
    wgsl([indices], { count }, { t, inputs }) {
      const type = inputs[0]!;
      return `${t}(clamp(${indices}, ${type}(0), ${type}(${count - 1})))`;
    },
  },
});

function clampIndex(op: string, x: Tensor, indices: Tensor, axis: number): Tensor {
  expectInteger(op, indices);
  const count = x.shape[axis]!;
  if (count === 0 && indices.size > 0) {
    throw new ShapeError("shape/take", {
      summary: `Cannot pick from ${formatAval(x)}: axis ${axis} is empty`,
      facts: [["op", op]],
      fix: "pick from an axis with elements, or pass no indices",
      details: { op, shape: x.shape, axis },
    });
  }
  return apply(clampIndexPrimitive, [indices], { count: Math.max(1, count) });
}

/**
 * Picks slices along an axis by index, such as rows of an embedding table.
 *
 * The axis of `x` is replaced by the axes of `indices`. Indices are clamped to the axis; the gradient of a repeated
 * index adds up, in a fixed order.
 *
 * @param indices u32 or i32 of any shape.
 * @param options The axis to pick on, the first by default.
 * @throws {ShapeError} If the axis does not exist or is empty.
 * @throws {DTypeError} If the indices are not integers.
 *
 * @example Rows of a table
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, take, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const table = tensor([[1, 2], [3, 4], [5, 6]]);
 * assertEquals([...await take(table, tensor([2, 0], { dtype: "u32" })).data()], [5, 6, 1, 2]);
 * ```
 */
export function take(x: Tensor, indices: Tensor, options: AxisOptions = {}): Tensor {
  const at = normalizeAxis("take", options.axis ?? 0, x.shape.length);
  const taken = takeRows(moveAxis(x, at, 0), clampIndex("take", x, indices, at));
  const rank = indices.shape.length;
  const order = taken.shape.map((_, i) => i < at ? rank + i : i < at + rank ? i - at : i);
  return transposeTo(taken, order);
}

/**
 * Picks elements along an axis, each row by its own indices: `result[i, j] = x[i, indices[i, j]]` on the last axis.
 *
 * @param indices u32 or i32 of the rank of `x`; off the axis, sizes are equal or 1. Clamped to the axis.
 * @param options The axis to pick on, the last by default.
 * @returns The shape of `indices`, stretched to `x` off the axis.
 * @throws {ShapeError} If shapes do not fit or the axis is empty.
 * @throws {DTypeError} If the indices are not integers.
 *
 * @example The score of each label
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, takeAlong, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const scores = tensor([[1, 2, 3], [4, 5, 6]]);
 * assertEquals([...await takeAlong(scores, tensor([[2], [0]], { dtype: "u32" })).data()], [3, 4]);
 * ```
 */
export function takeAlong(x: Tensor, indices: Tensor, options: AxisOptions = {}): Tensor {
  const at = normalizeAxis("takeAlong", options.axis ?? -1, x.shape.length);
  const fits = indices.shape.length === x.shape.length &&
    indices.shape.every((n, i) => i === at || n === x.shape[i] || n === 1);
  if (!fits) {
    throw new ShapeError("shape/take-along", {
      summary: `Cannot pick from ${formatAval(x)} by ${formatAval(indices)} along axis ${at}`,
      facts: [["op", "takeAlong(x, indices, { axis })"]],
      fix: "give indices the rank of x, and off the axis its sizes or 1",
      details: { shape: x.shape, indices: indices.shape, axis: at },
    });
  }
  const places = broadcastTo(clampIndex("takeAlong", x, indices, at), x.shape.with(at, indices.shape[at]!));
  return moveAxis(pickAlong(moveAxis(x, at, -1), moveAxis(places, at, -1)), -1, at);
}

/**
 * Picks by several coordinates at once: the last axis of `indices` names a place on the first axes of `x`.
 *
 * Shapes: x [n1, …, nk, ...R] and indices [...I, k] -> [...I, ...R]. Each coordinate is clamped to its axis.
 *
 * @throws {ShapeError} If `indices` has no axis, or names more coordinates than `x` has axes.
 * @throws {DTypeError} If the indices are not integers.
 *
 * @example Two elements of a matrix
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gather, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const x = tensor([[1, 2], [3, 4]]);
 * assertEquals([...await gather(x, tensor([[0, 1], [1, 0]], { dtype: "u32" })).data()], [2, 3]);
 * ```
 */
export function gather(x: Tensor, indices: Tensor): Tensor {
  const count = indices.shape.at(-1);
  if (count === undefined || count > x.shape.length) {
    throw new ShapeError("shape/gather", {
      summary: `Cannot gather from ${formatAval(x)} by ${formatAval(indices)}: the last axis names ${
        count ?? "no"
      } coordinates`,
      facts: [["op", "gather(x, indices)"]],
      fix: `give between 0 and ${x.shape.length} coordinates on the last axis of indices`,
      details: { shape: x.shape, indices: indices.shape },
    });
  }
  expectInteger("gather", indices);
  const [picked, rest] = [x.shape.slice(0, count), x.shape.slice(count)];
  const places = indices.shape.slice(0, -1);
  const strides = stridesOf(picked);
  // [...I]: the row-major number of the place.
  const rows = picked.map((_, axis) => {
    const coordinate = slice(indices, [...places.map(() => null), axis]);
    return times(clampIndex("gather", x, coordinate, axis), fullLike(places, "u32", strides[axis]!));
  }).reduce(plus, fullLike(places, "u32", 0));
  return takeRows(reshapeTo(x, [sizeOf(picked), ...rest]), rows);
}

/**
 * Marks each index by a 1 on a new last axis; an index outside 0..classes-1 gives a row of zeros.
 *
 * @param indices u32 or i32 of any shape.
 * @throws {DTypeError} If the indices are not integers.
 *
 * @example Two of three classes
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, oneHot, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await oneHot(tensor([2, 0], { dtype: "u32" }), 3).data()], [0, 0, 1, 1, 0, 0]);
 * ```
 */
export function oneHot(indices: Tensor, classes: number, dtype: DType = "f32"): Tensor {
  expectInteger("oneHot", indices);
  const shape = [...indices.shape, classes];
  const numbers = iota(shape, indices.dtype, shape.length - 1);
  return castTo(equal(unsqueeze(indices, -1), numbers), dtype);
}
