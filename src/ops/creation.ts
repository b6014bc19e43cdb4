/**
 * Making tensors from numbers.
 *
 * @module
 */
import { fullLike, identityPrimitive, iota, plus, times } from "../core/arithmetic.ts";
import { type DType, hostArrayFor, type HostData, isFloat, roundTo } from "../core/dtype.ts";
import { ShapeError } from "../core/errors.ts";
import { expectShape, type Shape, sizeOf } from "../core/shape.ts";
import { apply, fromHost, type Tensor } from "../core/tensor.ts";

/** Numbers or booleans nested in arrays, one level for each axis. */
export type Nested = number | boolean | readonly Nested[];

/** Options of the functions that make tensors. */
export interface CreationOptions {
  /** Element type, f32 by default (bool for booleans, and the array's own type for typed arrays). */
  readonly dtype?: DType;
}

/** Options of {@linkcode tensor}. */
export interface TensorOptions extends CreationOptions {
  /** Shape of the elements of a typed or flat array; by default the nesting, or one axis. */
  readonly shape?: Shape;
}

function dtypeOf(values: Nested | HostData): DType {
  if (values instanceof Int32Array) return "i32";
  if (values instanceof Uint32Array || values instanceof Uint8Array) return "u32";
  let first: Nested | HostData | undefined = values;
  while (Array.isArray(first)) first = first[0];
  return typeof first === "boolean" ? "bool" : "f32";
}

function nestedShape(values: Nested): Shape {
  const shape: number[] = [];
  for (let at: Nested = values; Array.isArray(at); at = at[0] as Nested) {
    shape.push(at.length);
    if (at.length === 0) break;
  }
  function check(at: Nested, depth: number): void {
    const isArray = Array.isArray(at);
    if (isArray !== (depth < shape.length) || (isArray && at.length !== shape[depth])) {
      throw new ShapeError("shape/ragged", {
        summary: `Cannot make a tensor: nested arrays are ragged at depth ${depth}, expected ${
          depth < shape.length ? `${shape[depth]} entries` : "a number"
        }, found ${isArray ? `${at.length} entries` : typeof at}`,
        facts: [["op", "tensor(values)"]],
        fix: "give every row the same length",
      });
    }
    if (isArray) { for (const item of at) check(item, depth + 1); }
  }
  check(values, 0);
  return shape;
}

/**
 * Makes a tensor from a number, nested arrays or a typed array (which is copied).
 *
 * @throws {ShapeError} If nested arrays are ragged, or the elements do not fill `shape`.
 *
 * @example From nested arrays
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "@switchyard/switchyard";
 *
 * assertEquals(tensor([[1, 2, 3], [4, 5, 6]]).shape, [2, 3]);
 * ```
 */
export function tensor(values: Nested | HostData, options: TensorOptions = {}): Tensor {
  const dtype = options.dtype ?? dtypeOf(values);
  const typed = ArrayBuffer.isView(values);
  const found: Shape = typed ? [values.length] : nestedShape(values);
  const flat = typed ? values : ([values] as unknown[]).flat(Infinity as 1) as (number | boolean)[];
  const shape = options.shape ?? found;
  expectShape("tensor", shape);
  if (flat.length !== sizeOf(shape)) {
    throw new ShapeError("shape/elements", {
      summary: `Cannot make a tensor of shape [${shape.join(", ")}] from ${flat.length} elements: it has ${
        sizeOf(shape)
      }`,
      facts: [["op", "tensor(values, { shape })"]],
      fix: "give exactly as many elements as the shape has",
    });
  }
  // Float64 stays as it is on the host: the oracle computes in float64, and the device rounds at upload.
  const data = isFloat(dtype) && values instanceof Float64Array ? values.slice() : hostArrayFor(dtype, flat.length);
  if (!(data instanceof Float64Array)) {
    const isWide = dtype === "f32";
    for (let i = 0; i < flat.length; i++) data[i] = isWide ? Number(flat[i]) : roundTo(dtype, Number(flat[i]));
  }
  return fromHost({ shape, dtype }, data);
}

/** A tensor without axes. What changes from step to step (a learning rate) is passed to a jitted function this way. */
export function scalar(value: number, { dtype = "f32" }: CreationOptions = {}): Tensor {
  return tensor(value, { dtype });
}

/** A tensor whose elements are all `value`. */
export function full(shape: Shape, value: number, { dtype = "f32" }: CreationOptions = {}): Tensor {
  expectShape("full", shape);
  return fullLike(shape, dtype, value);
}

/** Zeros. */
export function zeros(shape: Shape, options: CreationOptions = {}): Tensor {
  return full(shape, 0, options);
}

/** Ones. */
export function ones(shape: Shape, options: CreationOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** The integers 0..count-1 along one axis, u32 by default. */
export function arange(count: number, { dtype = "u32" }: CreationOptions = {}): Tensor {
  expectShape("arange", [count]);
  return iota([count], dtype, 0);
}

/** `count` evenly spaced numbers from `start` to `stop`, both included. */
export function linspace(start: number, stop: number, count: number): Tensor {
  expectShape("linspace", [count]);
  const step = count > 1 ? (stop - start) / (count - 1) : 0;
  return plus(times(iota([count], "f32", 0), fullLike([count], "f32", step)), fullLike([count], "f32", start));
}

/** The identity matrix, `[size, size]`. */
export function eye(size: number, { dtype = "f32" }: CreationOptions = {}): Tensor {
  expectShape("eye", [size]);
  return apply(identityPrimitive, [], { shape: [size, size], dtype });
}
