/**
 * Comparisons and logic: ops with boolean results, which carry no derivative.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { binaryPrimitive, unaryPrimitive } from "./elementwise.ts";
import { type TensorLike, toTensor, unify } from "./operand.ts";

function comparison(name: string, sign: string, host: (a: number, b: number) => boolean): Primitive {
  return binaryPrimitive({
    name,
    result: "bool",
    host: (a, b) => host(a, b) ? 1 : 0,
    partials: null,
    wgsl: (a, b) => `(${a} ${sign} ${b})`,
  });
}

/** Primitive behind {@linkcode equal}. */
export const equalPrimitive: Primitive = comparison("equal", "==", (a, b) => a === b);
/** Primitive behind {@linkcode notEqual}. */
export const notEqualPrimitive: Primitive = comparison("notEqual", "!=", (a, b) => a !== b);
/** Primitive behind {@linkcode less}. */
export const lessPrimitive: Primitive = comparison("less", "<", (a, b) => a < b);
/** Primitive behind {@linkcode lessEqual}. */
export const lessEqualPrimitive: Primitive = comparison("lessEqual", "<=", (a, b) => a <= b);
/** Primitive behind {@linkcode greater}. */
export const greaterPrimitive: Primitive = comparison("greater", ">", (a, b) => a > b);
/** Primitive behind {@linkcode greaterEqual}. */
export const greaterEqualPrimitive: Primitive = comparison("greaterEqual", ">=", (a, b) => a >= b);

/**
 * Says where two tensors are equal.
 *
 * @returns A bool tensor of the broadcast shape.
 * @throws {ShapeError} If the operands do not broadcast.
 *
 * @example Which elements are two
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { equal, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await equal(tensor([1, 2, 3]), 2).data()], [0, 1, 0]);
 * ```
 */
export function equal(a: TensorLike, b: TensorLike): Tensor {
  return apply(equalPrimitive, unify("equal", a, b));
}

/** Says where two tensors differ, as a bool tensor of the broadcast shape. */
export function notEqual(a: TensorLike, b: TensorLike): Tensor {
  return apply(notEqualPrimitive, unify("notEqual", a, b));
}

/** WGSL orders numbers only, so booleans are compared as 0 and 1. */
function ordered(op: string, a: TensorLike, b: TensorLike): readonly [Tensor, Tensor] {
  const [left, right] = unify(op, a, b);
  return left.dtype === "bool" ? [castTo(left, "u32"), castTo(right, "u32")] : [left, right];
}

/**
 * Says where `a < b`, as a bool tensor of the broadcast shape. False where either is NaN.
 *
 * @example Below zero
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, less, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await less(tensor([-1, 0, 1]), 0).data()], [1, 0, 0]);
 * ```
 */
export function less(a: TensorLike, b: TensorLike): Tensor {
  return apply(lessPrimitive, ordered("less", a, b));
}

/** Says where `a <= b`, as a bool tensor of the broadcast shape. False where either is NaN. */
export function lessEqual(a: TensorLike, b: TensorLike): Tensor {
  return apply(lessEqualPrimitive, ordered("lessEqual", a, b));
}

/** Says where `a > b`, as a bool tensor of the broadcast shape. False where either is NaN. */
export function greater(a: TensorLike, b: TensorLike): Tensor {
  return apply(greaterPrimitive, ordered("greater", a, b));
}

/** Says where `a >= b`, as a bool tensor of the broadcast shape. False where either is NaN. */
export function greaterEqual(a: TensorLike, b: TensorLike): Tensor {
  return apply(greaterEqualPrimitive, ordered("greaterEqual", a, b));
}

/** Primitive behind {@linkcode logicalAnd}. */
export const logicalAndPrimitive: Primitive = comparison("logicalAnd", "&", (a, b) => a !== 0 && b !== 0);
/** Primitive behind {@linkcode logicalOr}. */
export const logicalOrPrimitive: Primitive = comparison("logicalOr", "|", (a, b) => a !== 0 || b !== 0);

/** Primitive behind {@linkcode logicalNot}. */
export const logicalNotPrimitive: Primitive = unaryPrimitive({
  name: "logicalNot",
  result: "bool",
  host: (x) => x === 0 ? 1 : 0,
  partial: null,
  wgsl: (x) => `(!${x})`,
});

function booleans(op: string, a: TensorLike, b: TensorLike): readonly [Tensor, Tensor] {
  return unify(op, castTo(toTensor(a), "bool"), castTo(toTensor(b), "bool"));
}

/** Says where both operands hold; numbers other than 0 count as true. */
export function logicalAnd(a: TensorLike, b: TensorLike): Tensor {
  return apply(logicalAndPrimitive, booleans("logicalAnd", a, b));
}

/** Says where at least one operand holds; numbers other than 0 count as true. */
export function logicalOr(a: TensorLike, b: TensorLike): Tensor {
  return apply(logicalOrPrimitive, booleans("logicalOr", a, b));
}

/** Says where exactly one operand holds; numbers other than 0 count as true. */
export function logicalXor(a: TensorLike, b: TensorLike): Tensor {
  return apply(notEqualPrimitive, booleans("logicalXor", a, b));
}

/** Says where the operand does not hold; numbers other than 0 count as true. */
export function logicalNot(x: Tensor): Tensor {
  return apply(logicalNotPrimitive, [castTo(x, "bool")]);
}
