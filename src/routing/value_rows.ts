/**
 * The body of memories: an expert is one row of values, which ignores its input. Rows are gathered by token; no plan over
 * the many thousand rows is made.
 *
 * Letters: T tokens, C rows a token reads, N rows, V width of a row.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import { stopGradient } from "../core/grad.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, maximum, mul, sub } from "../ops/binary.ts";
import { greater } from "../ops/compare.ts";
import { mean, sum } from "../ops/reduce.ts";
import { sumRows, takeRows } from "../ops/rows.ts";
import { unsqueeze } from "../ops/view.ts";
import { entropyOf } from "./aux_losses.ts";
import { expectArgument } from "./tokens.ts";

/** Rows each token reads, with their weights. */
export interface ValueLookup {
  /** Row numbers, u32[T, C]; a number past the last row reads zeros. */
  readonly rows: Tensor;
  /** Their weights, f32[T, C]. */
  readonly weights: Tensor;
}

/**
 * Adds up the rows each token reads, by their weights.
 *
 * Shapes: rows and weights [T, C], values [N, V] -> [T, V], of the type of the values, added in f32. Differentiable in
 * weights and values; rows that nobody reads have gradients of exactly zero.
 *
 * @throws {ShapeError} If shapes do not fit.
 * @throws {DTypeError} If rows are not u32, weights not f32, or values not floats.
 *
 * @example One token reads two of three rows
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { executeValueRows, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const lookup = { rows: tensor([[2, 0]], { dtype: "u32" }), weights: tensor([[0.5, 2]]) };
 * assertEquals([...await executeValueRows(lookup, tensor([[1, 0], [9, 9], [4, 6]])).data()], [4, 3]);
 * ```
 */
export function executeValueRows({ rows, weights }: ValueLookup, values: Tensor): Tensor {
  const [tokens = 0, reads = 0] = rows.shape;
  const [count = 0, width = 0] = values.shape;
  expectArgument("executeValueRows", "rows", rows, [tokens, reads], "u32");
  expectArgument("executeValueRows", "weights", weights, [tokens, reads], "f32");
  expectArgument("executeValueRows", "values", values, [count, width], "float");
  const read = castTo(takeRows(values, rows), "f32"); // [T, C, V]
  return castTo(sum(mul(read, unsqueeze(weights, -1)), { axis: 1 }), values.dtype);
}

/** How much of a memory a batch uses. */
export interface ValueRowUsage {
  /** Share of the rows that are read with a weight above 0, f32 scalar. */
  readonly used: Tensor;
  /** Kullback-Leibler divergence in nats of the rows' shares of all weight from even ones, 0 to log N: f32 scalar. */
  readonly divergence: Tensor;
}

/**
 * Measures how much of `count` rows the tokens of a batch use. Constant for derivatives; weights must not be negative.
 * Without any weight the divergence is log N.
 */
export function valueRowUsage({ rows, weights }: ValueLookup, count: number): ValueRowUsage {
  const received = sumRows(stopGradient(weights), rows, count); // [N]
  const shares = div(received, maximum(sum(received), 1e-30));
  return {
    used: mean(castTo(greater(received, 0), "f32")),
    divergence: sub(fullLike([], "f32", Math.log(count)), entropyOf(shares)),
  };
}
