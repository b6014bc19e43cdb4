/**
 * Bits of integer tensors: what counter-based random numbers and packed masks are made of. No derivatives.
 *
 * @module
 */
import type { DType } from "../core/dtype.ts";
import type { Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { binaryPrimitive, bitsType, unaryPrimitive, unifyIntegers } from "./elementwise.ts";
import { expectInteger, type TensorLike } from "./operand.ts";

function bitwise(name: string, sign: string, host: (a: number, b: number, dtype: DType) => number): Primitive {
  return binaryPrimitive({
    name,
    host,
    partials: null,
    wgsl(a, b, { t }) {
      const isShift = sign === "<<" || sign === ">>";
      // A shift counts in u32, and WGSL rejects constants past 31 unless they are masked.
      return isShift ? `(${a} ${sign} (${bitsType(t)}(${b}) & ${bitsType(t)}(31u)))` : `(${a} ${sign} ${b})`;
    },
  });
}

/** Primitive behind {@linkcode bitwiseAnd}. */
export const bitwiseAndPrimitive: Primitive = bitwise("bitwiseAnd", "&", (a, b) => a & b);
/** Primitive behind {@linkcode bitwiseOr}. */
export const bitwiseOrPrimitive: Primitive = bitwise("bitwiseOr", "|", (a, b) => a | b);
/** Primitive behind {@linkcode bitwiseXor}. */
export const bitwiseXorPrimitive: Primitive = bitwise("bitwiseXor", "^", (a, b) => a ^ b);
/** Primitive behind {@linkcode shiftLeft}. */
export const shiftLeftPrimitive: Primitive = bitwise("shiftLeft", "<<", (a, b) => a << b);
/** Primitive behind {@linkcode shiftRight}. */
export const shiftRightPrimitive: Primitive = bitwise(
  "shiftRight",
  ">>",
  (a, b, dtype) => dtype === "u32" ? a >>> b : a >> b,
);
/** Primitive behind {@linkcode bitwiseNot}. */
export const bitwiseNotPrimitive: Primitive = unaryPrimitive({
  name: "bitwiseNot",
  host: (x) => ~x,
  partial: null,
  wgsl: (x) => `(~${x})`,
});

/**
 * Bits set in both operands.
 *
 * @throws {DTypeError} If an operand is a float.
 *
 * @example The lowest two bits
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { arange, bitwiseAnd, init } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await bitwiseAnd(arange(6), 3).data()], [0, 1, 2, 3, 0, 1]);
 * ```
 */
export function bitwiseAnd(a: TensorLike, b: TensorLike): Tensor {
  return apply(bitwiseAndPrimitive, unifyIntegers("bitwiseAnd", a, b));
}

/** Bits set in at least one operand. */
export function bitwiseOr(a: TensorLike, b: TensorLike): Tensor {
  return apply(bitwiseOrPrimitive, unifyIntegers("bitwiseOr", a, b));
}

/** Bits set in exactly one operand. */
export function bitwiseXor(a: TensorLike, b: TensorLike): Tensor {
  return apply(bitwiseXorPrimitive, unifyIntegers("bitwiseXor", a, b));
}

/** Every bit flipped. */
export function bitwiseNot(x: Tensor): Tensor {
  return apply(bitwiseNotPrimitive, [expectInteger("bitwiseNot", x)]);
}

/** Bits of `x` moved up by `count` places, taken modulo 32. */
export function shiftLeft(x: TensorLike, count: TensorLike): Tensor {
  return apply(shiftLeftPrimitive, unifyIntegers("shiftLeft", x, count));
}

/** Bits of `x` moved down by `count` places, taken modulo 32; i32 keeps its sign. */
export function shiftRight(x: TensorLike, count: TensorLike): Tensor {
  return apply(shiftRightPrimitive, unifyIntegers("shiftRight", x, count));
}
