/**
 * Orthogonal initial weights.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import { transposeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, mul, sub } from "../ops/binary.ts";
import { matmul } from "../ops/matmul.ts";
import { sum } from "../ops/reduce.ts";
import { normal } from "../ops/samplers.ts";
import { sqrt, square } from "../ops/unary.ts";

/** Steps after which even the smallest singular value of a square draw is 1 in f32: each grows by half at first. */
const STEPS = 40;

/**
 * Draws a matrix with orthonormal rows (columns, if it has more rows than columns), uniformly among all of them, and
 * scales it.
 *
 * It is the orthogonal factor of a normal draw's polar decomposition, found by Newton–Schulz steps.
 *
 * @returns f32[rows, columns].
 *
 * Source: Saxe et al. 2014 for the initialization; Higham 2008, section 8.3, for the iteration.
 */
export function orthogonal(key: Key, [rows, columns]: readonly [number, number], gain: number): Tensor {
  const isWide = rows <= columns;
  const drawn = normal(key, isWide ? [rows, columns] : [columns, rows]);
  let near = div(drawn, sqrt(sum(square(drawn)))); // singular values in 0..1
  for (let step = 0; step < STEPS; step++) {
    const overlap = matmul(near, transposeTo(near, [1, 0]));
    near = sub(mul(near, 1.5), mul(matmul(overlap, near), 0.5));
  }
  return mul(isWide ? near : transposeTo(near, [1, 0]), gain);
}
