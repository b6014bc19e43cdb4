/**
 * What lookups of an external memory share: a lookup is a router that also tells the row ids themselves, because rows that
 * do not depend on the token are read by their number, without sorting anybody.
 *
 * Letters: T tokens, K rows of a token, M rows of the memory, W width of a row.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { type PlanExtras, planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { expectArgument } from "./tokens.ts";
import { sumValueRows } from "./value_rows.ts";

/** Which rows tokens read, and with what weights. */
export interface FoundRows extends Pick<PlanExtras, "aux" | "meanDistribution"> {
  /** Row numbers, best first, u32[T, K]; a number past the memory is no row. */
  readonly rows: Tensor;
  /** Weights, f32[T, K]: the only differentiable field besides `aux`. */
  readonly weights: Tensor;
}

/** A router whose experts are the rows of a memory. */
export interface MemoryLookup<P> extends Router<P> {
  /** Rows that a token reads, K. */
  readonly k: number;
  /** Finds the rows of each token; `route` makes a plan of them. */
  find(params: P, tokens: Tokens, context?: RouteContext): FoundRows;
}

/** Completes a lookup with the plan of what it finds. */
export function lookupOf<P>(parts: Omit<MemoryLookup<P>, "route">): MemoryLookup<P> {
  return {
    ...parts,
    route: (params: P, tokens: Tokens, context?: RouteContext): DispatchPlan =>
      planOfRows(parts.find(params, tokens, context), parts.experts),
  };
}

/**
 * Makes a plan in which the rows of a memory are experts: for bodies that depend on the token.
 *
 * @param experts Number of rows, M.
 * @returns A plan with T · K assignments.
 */
export function planOfRows({ rows, weights, ...extras }: FoundRows, experts: number): DispatchPlan {
  return planFromTopK({ experts, indices: rows, weights, ...extras });
}

/**
 * Reads a memory: the body `valueRow`, which ignores the token. `result[t] = Σ_k weights[t, k] · values[rows[t, k]]`.
 *
 * Shapes: `values` [M, W] -> [T, W], in the type of `values`, added up in f32. A token without rows gets zeros.
 * Differentiable any number of times in `values` (rows that nobody reads have a gradient of zeros) and in the weights. It
 * is one dispatch, a gradient one or two besides sorting the reads; no row is copied for each read, and sums have a fixed
 * order, so a run repeats bit for bit.
 *
 * @throws {ShapeError} If `values` is no matrix, or weights and rows differ in shape.
 * @throws {DTypeError} If values are not floats, rows not u32 or weights not f32.
 *
 * @example Two rows, half of each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, tensor, valueRows } from "@switchyard/switchyard";
 *
 * await init();
 * const found = { rows: tensor([[2, 0]], { dtype: "u32" }), weights: tensor([[0.5, 0.5]]) };
 * assertEquals([...await valueRows(tensor([[2, 4], [7, 7], [6, 0]]), found).data()], [4, 2]);
 * ```
 */
export function valueRows(values: Tensor, { rows, weights }: FoundRows): Tensor {
  const [count = 0, width = 0] = values.shape;
  const [tokens = 0, reads = 0] = rows.shape;
  expectArgument("valueRows", "values", values, [count, width], "float");
  expectArgument("valueRows", "rows", rows, [tokens, reads], "u32");
  expectArgument("valueRows", "weights", weights, [tokens, reads], "f32");
  return castTo(sumValueRows(castTo(values, "f32"), rows, weights), values.dtype);
}
