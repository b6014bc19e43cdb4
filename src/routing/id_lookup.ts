/**
 * Looking a memory up by token id: nothing is computed from the hidden states.
 *
 * @module
 */
import { fullLike, reshapeTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Tensor } from "../core/tensor.ts";
import { less } from "../ops/compare.ts";
import { expectOptions, oneOf, positiveCount } from "../ops/options.ts";
import { where } from "../ops/select.ts";
import { maskChoices } from "./capacity.ts";
import { hashToBuckets } from "./integer_hash.ts";
import { type FoundRows, lookupOf, type MemoryLookup } from "./memory_lookup.ts";
import type { Tokens } from "./plan_types.ts";
import { expectIds } from "./token_ids.ts";
import { expectTokens } from "./tokens.ts";

/** Options of {@linkcode idLookup}. */
export interface IdLookupOptions {
  /** Rows of the memory, M. */
  readonly rows: number;
  /** `"own"` (the default) gives each id its row; `"hashed"` lets ids share up to 65,536 rows. */
  readonly ids?: "own" | "hashed";
}

/** Most rows that ids are hashed to evenly in 32-bit arithmetic. */
const MAX_HASHED = 65_536;

/**
 * Finds one row for each token by its id, with weight 1.
 *
 * Shapes: `tokens.ids` u32[T] -> rows [T, 1]. It has no parameters and no gradient of its own: only the rows learn. An id
 * from `rows` up has no row, unless ids are hashed.
 *
 * @returns A causal lookup, the same in training and outside.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `find`, if the tokens have no ids.
 *
 * @example Row 2 for id 2
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { idLookup, init, tensor, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const { rows } = idLookup({ rows: 4 }).find({}, { hidden: zeros([2, 8]), ids: tensor([2, 0], { dtype: "u32" }) });
 * assertEquals([...await rows.data()], [2, 0]);
 * ```
 *
 * Source: Baykal et al. 2023.
 */
export function idLookup(options: IdLookupOptions): MemoryLookup<Readonly<Record<string, never>>> {
  expectOptions(
    "idLookup",
    { rows: positiveCount, ids: oneOf("own", "hashed").optional() },
    options,
    () => hashProblems(options),
  );
  const { rows, ids: kind = "own" } = options;
  const name = kind === "own" ? `idLookup(${rows})` : `idLookup(hashed, ${rows})`;

  function find(_params: Readonly<Record<string, never>>, tokens: Tokens): FoundRows {
    const count = expectTokens(name, tokens);
    const ids = expectIds(name, tokens);
    const found: Tensor = kind === "own" ? where(less(ids, rows), ids, rows) : hashToBuckets(ids, rows);
    return {
      rows: maskChoices(reshapeTo(found, [count, 1]), tokens.mask, rows),
      weights: fullLike([count, 1], "f32", 1),
    };
  }

  return lookupOf({ name, experts: rows, k: 1, causal: true, init: () => ({}), find });
}

function hashProblems({ rows, ids }: IdLookupOptions): readonly OptionProblem[] {
  if (ids !== "hashed" || rows <= MAX_HASHED) return [];
  return [["rows", rows, `must be a whole number in 1..${MAX_HASHED} where ids are hashed`]];
}
