/**
 * Inputs for checking an op: described by shape, type and range, drawn with a seed, stacked for batches.
 *
 * @module
 */
import { type DType, isFloat, roundTo } from "../../src/core/dtype.ts";
import type { HostArray } from "../../src/core/primitive.ts";
import { type Shape, sizeOf } from "../../src/core/shape.ts";
import { fromHost, type Tensor } from "../../src/core/tensor.ts";
import { tensor } from "../../src/ops/creation.ts";
import type { RandomSource } from "./random.ts";

/** One input of an op under test. */
export interface InputSpec {
  /** Sizes of the axes. */
  readonly shape: Shape;
  /** Element type, f32 by default. */
  readonly dtype?: DType;
  /** Fixed elements in row-major order. */
  readonly data?: readonly number[];
  /** Where elements are drawn from, [low, high): by default -2 to 2 for floats, 0..4 for integers. */
  readonly range?: readonly [low: number, high: number];
}

/** Draws an input; floats are rounded to their type, so that the oracle and the device see the same numbers. */
export function drawInput(spec: InputSpec, random: RandomSource): HostArray {
  const { shape, dtype = "f32", data } = spec;
  const [low, high] = spec.range ?? (isFloat(dtype) ? [-2, 2] : dtype === "bool" ? [0, 2] : [0, 5]);
  function draw(): number {
    return isFloat(dtype) ? random.uniform(low, high) : random.integer(low, high);
  }
  const elements = data ?? Array.from({ length: sizeOf(shape) }, draw);
  return { shape, dtype, data: Float64Array.from(elements, (value) => roundTo(dtype, value)) };
}

/** Several versions of an input: drawn anew, or for fixed floats the same elements rotated, which keeps their range. */
export function drawVariants(spec: InputSpec, count: number, random: RandomSource): readonly HostArray[] {
  return Array.from({ length: count }, (_, turn) => {
    const drawn = drawInput(spec, random);
    if (spec.data === undefined || !isFloat(drawn.dtype)) return drawn;
    return { ...drawn, data: drawn.data.map((_, i) => drawn.data[(i + turn) % drawn.data.length]!) };
  });
}

/** Joins arrays of one shape along a new axis 0. */
export function stackArrays(arrays: readonly HostArray[]): HostArray {
  const [{ shape, dtype }] = arrays as [HostArray];
  const size = sizeOf(shape);
  const data = new Float64Array(arrays.length * size);
  arrays.forEach((array, i) => data.set(array.data, i * size));
  return { shape: [arrays.length, ...shape], dtype, data };
}

/** A tensor of an array. On the oracle floats keep their float64 value. */
export function toTensorOf(array: HostArray): Tensor {
  // Differences in the last bits carry numeric derivatives, so floats bypass the rounding of `tensor`.
  if (isFloat(array.dtype)) return fromHost({ shape: array.shape, dtype: array.dtype }, array.data.slice());
  return tensor(array.data, { shape: array.shape, dtype: array.dtype });
}

/** A random direction in the space of an array. */
export function directionLike(array: HostArray, random: RandomSource): HostArray {
  return { ...array, data: random.normals(array.data.length) };
}

/** `array + factor · direction`. */
export function moved(array: HostArray, direction: HostArray, factor: number): HostArray {
  return { ...array, data: array.data.map((value, i) => value + factor * direction.data[i]!) };
}
