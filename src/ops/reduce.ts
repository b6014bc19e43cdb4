/**
 * Sums, means and other statistics over axes. Extrema, `any` and `all` are in `extremum.ts`.
 *
 * Half precision is accumulated in f32 and rounded once.
 *
 * @module
 */
import {
  castTo,
  expandTo,
  fullLike,
  identityPrimitive,
  reshapeTo,
  sumOver,
  times,
  transposeTo,
  wgslLiteral,
} from "../core/arithmetic.ts";
import { isFloat } from "../core/dtype.ts";
import { stopGradient } from "../core/grad.ts";
import { hostReduce } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { normalizeAxes, sizeOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { add, div, sub } from "./binary.ts";
import { equal } from "./compare.ts";
import { finish, keptShape, laxMaxPrimitive, type ReduceOptions } from "./extremum.ts";
import { inFloat32 } from "./operand.ts";
import { where } from "./select.ts";
import { exp, isFinite, log, square } from "./unary.ts";

/** Booleans are counted, and statistics need fractions. */
function countable(x: Tensor): Tensor {
  return x.dtype === "bool" ? castTo(x, "u32") : x;
}
function fractional(x: Tensor): Tensor {
  return isFloat(x.dtype) ? x : castTo(x, "f32");
}

/**
 * Adds the elements over axes; 0 over an empty axis. Booleans are counted in u32, and integers wrap around.
 *
 * @throws {ShapeError} If an axis does not exist or is named twice.
 *
 * @example All, and by column
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, sum, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const x = tensor([[1, 2], [3, 4]]);
 * assertEquals(await sum(x).item(), 10);
 * assertEquals([...await sum(x, { axis: 0 }).data()], [4, 6]);
 * ```
 */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = normalizeAxes("sum", options.axis, x.shape.length);
  return finish(sumOver(countable(x), axes), x, axes, options);
}

/**
 * Averages the elements over axes. Integers and booleans give f32; over an empty axis the mean is NaN.
 *
 * @throws {ShapeError} If an axis does not exist or is named twice.
 *
 * @example By row, keeping the axis for broadcasting
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, mean, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals(mean(tensor([[1, 2], [3, 4]]), { axis: -1, keepDims: true }).shape, [2, 1]);
 * ```
 */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = normalizeAxes("mean", options.axis, x.shape.length);
  const count = sizeOf(axes.map((axis) => x.shape[axis]!));
  return inFloat32(fractional(x), (wide) => {
    const total = finish(sumOver(wide, axes), x, axes, options);
    return count === 0 ? fullLike(total.shape, total.dtype, NaN) : div(total, count);
  });
}

/** Options of {@linkcode variance}. */
export interface VarianceOptions extends ReduceOptions {
  /** Subtracted from the number of elements in the denominator: 0 by default, 1 for the unbiased estimate. */
  readonly correction?: number;
}

/**
 * The mean squared distance from the mean over axes, computed in two passes so that a large mean costs no accuracy.
 *
 * @example Of a row
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, tensor, variance } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals(await variance(tensor([1, 2, 3, 4])).item(), 1.25);
 * ```
 */
export function variance(x: Tensor, options: VarianceOptions = {}): Tensor {
  const axes = normalizeAxes("variance", options.axis, x.shape.length);
  const count = sizeOf(axes.map((axis) => x.shape[axis]!)) - (options.correction ?? 0);
  return inFloat32(fractional(x), (wide) => {
    const squares = square(sub(wide, mean(wide, { axis: axes, keepDims: true })));
    const total = finish(sumOver(squares, axes), x, axes, options);
    return count <= 0 ? fullLike(total.shape, total.dtype, NaN) : div(total, count);
  });
}

