/**
 * Tensors of seeded random numbers.
 *
 * @module
 */
import type { DType } from "../../src/core/dtype.ts";
import { type Shape, sizeOf } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor } from "../../src/ops/creation.ts";
import { randomSource } from "./random.ts";

/** Options of {@linkcode uniformTensor}. */
export interface UniformOptions {
  /** Numbers lie in [-limit, limit), 2 by default. */
  readonly limit?: number;
  /** Type, f32 by default. */
  readonly dtype?: DType;
}

/** Uniform numbers around zero. */
export function uniformTensor(shape: Shape, seed: number, { limit = 2, dtype = "f32" }: UniformOptions = {}): Tensor {
  const random = randomSource(seed);
  return tensor(Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(-limit, limit)), { shape, dtype });
}

/** Standard normal numbers in f32. */
export function normalTensor(shape: Shape, seed: number): Tensor {
  return tensor(randomSource(seed).normals(sizeOf(shape)).map(Math.fround), { shape });
}
