/**
 * The ids and positions of tokens, for routers that read them.
 *
 * @module
 */
import { iota, reshapeTo } from "../core/arithmetic.ts";
import { ConfigError } from "../core/errors.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import type { Tokens } from "./plan_types.ts";
import { expectArgument } from "./tokens.ts";

/**
 * The ids of tokens, u32[T].
 *
 * @param op Name of the router.
 * @throws {ConfigError} If the tokens have none.
 * @throws {ShapeError} Or {DTypeError} If they are not u32[T].
 */
export function expectIds(op: string, { hidden, ids }: Tokens): Tensor {
  if (ids !== undefined) return expectArgument(op, "tokens.ids", ids, [hidden.shape[0]!], "u32");
  throw new ConfigError("config/token-ids", {
    summary: `Cannot route with ${op}: the tokens have no ids`,
    facts: [["tokens.hidden", formatAval(hidden)]],
    fix: "pass the token ids beside the hidden states: { hidden, ids }",
    details: { name: op },
  });
}

/** The positions of tokens, u32[T]; counted from the start of each sequence where the tokens have none. */
export function positionsOf(op: string, { positions, hidden, sequenceLength }: Tokens): Tensor {
  const count = hidden.shape[0]!;
  if (positions !== undefined) return expectArgument(op, "tokens.positions", positions, [count], "u32");
  const length = Math.max(1, sequenceLength ?? count);
  return reshapeTo(iota([count / length, length], "u32", 1), [count]);
}
