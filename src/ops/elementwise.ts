/**
 * Builders for elementwise primitives: an op is a row that says what it computes on the host, its derivative, its WGSL
 * and its cost.
 *
 * @module
 */
import { expectSameAvals } from "../core/arithmetic.ts";
import { type DType, isFloat } from "../core/dtype.ts";
import { DTypeError } from "../core/errors.ts";
import { hostMap } from "../core/host.ts";
import type { ExprWidth } from "../core/kernel.ts";
import { definePrimitive, type Derivative, type MaybeTensors, type Primitive } from "../core/primitive.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { type TensorLike, unify } from "./operand.ts";

/** What elementwise rows have in common. */
interface Row {
  /** Name of the op. */
  readonly name: string;
  /** Type of the result, that of the inputs by default. */
  readonly result?: DType;
  /** WGSL functions the expression calls; their names must differ between widths and types. */
  prelude?(width: ExprWidth): string;
  /** Rough cost in additions, 1 by default. */
  readonly cost?: number;
}

/** An op of one tensor. */
export interface UnaryRow extends Row {
  /** Meaning in float64. */
  host(x: number): number;
  /** ∂y/∂x in differentiable ops; null where it is zero everywhere. */
  readonly partial: ((x: Tensor, y: Tensor) => Tensor) | null;
  /** WGSL expression of the argument, for scalars and vec4 alike. */
  wgsl(x: string, width: ExprWidth): string;
}

/** An op of two tensors of equal shape and type. */
export interface BinaryRow extends Row {
  /** Meaning in float64; integer results wrap. `dtype` is that of the operands. */
  host(a: number, b: number, dtype: DType): number;
  /** ∂y/∂a and ∂y/∂b; null for ops without derivative. */
  readonly partials: ((a: Tensor, b: Tensor, y: Tensor) => MaybeTensors) | null;
  /** WGSL expression of the arguments, for scalars and vec4 alike. */
  wgsl(a: string, b: string, width: ExprWidth): string;
}

function derivativeOf(partials: ((inputs: readonly Tensor[], y: Tensor) => MaybeTensors) | null): Derivative<null> {
  return partials === null ? { kind: "discrete", elementwise: true } : { kind: "elementwise", partials };
}

/** Makes the primitive of a unary row. */
export function unaryPrimitive(row: UnaryRow): Primitive {
  const { name, partial, prelude, cost } = row;
  return definePrimitive<null>({
    name,
    ...derivativeOf(partial && (([x], y) => [partial(x!, y)])),
    shape: ([x]) => [{ shape: x!.shape, dtype: row.result ?? x!.dtype }],
    host: ([x]) => [hostMap([x!], (value) => row.host(value), row.result ?? x!.dtype)],
    lower: {
      as: "expr",
      wgsl: ([x], _, width) => row.wgsl(x!, width),
      ...(prelude && { prelude }),
      ...(cost !== undefined && { cost }),
    },
  });
}

/** Makes the primitive of a binary row. */
export function binaryPrimitive(row: BinaryRow): Primitive {
  const { name, partials, prelude, cost } = row;
  return definePrimitive<null>({
    name,
    ...derivativeOf(partials && (([a, b], y) => partials(a!, b!, y))),
    shape(inputs) {
      const { shape, dtype } = expectSameAvals(name, inputs);
      return [{ shape, dtype: row.result ?? dtype }];
    },
    host: ([a, b]) => [hostMap([a!, b!], (x, y) => row.host(x, y, a!.dtype), row.result ?? a!.dtype)],
    lower: {
      as: "expr",
      wgsl: ([a, b], _, width) => row.wgsl(a!, b!, width),
      ...(prelude && { prelude }),
      ...(cost !== undefined && { cost }),
    },
  });
}

/** Name of a WGSL function for one width and type, such as `tanh_vec4_f32`. */
export function functionName(base: string, t: string): string {
  return `${base}_${t.replace("<", "_").replace(">", "")}`;
}

/** WGSL type of the u32 of the same width as a type. */
export function bitsType(t: string): string {
  return t.startsWith("vec4") ? "vec4<u32>" : "u32";
}

/** WGSL test for NaN by its bits: comparing a value with itself is not reliable in WGSL. */
export function wgslIsNaN(x: string, t: string): string {
  const bits = bitsType(t);
  return `((bitcast<${bits}>(${x}) & ${bits}(0x7fffffffu)) > ${bits}(0x7f800000u))`;
}

/** Says whether a WGSL type holds floats. */
export function isFloatType(t: string): boolean {
  return t.includes("f32");
}

/** Horner's scheme in WGSL, highest power first. */
export function wgslPolynomial(x: string, coefficients: readonly number[], t: string): string {
  const [first, ...rest] = coefficients.map((coefficient) => `${t}(${wgslNumber(coefficient)})`);
  return rest.reduce((sum, coefficient) => `(${sum} * ${x} + ${coefficient})`, first!);
}

/** A finite number as a WGSL literal without a type. */
export function wgslNumber(value: number): string {
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/**
 * Brings two operands of an arithmetic op to one shape and type.
 *
 * @throws {ShapeError} If they do not broadcast.
 * @throws {DTypeError} If both are boolean.
 */
export function unifyNumbers(op: string, a: TensorLike, b: TensorLike): readonly [Tensor, Tensor] {
  const [left, right] = unify(op, a, b);
  if (left.dtype === "bool") {
    throw new DTypeError("dtype/numeric", {
      summary: `Cannot apply ${op} to two boolean tensors, ${formatAval(left)} after broadcasting`,
      facts: [["op", op]],
      fix: `use logicalAnd, logicalOr or logicalXor, or cast to "u32" first`,
      details: { op },
    });
  }
  return [left, right];
}

/**
 * Brings two operands to one shape and integer type.
 *
 * @throws {ShapeError} If they do not broadcast.
 * @throws {DTypeError} If one of them is a float, or both are boolean.
 */
export function unifyIntegers(op: string, a: TensorLike, b: TensorLike): readonly [Tensor, Tensor] {
  const [left, right] = unifyNumbers(op, a, b);
  if (isFloat(left.dtype)) {
    throw new DTypeError("dtype/integer", {
      summary: `Cannot apply ${op} to ${formatAval(left)}: it needs u32 or i32`,
      facts: [["op", op]],
      fix: `cast it first: cast(x, "u32")`,
      details: { op, dtype: left.dtype },
    });
  }
  return [left, right];
}
