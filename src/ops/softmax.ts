/**
 * Softmax and its logarithm, with backward passes that need the result and the cotangent only.
 *
 * @module
 */
import { castTo, fullLike, reshapeTo } from "../core/arithmetic.ts";
import { stopGradient } from "../core/grad.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { normalizeAxis } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { div, maximum, mul, sub } from "./binary.ts";
import { equal } from "./compare.ts";
import { laxMaxPrimitive } from "./extremum.ts";
import { expectFloat } from "./operand.ts";
import { sum } from "./reduce.ts";
import { where } from "./select.ts";
import { exp, log } from "./unary.ts";

/** A sum of exponentials is at least 1, but where everything is masked it is 0; this keeps 0/0 and log 0 away. */
const SMALLEST_SUM = 2 ** -126;

interface SoftmaxAttrs {
  readonly axis: number;
}

/** x minus its maximum along an axis, and the sum of the exponentials of that. */
function shifted(x: Tensor, axis: number): { readonly difference: Tensor; readonly total: Tensor } {
  const kept = x.shape.with(axis, 1);
  const top = reshapeTo(apply(laxMaxPrimitive, [stopGradient(x)], { axes: [axis] }), kept);
  // Where all are masked, the maximum is -∞ and -∞ - (-∞) would be NaN.
  const shift = where(equal(top, fullLike(top.shape, top.dtype, -Infinity)), 0, top);
  const difference = sub(x, shift);
  return { difference, total: maximum(sum(exp(difference), { axis, keepDims: true }), SMALLEST_SUM) };
}

/** Primitive behind {@linkcode softmax}, for f32. */
export const softmaxPrimitive: Primitive = definePrimitive<SoftmaxAttrs>({
  name: "softmax",
  kind: "composite",
  shape: ([x]) => [x!],
  expand([x], { axis }) {
    const { difference, total } = shifted(x!, axis);
    // One division for a row.
    return [mul(exp(difference), div(1, total))];
  },
  vjp([ct], _, [y], { axis }) {
    const weighted = mul(ct!, y!);
    return [sub(weighted, mul(y!, sum(weighted, { axis, keepDims: true })))];
  },
  batch: ([x], _mapped, { axis }) => [apply(softmaxPrimitive, [x!], { axis: axis + 1 })],
  lower: { as: "inline" },
});

/** Primitive behind {@linkcode logSoftmax}, for f32. */
export const logSoftmaxPrimitive: Primitive = definePrimitive<SoftmaxAttrs>({
  name: "logSoftmax",
  kind: "composite",
  shape: ([x]) => [x!],
  expand([x], { axis }) {
    const { difference, total } = shifted(x!, axis);
    return [sub(difference, log(total))];
  },
  vjp: ([ct], _, [y], { axis }) => [sub(ct!, mul(exp(y!), sum(ct!, { axis, keepDims: true })))],
  batch: ([x], _mapped, { axis }) => [apply(logSoftmaxPrimitive, [x!], { axis: axis + 1 })],
  lower: { as: "inline" },
});

/** Options of {@linkcode softmax} and {@linkcode logSoftmax}. */
export interface SoftmaxOptions {
  /** The axis along which the result sums to 1, the last by default. */
  readonly axis?: number;
}

function alongAxis(primitive: Primitive, x: Tensor, { axis = -1 }: SoftmaxOptions): Tensor {
  const at = normalizeAxis(primitive.name, axis, expectFloat(primitive.name, x).shape.length);
  return castTo(apply(primitive, [castTo(x, "f32")], { axis: at }), x.dtype);
}

/**
 * Exponentials divided by their sum along an axis. Computed in f32 for every float type, without overflow.
 *
 * Elements of -Infinity (masked) get 0. Where a whole row is masked the result is 0, not NaN, and so is its gradient.
 *
 * @returns A tensor like `x`.
 * @throws {ShapeError} If the axis does not exist.
 * @throws {DTypeError} If `x` is not a float tensor.
 *
 * @example Equal scores share equally
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, softmax, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await softmax(tensor([5, 5, -Infinity])).data()], [0.5, 0.5, 0]);
 * ```
 */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  return alongAxis(softmaxPrimitive, x, options);
}

/**
 * The logarithm of {@linkcode softmax}, exact where the softmax itself would round to 0.
 *
 * Elements of -Infinity stay so; where a whole row is masked, all of it is -Infinity.
 *
 * @returns A tensor like `x`.
 * @throws {ShapeError} If the axis does not exist.
 * @throws {DTypeError} If `x` is not a float tensor.
 *
 * @example Far apart scores
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, logSoftmax, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await logSoftmax(tensor([1000, 0])).data()], [0, -1000]);
 * ```
 */
export function logSoftmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  return alongAxis(logSoftmaxPrimitive, x, options);
}
