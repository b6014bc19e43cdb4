/**
 * Powers with exponents that are tensors or numbers.
 *
 * @module
 */
import { fullLike, times } from "../core/arithmetic.ts";
import { isFloat } from "../core/dtype.ts";
import type { Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { sub } from "./binary.ts";
import { equal } from "./compare.ts";
import { binaryPrimitive, functionName, unifyNumbers } from "./elementwise.ts";
import { expectFloat, type TensorLike } from "./operand.ts";
import { where } from "./select.ts";
import { log, reciprocal, rsqrt, sqrt } from "./unary.ts";

/** Primitive behind {@linkcode pow}. */
export const powPrimitive: Primitive = binaryPrimitive({
  name: "pow",
  host: (base, exponent) => base ** exponent,
  partials(base, exponent, y) {
    const isZero = equal(base, 0);
    return [
      // 0 · 0^(-1) would be NaN where the power is constant.
      where(equal(exponent, 0), 0, times(exponent, apply(powPrimitive, [base, sub(exponent, 1)]))),
      where(isZero, 0, times(y, log(where(isZero, 1, base)))),
    ];
  },
  wgsl: (base, exponent, { t }) => `${functionName("power", t)}(${base}, ${exponent})`,
  // WGSL leaves pow of a negative base and of 0^0 open.
  prelude: ({ t }) =>
    `fn ${functionName("power", t)}(base: ${t}, exponent: ${t}) -> ${t} {
  let size = pow(abs(base), exponent);
  let isWhole = exponent == floor(exponent);
  let half = exponent * ${t}(0.5);
  let signed = select(size, -size, isWhole & (half != floor(half)));
  let ofNegative = select(${t}(inf() - inf()), signed, isWhole);
  return select(select(size, ofNegative, base < ${t}(0)), ${t}(1), exponent == ${t}(0));
}`,
  cost: 24,
});

/** Largest whole exponent that is multiplied out: at most six products, each exact to half a unit. */
const LARGEST_PRODUCT = 16;

function wholePower(x: Tensor, exponent: number): Tensor {
  if (exponent === 0) return fullLike(x.shape, x.dtype, 1);
  const half = wholePower(x, Math.floor(exponent / 2));
  const squared = exponent < 2 ? half : times(half, half);
  return exponent % 2 === 0 ? squared : exponent < 2 ? x : times(squared, x);
}

function constantPower(x: Tensor, exponent: number): Tensor | null {
  if (Number.isInteger(exponent) && Math.abs(exponent) <= LARGEST_PRODUCT) {
    if (exponent >= 0) return wholePower(x, exponent);
    return isFloat(x.dtype) ? reciprocal(wholePower(x, -exponent)) : null;
  }
  if (!isFloat(x.dtype)) return null;
  return exponent === 0.5 ? sqrt(x) : exponent === -0.5 ? rsqrt(x) : null;
}

/**
 * Raises `base` to `exponent`. A negative base needs a whole exponent, otherwise the result is NaN; 0 to the 0 is 1.
 *
 * Whole number exponents up to 16 are multiplied out, which is exact for integers and cheaper than the general rule.
 *
 * @throws {DTypeError} If the result is an integer and the exponent is not a number in 0..16.
 *
 * @example Cubes
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, pow, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await pow(tensor([-2, 3]), 3).data()], [-8, 27]);
 * ```
 */
export function pow(base: TensorLike, exponent: TensorLike): Tensor {
  const [left, right] = unifyNumbers("pow", base, exponent);
  const constant = typeof exponent === "number" ? constantPower(left, exponent) : null;
  return constant ?? apply(powPrimitive, [expectFloat("pow", left), right]);
}
