/**
 * Routing by token id: the expert is fixed before training, so there is nothing to learn, to balance or to drop.
 *
 * @module
 */
import { z } from "zod";
import { fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import { ConfigError, type OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { less } from "../ops/compare.ts";
import { tensor } from "../ops/creation.ts";
import { take } from "../ops/gather.ts";
import { expectOptions, numberThat, oneOf, type OptionShape, positiveCount } from "../ops/options.ts";
import { randomInt } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { hashToBuckets } from "./integer_hash.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, Router, Tokens } from "./plan_types.ts";
import { expectArgument, expectTokens } from "./tokens.ts";

/** How ids are assigned to experts. */
export type HashTable = "random" | "hashed" | "balanced";

/** Options of {@linkcode hashRouter}. */
export interface HashRouterOptions {
  /** Number of experts, 1..65,536. */
  readonly experts: number;
  /** Number of token ids, V. */
  readonly vocabulary: number;
  /**
   * How the table is made: `"random"` (the default) draws each entry with the key of `init`; `"hashed"` hashes the id,
   * the same for every key; `"balanced"` evens out the tokens of a corpus, see {@linkcode balancedHashTable}.
   */
  readonly table?: HashTable;
  /** How often each id occurs in the corpus, V numbers; only for `"balanced"`, which needs them. */
  readonly counts?: readonly number[];
}

/** Parameters of {@linkcode hashRouter}: integers, so no optimizer moves them, but checkpoints keep them. */
export interface HashRouterParams {
  /** Expert of each id, u32[V]. */
  readonly table: Tensor;
}

/** Most experts that hash evenly in 32-bit arithmetic. */
const MAX_EXPERTS = 65_536;

const OPTIONS: OptionShape = {
  experts: numberThat(
    "must be a whole number in 1..65536",
    (value) => Number.isInteger(value) && value >= 1 && value <= MAX_EXPERTS,
  ),
  vocabulary: positiveCount,
  table: oneOf("random", "hashed", "balanced").optional(),
  counts: z.custom<readonly number[]>(
    (value) => Array.isArray(value) && value.every((n) => Number.isFinite(n) && n >= 0),
    { error: "must be an array of numbers from 0 up" },
  ).optional(),
};

/**
 * Assigns ids to experts so that each gets about the same number of a corpus's tokens: ids by falling count, each to the
 * expert with the smallest sum so far. Ties go to the lower id and the lower expert.
 *
 * An id that is more frequent than an even share still fills its expert beyond it.
 *
 * @param counts How often each id occurs.
 * @param experts Number of experts.
 * @returns Expert of each id.
 *
 * @example Eight ids, three experts, fifty tokens each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { balancedHashTable } from "@switchyard/switchyard";
 *
 * assertEquals(balancedHashTable([50, 30, 20, 20, 10, 10, 5, 5], 3), [0, 1, 2, 2, 1, 1, 2, 2]);
 * ```
 */
export function balancedHashTable(counts: readonly number[], experts: number): number[] {
  const byCount = counts.map((_, id) => id).sort((a, b) => counts[b]! - counts[a]! || a - b);
  const loads = new Array<number>(experts).fill(0);
  const table = new Array<number>(counts.length).fill(0);
  for (const id of byCount) {
    const expert = loads.reduce((least, load, other) => load < loads[least]! ? other : least, 0);
    table[id] = expert;
    loads[expert]! += counts[id]!;
  }
  return table;
}

/**
 * Routes each token by its id: `table[id]` is its expert and its weight is exactly 1.
 *
 * Shapes: `tokens.ids` [T], `params.table` u32[V] -> plan with T assignments. Nothing is dropped and `aux` is empty; no
 * gradient reaches the hidden states or the table through the plan. An id outside the vocabulary gets no expert.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router without state, the same in training and outside.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if the tokens have no ids.
 *
 * @example The same id always meets the same expert
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { hashRouter, init, key, tensor, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const router = hashRouter({ experts: 2, vocabulary: 4, table: "balanced", counts: [9, 1, 5, 3] });
 * const ids = tensor([0, 2, 0, 1], { dtype: "u32" });
 * const plan = router.route(router.init(key(0)), { hidden: zeros([4, 8]), ids });
 * assertEquals([...await plan.rowToken.data()], [0, 2, 1, 3]);
 * assertEquals([...await plan.stats.load.data()], [2, 2]);
 * ```
 *
 * Source: Roller et al. 2021.
 */
export function hashRouter(options: HashRouterOptions): Router<HashRouterParams> {
  expectOptions("hashRouter", OPTIONS, options, () => countsProblems(options));
  const { experts, vocabulary, table = "random", counts = [] } = options;
  const name = `hash(${table}, ${experts})`;

  function init(key: Key): HashRouterParams {
    if (table === "random") return { table: randomInt(key, [vocabulary], { max: experts, dtype: "u32" }) };
    if (table === "hashed") return { table: hashToBuckets(iota([vocabulary], "u32", 0), experts) };
    return { table: tensor(balancedHashTable(counts, experts), { dtype: "u32" }) };
  }

  function route(params: HashRouterParams, tokens: Tokens): DispatchPlan {
    const count = expectTokens(name, tokens);
    const ids = idsOf(name, tokens, count);
    expectArgument(name, "params.table", params.table, [vocabulary], "u32");
    const expert = where(less(ids, vocabulary), take(params.table, ids), experts);
    return planFromTopK({
      experts,
      indices: reshapeTo(expert, [count, 1]),
      weights: fullLike([count, 1], "f32", 1),
      mask: tokens.mask,
    });
  }

  return { name, experts, causal: true, init, route };
}

function countsProblems({ table = "random", counts, vocabulary }: HashRouterOptions): OptionProblem[] {
  if (table !== "balanced") {
    return counts === undefined ? [] : [["table", table, "must be balanced where counts are given"]];
  }
  const requirement = `must be ${vocabulary}, one for each id (vocabulary is ${vocabulary})`;
  if (counts === undefined) return [["counts", counts, "must be given for a balanced table"]];
  return counts.length === vocabulary ? [] : [["counts.length", counts.length, requirement]];
}

function idsOf(name: string, { hidden, ids }: Tokens, count: number): Tensor {
  if (ids !== undefined) return expectArgument(name, "tokens.ids", ids, [count], "u32");
  throw new ConfigError("config/token-ids", {
    summary: `Cannot route with ${name}: the tokens have no ids`,
    facts: [["tokens.hidden", formatAval(hidden)]],
    fix: "pass the token ids beside the hidden states: { hidden, ids }",
    details: { name },
  });
}
