/**
 * How public ops take their operands: numbers beside tensors, broadcasting, promotion, and half precision computed in f32.
 *
 * @module
 */
import { broadcastTo, castTo, fullLike } from "../core/arithmetic.ts";
import { bytesPerElement, type DType, isFloat, promote } from "../core/dtype.ts";
import { DTypeError } from "../core/errors.ts";
import { broadcastShapes, formatAval } from "../core/shape.ts";
import { Tensor } from "../core/tensor.ts";

/** A tensor, or a plain number or boolean that takes the type of the tensor beside it. */
export type TensorLike = Tensor | number | boolean;

/**
 * Turns an operand into a tensor.
 *
 * @param beside Type of the other operand. A fraction beside an integer becomes f32.
 */
export function toTensor(x: TensorLike, beside?: DType): Tensor {
  if (x instanceof Tensor) return x;
  if (typeof x === "boolean") return fullLike([], "bool", x ? 1 : 0);
  if (beside === undefined || (!isFloat(beside) && !Number.isInteger(x))) return fullLike([], "f32", x);
  return fullLike([], beside === "bool" ? "i32" : beside, x);
}

/**
 * Brings two operands to one shape and type.
 *
 * @throws {ShapeError} If they do not broadcast.
 */
export function unify(op: string, a: TensorLike, b: TensorLike): readonly [Tensor, Tensor] {
  const left = toTensor(a, b instanceof Tensor ? b.dtype : undefined);
  const right = toTensor(b, left.dtype);
  const dtype = promote(left.dtype, right.dtype);
  const shape = broadcastShapes(op, left.shape, right.shape);
  return [broadcastTo(castTo(left, dtype), shape), broadcastTo(castTo(right, dtype), shape)];
}

/**
 * Checks that an operand is a float tensor.
 *
 * @throws {DTypeError} If it is not.
 */
export function expectFloat(op: string, x: Tensor): Tensor {
  if (isFloat(x.dtype)) return x;
  throw new DTypeError("dtype/float", {
    summary: `Cannot apply ${op} to ${formatAval(x)}: it needs a float tensor`,
    facts: [["op", op]],
    fix: `cast it first: cast(x, "f32")`,
    details: { op, dtype: x.dtype },
  });
}

/**
 * Checks that an operand holds integers (for indices).
 *
 * @throws {DTypeError} If it does not.
 */
export function expectInteger(op: string, x: Tensor): Tensor {
  if (x.dtype === "u32" || x.dtype === "i32") return x;
  throw new DTypeError("dtype/integer", {
    summary: `Cannot use ${formatAval(x)} as indices in ${op}: it needs u32 or i32`,
    facts: [["op", op]],
    fix: `cast it first: cast(x, "u32")`,
    details: { op, dtype: x.dtype },
  });
}

/** Computes in f32 what has half-precision operands, and rounds the result once. */
export function inFloat32(x: Tensor, compute: (wide: Tensor) => Tensor): Tensor {
  return isFloat(x.dtype) && bytesPerElement(x.dtype) === 2 ? castTo(compute(castTo(x, "f32")), x.dtype) : compute(x);
}
