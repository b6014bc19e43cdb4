/**
 * How much of a memory a batch uses: memories tend to collapse onto few rows.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import { stopGradient } from "../core/grad.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, maximum, sub } from "../ops/binary.ts";
import { greater } from "../ops/compare.ts";
import { mean, sum } from "../ops/reduce.ts";
import { sumRows } from "../ops/rows.ts";
import { entropyOf } from "./aux_losses.ts";
import type { FoundRows } from "./memory_lookup.ts";
import { expectArgument } from "./tokens.ts";

/** How much of a memory a batch uses. */
export interface RowUsage {
  /** Share of the rows that are read with a weight above 0, f32 scalar. */
  readonly used: Tensor;
  /** Kullback-Leibler divergence in nats of the rows' shares of all weight from even shares, 0 to log M: f32 scalar. */
  readonly divergence: Tensor;
}

/**
 * Measures how much of a memory of `count` rows the tokens of a batch use.
 *
 * Constant for derivatives. Weights must not be negative; without any weight above 0 the divergence is log M.
 *
 * @param found Rows u32[T, K] and weights f32[T, K].
 * @param count Number of rows, M.
 * @throws {ShapeError} If weights and rows differ in shape.
 * @throws {DTypeError} If rows are not u32 or weights not f32.
 *
 * @example Two tokens read two of four rows
 * ```ts
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 * import { init, rowUsage, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const found = { rows: tensor([[3], [1]], { dtype: "u32" }), weights: tensor([[0.5], [0.5]]) };
 * const { used, divergence } = rowUsage(found, 4);
 * assertEquals(await used.item(), 0.5);
 * assertAlmostEquals(await divergence.item(), Math.log(2), 1e-5);
 * ```
 */
export function rowUsage({ rows, weights }: Pick<FoundRows, "rows" | "weights">, count: number): RowUsage {
  expectArgument("rowUsage", "rows", rows, rows.shape, "u32");
  expectArgument("rowUsage", "weights", weights, rows.shape, "f32");
  const received = sumRows(stopGradient(weights), rows, count); // [M]
  const shares = div(received, maximum(sum(received), 1e-30));
  return {
    used: mean(castTo(greater(received, 0), "f32")),
    divergence: sub(fullLike([], "f32", Math.log(count)), entropyOf(shares)),
  };
}