/** Primitive behind {@linkcode prod}. */
export const prodPrimitive: Primitive = definePrimitive<{ axes: readonly number[] }>({
  name: "prod",
  kind: "smooth",
  shape: ([x], { axes }) => [{ shape: x!.shape.filter((_, i) => !axes.includes(i)), dtype: x!.dtype }],
  host([x], { axes }) {
    return [hostReduce(x!, axes, 1, isFloat(x!.dtype) ? (a, b) => a * b : multiplyIntegers(x!.dtype))];
  },
  vjp([ct], [x], _, { axes }) {
    const kept = x!.shape.map((_, i) => i).filter((i) => !axes.includes(i));
    const order = [...kept, ...axes];
    const count = sizeOf(axes.map((axis) => x!.shape[axis]!));
    const rows = reshapeTo(transposeTo(x!, order), [...kept.map((axis) => x!.shape[axis]!), count]); // [..., n]
    const others = productOfOthers(rows, count);
    const pulled = times(expandTo(reshapeTo(ct!, [...ct!.shape, 1]), rows.shape), others); // [..., n]
    const back = reshapeTo(pulled, order.map((axis) => x!.shape[axis]!));
    return [transposeTo(back, order.map((_, axis) => order.indexOf(axis)))];
  },
  batch: ([x], _mapped, { axes }) => [apply(prodPrimitive, [x!], { axes: axes.map((axis) => axis + 1) })],
  lower: {
    as: "reduce",
    axes: ({ axes }) => axes,
    identity: (dtype) => wgslLiteral(1, dtype),
    combine: (a, b) => `(${a} * ${b})`,
  },
});

function multiplyIntegers(dtype: "i32" | "u32" | string): (a: number, b: number) => number {
  return (a, b) => dtype === "u32" ? Math.imul(a, b) >>> 0 : Math.imul(a, b);
}

/**
 * For each element of the last axis, the product of the others. Dividing the product by the element would fail at zeros;
 * this is a product itself, so it is right for any number of zeros and in any order of derivatives.
 */
function productOfOthers(rows: Tensor, count: number): Tensor {
  const square = [...rows.shape, count]; // [..., i, j]: factor j of the product without i
  const factors = expandTo(reshapeTo(rows, [...rows.shape.slice(0, -1), 1, count]), square);
  const isSelf = castTo(apply(identityPrimitive, [], { shape: square, dtype: "u32" }), "bool");
  return apply(prodPrimitive, [where(isSelf, 1, factors)], { axes: [square.length - 1] });
}

/**
 * Multiplies the elements over axes; 1 over an empty axis.
 *
 * Its gradient is right for any number of zeros, at a cost that grows with the square of the number of factors.
 *
 * @throws {ShapeError} If an axis does not exist or is named twice.
 *
 * @example The gradient of a product with a zero
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, init, prod, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await grad((x: Tensor) => prod(x))(tensor([2, 0, 3])).data()], [0, 6, 0]);
 * ```
 */
export function prod(x: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = normalizeAxes("prod", options.axis, x.shape.length);
  if (axes.length === 0) return countable(x);
  return inFloat32(countable(x), (wide) => finish(apply(prodPrimitive, [wide], { axes }), x, axes, options));
}

/**
 * The logarithm of the sum of exponentials over axes, without overflow: the smooth maximum, and the normalizer of
 * softmax. Rows whose elements are all -Infinity (and empty ones) give -Infinity, with a gradient of 0.
 *
 * @throws {ShapeError} If an axis does not exist or is named twice.
 *
 * @example Large elements
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { init, logSumExp, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertAlmostEquals(await logSumExp(tensor([1000, 1000])).item(), 1000 + Math.log(2), 1e-3);
 * ```
 */
export function logSumExp(x: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = normalizeAxes("logSumExp", options.axis, x.shape.length);
  return inFloat32(fractional(x), (wide) => {
    if (axes.length === 0) return wide;
    const largest = apply(laxMaxPrimitive, [stopGradient(wide)], { axes });
    const shift = where(isFinite(largest), largest, 0);
    const shifted = sub(wide, reshapeTo(shift, keptShape(x.shape, axes)));
    const total = sumOver(exp(shifted), axes);
    const isNothing = equal(total, 0);
    // The logarithm's own derivative would be infinite at 0, and NaN times the zeros before it.
    const logarithm = where(isNothing, -Infinity, log(where(isNothing, 1, total)));
    return finish(add(logarithm, shift), x, axes, options);
  });
}
