/**
 * Routing by token id: the expert is fixed before training, so there is nothing to learn, to balance or to drop.
 *
 * Every router of this file looks a number up in a table: the token's id, a neighbor's, a pair of ids or the position.
 *
 * @module
 */
import { z } from "zod";
import { fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import { isFloat } from "../core/dtype.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { Tensor } from "../core/tensor.ts";
import { remainder } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { tensor } from "../ops/creation.ts";
import { take } from "../ops/gather.ts";
import { expectOptions, numberThat, oneOf, type OptionShape, positiveCount } from "../ops/options.ts";
import { randomInt } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { clusteredHashTable, dispersedHashTable } from "./cluster_tables.ts";
import { bucketOf, hashToBuckets, mixPair } from "./integer_hash.ts";
import { carriedBy, type CarriedHistory, nextIds, previousIds } from "./neighbor_ids.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { expectIds, positionsOf } from "./token_ids.ts";
import { expectArgument, expectTokens } from "./tokens.ts";

/**
 * What is hashed: the token's own id, the id before it, both, its position, or the id after it. The last is a model's
 * answer: it shows how much a perfect router could gain, and no model may be judged with it.
 */
export type HashKey = "token" | "previous" | "bigram" | "position" | "next";

/** How experts are assigned to what is hashed. */
export type HashTable = "random" | "hashed" | "balanced" | "clustered" | "dispersed";

/** Options of {@linkcode hashRouter}. */
export interface HashRouterOptions {
  /** Number of experts, 1..65,536. */
  readonly experts: number;
  /** Number of token ids, V. */
  readonly vocabulary: number;
  /** What is hashed, `"token"` by default. */
  readonly reads?: HashKey;
  /**
   * How the table is made: `"random"` (the default) draws each entry with the key of `init`; `"hashed"` hashes its
   * number, the same for every key. For the token's own id also `"balanced"`, which evens out the tokens of a corpus
   * ({@linkcode balancedHashTable}), `"clustered"` and `"dispersed"`, which bring like tokens together or apart
   * ({@linkcode clusteredHashTable}, {@linkcode dispersedHashTable}), or the experts themselves, one for each id.
   */
  readonly table?: HashTable | readonly number[];
  /** How often each id occurs in the corpus, V numbers; only for `"balanced"`, which needs them. */
  readonly counts?: readonly number[];
  /** Embeddings of a trained model, float [V, D]; only for `"clustered"` and `"dispersed"`, which need them. */
  readonly embeddings?: Tensor;
  /** Entries of the table of bigrams or positions, 1..65,536; 16,384 by default. Several may share an entry. */
  readonly entries?: number;
}

/** Parameters of {@linkcode hashRouter}: integers, so no optimizer moves them, but checkpoints keep them. */
export interface HashRouterParams {
  /** Expert of each entry: u32[V] for ids, u32[V + 1] for neighbors (the last is for "none"), else u32[entries]. */
  readonly table: Tensor;
}

/** Most buckets that are hashed to evenly in 32-bit arithmetic. */
const MAX_BUCKETS = 65_536;
const DEFAULT_ENTRIES = 16_384;

const TABLES: readonly HashTable[] = ["random", "hashed", "balanced", "clustered", "dispersed"];

const tableName = oneOf(...TABLES);

const bucketCount = numberThat(
  "must be a whole number in 1..65536",
  (value) => Number.isInteger(value) && value >= 1 && value <= MAX_BUCKETS,
);

const OPTIONS: OptionShape = {
  experts: bucketCount,
  vocabulary: positiveCount,
  reads: oneOf("token", "previous", "bigram", "position", "next").optional(),
  table: z.custom<HashTable | readonly number[]>(
    (value) => Array.isArray(value) || TABLES.includes(value as HashTable),
    { error: ({ input }) => tableName.safeParse(input).error!.issues[0]!.message },
  ).optional(),
  counts: z.custom<readonly number[]>(
    (value) => Array.isArray(value) && value.every((n) => Number.isFinite(n) && n >= 0),
    { error: "must be an array of numbers from 0 up" },
  ).optional(),
  embeddings: z.custom<Tensor>(
    (value) => value instanceof Tensor && value.shape.length === 2 && isFloat(value.dtype),
    { error: "must be a matrix of floats, [vocabulary, width]" },
  ).optional(),
  entries: bucketCount.optional(),
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
 * Routes each token by its id or place: `table[…]` is its expert and its weight is exactly 1.
 *
 * Shapes: `tokens.ids` [T], `params.table` u32 -> plan with T assignments. Nothing is dropped and `aux` is empty; no
 * gradient reaches the hidden states or the table through the plan. An id outside the vocabulary gets no expert; as a
 * neighbor it counts as none.
 *
 * Neighbors end at a document's start (position 0), at the sequence's ends and at padding. Where ids before are read,
 * `plan.carry.idHistory` holds the last ones, and a context that carries it continues the sequences, so generation token
 * by token routes as reading all at once does; it needs `tokens.positions`. Fields of other routers are carried on.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state, the same in training and outside. It is causal unless it reads the next id.
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
  expectOptions("hashRouter", OPTIONS, options, () => tableProblems(options));
  const { experts, vocabulary, reads = "token", table = "random" } = options;
  const entries = entriesOf(options);
  const name = `hash(${reads === "token" ? "" : `${reads}, `}${kindOf(table)}, ${experts})`;

  /** The entry of each token, u32[T], `entries` or more for none, and what to carry. */
  function entryOf(tokens: Tokens, context: RouteContext): readonly [entry: Tensor, carry?: CarriedHistory] {
    if (reads === "position") return [remainder(positionsOf(name, tokens), entries)];
    const ids = expectIds(name, tokens);
    if (reads === "token") return [ids];
    if (reads === "next") return [nextIds(name, tokens, ids, vocabulary)];
    const carried = carriedBy(context.carry);
    const { previous, history } = previousIds(name, tokens, ids, vocabulary, carried.idHistory);
    const entry = reads === "previous" ? previous : bucketOf(mixPair(previous, ids), entries);
    return [where(less(ids, vocabulary), entry, entries), { ...carried, idHistory: history }];
  }

  function route(params: HashRouterParams, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    const count = expectTokens(name, tokens);
    expectArgument(name, "params.table", params.table, [entries], "u32");
    const [entry, carry] = entryOf(tokens, context);
    const expert = where(less(entry, entries), take(params.table, entry), experts);
    return planFromTopK({
      experts,
      indices: reshapeTo(expert, [count, 1]),
      weights: fullLike([count, 1], "f32", 1),
      mask: tokens.mask,
      carry,
    });
  }

  return {
    name,
    experts,
    causal: reads !== "next",
    init: (key) => ({ table: makeTable(options, entries, key) }),
    route,
  };
}

/** How a table is called in names and messages. */
function kindOf(table: HashTable | readonly number[]): HashTable | "given" {
  return typeof table === "string" ? table : "given";
}

/** Entries of the table. */
function entriesOf({ vocabulary, reads = "token", entries = DEFAULT_ENTRIES }: HashRouterOptions): number {
  if (reads === "token") return vocabulary;
  return reads === "previous" || reads === "next" ? vocabulary + 1 : entries;
}

function makeTable(options: HashRouterOptions, entries: number, key: Key): Tensor {
  const { experts, table = "random", counts, embeddings } = options;
  if (typeof table !== "string") return tensor([...table], { dtype: "u32" });
  switch (table) {
    case "random":
      return randomInt(key, [entries], { max: experts, dtype: "u32" });
    case "hashed":
      return hashToBuckets(iota([entries], "u32", 0), experts);
    case "balanced":
      return tensor(balancedHashTable(counts!, experts), { dtype: "u32" });
    case "clustered":
      return clusteredHashTable(key, embeddings!, experts);
    case "dispersed":
      return dispersedHashTable(key, embeddings!, experts);
  }
}

/** Problems of options that are valid one by one. */
function tableProblems(options: HashRouterOptions): readonly OptionProblem[] {
  const { reads = "token", table = "random", entries } = options;
  const problems: OptionProblem[] = [];
  if (typeof table !== "string") problems.push(...givenProblems(table, options));
  if (reads !== "token" && table !== "random" && table !== "hashed") {
    problems.push([
      "table",
      kindOf(table),
      `must be random or hashed where the table is not of tokens (reads is ${reads})`,
    ]);
  }
  if (entries !== undefined && reads !== "bigram" && reads !== "position") {
    problems.push(["entries", entries, `must be left out where the table is of ids (reads is ${reads})`]);
  }
  return [...problems, ...countsProblems(options), ...embeddingsProblems(options)];
}

function givenProblems(table: readonly number[], { experts, vocabulary }: HashRouterOptions): OptionProblem[] {
  if (table.length !== vocabulary) {
    return [["table.length", table.length, `must be ${vocabulary}, one for each id (vocabulary is ${vocabulary})`]];
  }
  const at = table.findIndex((expert) => !(Number.isInteger(expert) && expert >= 0 && expert < experts));
  if (at < 0) return [];
  return [[`table.${at}`, table[at], `must be a whole number in 0..${experts - 1} (experts is ${experts})`]];
}

function countsProblems({ table = "random", counts, vocabulary }: HashRouterOptions): OptionProblem[] {
  if (table !== "balanced") {
    return counts === undefined ? [] : [["table", kindOf(table), "must be balanced where counts are given"]];
  }
  const requirement = `must be ${vocabulary}, one for each id (vocabulary is ${vocabulary})`;
  if (counts === undefined) return [["counts", counts, "must be given for a balanced table"]];
  return counts.length === vocabulary ? [] : [["counts.length", counts.length, requirement]];
}

function embeddingsProblems({ table = "random", embeddings, vocabulary, experts }: HashRouterOptions): OptionProblem[] {
  if (table !== "clustered" && table !== "dispersed") {
    return embeddings === undefined
      ? []
      : [["table", kindOf(table), "must be clustered or dispersed where embeddings are given"]];
  }
  if (embeddings === undefined) return [["embeddings", embeddings, `must be given for a ${table} table`]];
  const [rows] = embeddings.shape;
  const wrong: OptionProblem[] = rows === vocabulary
    ? []
    : [["embeddings.shape.0", rows, `must be ${vocabulary}, one row for each id (vocabulary is ${vocabulary})`]];
  return experts <= vocabulary ? wrong : [...wrong, [
    "experts",
    experts,
    `must be at most ${vocabulary} for a ${table} table (vocabulary is ${vocabulary})`,
  ]];
}
