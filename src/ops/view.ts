/**
 * Changes of shape that move no element: reshaping, reordering axes, adding and removing axes of size 1, stretching
 * them. Picking and padding elements is in `slice.ts`.
 *
 * @module
 */
import { broadcastTo as stretchTo, reshapeTo, transposeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import { expectShape, formatAval, normalizeAxes, normalizeAxis, type Shape, sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";

/** Options of ops along one axis. */
export interface AxisOptions {
  /** Number of the axis; negative counts from the end. */
  readonly axis?: number;
}

/** Options of ops along one axis or several. */
export interface AxesOptions {
  /** Numbers of the axes; negative ones count from the end. All that qualify by default. */
  readonly axis?: number | readonly number[];
}

/**
 * Gives a tensor another shape; its elements stay in row-major order.
 *
 * @param shape The new sizes. One of them may be -1: it follows from the others.
 * @throws {ShapeError} If the number of elements would change, or two sizes are -1.
 *
 * @example Letting the first size follow
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { arange, reshape } from "@switchyard/switchyard";
 *
 * assertEquals(reshape(arange(12), [-1, 4]).shape, [3, 4]);
 * ```
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const open = shape.indexOf(-1);
  if (open < 0) {
    expectShape("reshape", shape);
    return reshapeTo(x, shape);
  }
  const known = sizeOf(shape.toSpliced(open, 1));
  if (shape.lastIndexOf(-1) !== open || known === 0 || x.size % known !== 0) {
    throw new ShapeError("shape/reshape", {
      summary: `Cannot reshape ${formatAval(x)} to [${shape.join(", ")}]: no single size makes ${x.size} elements`,
      facts: [["op", "reshape(x, shape)"]],
      fix: "use -1 once, beside sizes whose product divides the number of elements",
      details: { from: x.shape, to: shape },
    });
  }
  const filled = shape.with(open, x.size / known);
  expectShape("reshape", filled);
  return reshapeTo(x, filled);
}

/**
 * Reorders the axes: axis `i` of the result is axis `order[i]` of the input.
 *
 * @param order Every axis once; negative axes count from the end. Reversed order by default.
 * @throws {ShapeError} If an axis is missing, named twice or does not exist.
 *
 * @example A matrix transposed
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, tensor, transpose } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await transpose(tensor([[1, 2, 3], [4, 5, 6]])).data()], [1, 4, 2, 5, 3, 6]);
 * ```
 */
export function transpose(x: Tensor, order?: readonly number[]): Tensor {
  const rank = x.shape.length;
  const axes = order === undefined
    ? x.shape.map((_, axis) => rank - 1 - axis)
    : order.map((axis) => normalizeAxis("transpose", axis, rank));
  if (normalizeAxes("transpose", axes, rank).length !== rank) {
    throw new ShapeError("shape/transpose", {
      summary: `Cannot transpose ${formatAval(x)} to order [${axes.join(", ")}]: it has ${rank} axes`,
      facts: [["op", "transpose(x, order)"]],
      fix: "name every axis once",
      details: { shape: x.shape, order: axes },
    });
  }
  return transposeTo(x, axes);
}

/**
 * Exchanges two axes.
 *
 * @throws {ShapeError} If an axis does not exist.
 */
export function swapAxes(x: Tensor, first: number, second: number): Tensor {
  const rank = x.shape.length;
  const a = normalizeAxis("swapAxes", first, rank);
  const b = normalizeAxis("swapAxes", second, rank);
  return transposeTo(x, x.shape.map((_, axis) => axis === a ? b : axis === b ? a : axis));
}

/**
 * Moves one axis to another place; the others keep their order.
 *
 * @throws {ShapeError} If an axis does not exist.
 */
export function moveAxis(x: Tensor, from: number, to: number): Tensor {
  const rank = x.shape.length;
  const source = normalizeAxis("moveAxis", from, rank);
  const rest = x.shape.map((_, axis) => axis).filter((axis) => axis !== source);
  return transposeTo(x, rest.toSpliced(normalizeAxis("moveAxis", to, rank), 0, source));
}

/**
 * Repeats a tensor along axes of size 1 and new leading axes until it has a shape.
 *
 * @throws {ShapeError} If an axis has neither size 1 nor the size asked for, or the rank would shrink.
 *
 * @example A row repeated
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { broadcastTo, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await broadcastTo(tensor([1, 2]), [2, 2]).data()], [1, 2, 1, 2]);
 * ```
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  expectShape("broadcastTo", shape);
  const lead = shape.length - x.shape.length;
  if (lead < 0 || x.shape.some((n, axis) => n !== 1 && n !== shape[lead + axis])) {
    throw new ShapeError("shape/broadcast", {
      summary: `Cannot broadcast ${formatAval(x)} to [${shape.join(", ")}]: only axes of size 1 stretch`,
      facts: [["op", "broadcastTo(x, shape)"]],
      fix: "make each size equal or 1, aligned at the last axis",
      details: { from: x.shape, to: shape },
    });
  }
  return stretchTo(x, shape);
}

/**
 * Drops axes of size 1: those named, or all.
 *
 * @throws {ShapeError} If a named axis has another size.
 */
export function squeeze(x: Tensor, { axis }: AxesOptions = {}): Tensor {
  const dropped = axis === undefined
    ? x.shape.flatMap((n, i) => n === 1 ? [i] : [])
    : normalizeAxes("squeeze", axis, x.shape.length);
  const wide = dropped.find((i) => x.shape[i] !== 1);
  if (wide !== undefined) {
    throw new ShapeError("shape/squeeze", {
      summary: `Cannot squeeze axis ${wide} of ${formatAval(x)}: its size is ${x.shape[wide]}`,
      facts: [["op", "squeeze(x, { axis })"]],
      fix: "squeeze axes of size 1 only",
      details: { shape: x.shape, axis: wide },
    });
  }
  return reshapeTo(x, x.shape.filter((_, i) => !dropped.includes(i)));
}

/**
 * Adds axes of size 1.
 *
 * @param axis Where they are in the result; negative axes count from its end.
 * @throws {ShapeError} If the result has no such axis, or one is named twice.
 *
 * @example A vector as a column
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { arange, unsqueeze } from "@switchyard/switchyard";
 *
 * assertEquals(unsqueeze(arange(3), -1).shape, [3, 1]);
 * ```
 */
export function unsqueeze(x: Tensor, axis: number | readonly number[]): Tensor {
  const added = typeof axis === "number" ? 1 : axis.length;
  const axes = normalizeAxes("unsqueeze", axis, x.shape.length + added);
  const shape = [...x.shape];
  for (const at of axes) shape.splice(at, 0, 1);
  return reshapeTo(x, shape);
}
