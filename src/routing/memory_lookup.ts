/**
 * What lookups of an external memory share: a lookup is a router that also tells the row ids themselves, because rows that
 * do not depend on the token are read by their number, without sorting anybody.
 *
 * Letters: T tokens, K rows of a token, M rows of the memory.
 *
 * @module
 */
import { type PlanExtras, planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import type { ValueLookup } from "./value_rows.ts";

/** Which rows tokens read, with weights that `executeValueRows` takes, and what a plan of them carries besides. */
export interface FoundRows extends ValueLookup, Pick<PlanExtras, "aux" | "meanDistribution"> {}

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
