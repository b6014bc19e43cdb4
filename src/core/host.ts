/**
 * Small tools for writing host rules: float64 arrays with shapes.
 *
 * @module
 */
import type { DType } from "./dtype.ts";
import { isFloat, roundTo } from "./dtype.ts";
import type { HostArray } from "./primitive.ts";
import { type Aval, type Shape, sizeOf, stridesOf } from "./shape.ts";

/** An array of a shape whose elements come from their linear index. */
export function hostFill(aval: Aval, element: (index: number) => number): HostArray {
  const data = new Float64Array(sizeOf(aval.shape));
  for (let i = 0; i < data.length; i++) data[i] = element(i);
  return { shape: aval.shape, dtype: aval.dtype, data };
}

/** Applies a function element by element; inputs have equal shapes. Integer results wrap to `dtype`. */
export function hostMap(
  inputs: readonly HostArray[],
  f: (...values: number[]) => number,
  dtype: DType = inputs[0]!.dtype,
): HostArray {
  const { shape } = inputs[0]!;
  const isInteger = dtype === "i32" || dtype === "u32" || dtype === "bool";
  return hostFill({ shape, dtype }, (i) => {
    const value = f(...inputs.map((input) => input.data[i]!));
    return isInteger ? roundTo(dtype, value) : value;
  });
}

/** Coordinates of a linear index. */
export function coordinatesOf(index: number, shape: Shape): number[] {
  const coords = new Array<number>(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    coords[axis] = index % shape[axis]!;
    index = Math.floor(index / shape[axis]!);
  }
  return coords;
}

/** Picks elements: for each output coordinate, the input coordinate to read, or null for zero. */
export function hostView(
  input: HostArray,
  shape: Shape,
  source: (coords: number[]) => readonly number[] | null,
): HostArray {
  const strides = stridesOf(input.shape);
  return hostFill({ shape, dtype: input.dtype }, (i) => {
    const at = source(coordinatesOf(i, shape));
    return at === null ? 0 : input.data[at.reduce((sum, c, axis) => sum + c * strides[axis]!, 0)]!;
  });
}

/** Folds over axes: output has the remaining axes, in order. Integer results wrap to the type, as on a device. */
export function hostReduce(
  input: HostArray,
  axes: readonly number[],
  identity: number,
  combine: (a: number, b: number) => number,
): HostArray {
  const kept = input.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const shape = kept.map((axis) => input.shape[axis]!);
  const strides = stridesOf(shape);
  const data = new Float64Array(sizeOf(shape)).fill(identity);
  const { dtype } = input;
  // Wrapped at every step: a float64 would lose the low digits of a long product or sum.
  const join = isFloat(dtype) ? combine : (a: number, b: number) => roundTo(dtype, combine(a, b));
  for (let i = 0; i < input.data.length; i++) {
    const coords = coordinatesOf(i, input.shape);
    const at = kept.reduce((sum, axis, k) => sum + coords[axis]! * strides[k]!, 0);
    data[at] = join(data[at]!, input.data[i]!);
  }
  return { shape, dtype, data };
}
