/**
 * Choosing between elements by a condition or by bounds.
 *
 * @module
 */
import { broadcastTo, castTo, expectSameAvals, zerosLike } from "../core/arithmetic.ts";
import { hostMap } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { broadcastShapes } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { maximum, minimum } from "./binary.ts";
import { type TensorLike, unify } from "./operand.ts";

/** Primitive behind {@linkcode where}: condition, value where it holds, value elsewhere. */
export const wherePrimitive: Primitive = definePrimitive<null>({
  name: "where",
  kind: "linear",
  shape([condition, a, b]) {
    const { shape, dtype } = expectSameAvals("where", [a!, b!]);
    expectSameAvals("where", [{ shape, dtype: condition!.dtype }, condition!]);
    return [{ shape, dtype }];
  },
  host: ([condition, a, b]) => [hostMap([condition!, a!, b!], (c, x, y) => c !== 0 ? x : y, a!.dtype)],
  transpose([ct], [condition]) {
    const zero = zerosLike(ct!);
    return [null, apply(wherePrimitive, [condition!, ct!, zero]), apply(wherePrimitive, [condition!, zero, ct!])];
  },
  lower: { as: "expr", wgsl: ([condition, a, b]) => `select(${b}, ${a}, ${condition})` },
});

/**
 * Takes `a` where the condition holds and `b` elsewhere, broadcasting all three.
 *
 * The element not taken gets no gradient, but if its own derivative is infinite or NaN there, that NaN stays: choose
 * the input of the dangerous op as well, `where(x > 0, log(where(x > 0, x, 1)), 0)`.
 *
 * @param condition Bool; numbers other than 0 count as true.
 * @throws {ShapeError} If the operands do not broadcast.
 *
 * @example Replacing negative elements
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { greater, init, tensor, where } from "@switchyard/switchyard";
 *
 * await init();
 * const x = tensor([-1, 2]);
 * assertEquals([...await where(greater(x, 0), x, 10).data()], [10, 2]);
 * ```
 */
export function where(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  const [left, right] = unify("where", a, b);
  const shape = broadcastShapes("where", condition.shape, left.shape);
  return apply(wherePrimitive, [
    broadcastTo(castTo(condition, "bool"), shape),
    broadcastTo(left, shape),
    broadcastTo(right, shape),
  ]);
}

/**
 * Limits elements to `low`..`high`. Elements outside get no gradient, those on a bound half of it.
 *
 * @example Keeping scores in range
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { clamp, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await clamp(tensor([-3, 0.5, 3]), -1, 1).data()], [-1, 0.5, 1]);
 * ```
 */
export function clamp(x: Tensor, low: TensorLike, high: TensorLike): Tensor {
  return minimum(maximum(x, low), high);
}
