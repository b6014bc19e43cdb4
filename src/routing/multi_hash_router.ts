/**
 * Routing by several hashes of the token's id: each picks the expert of one segment of the layer.
 *
 * @module
 */
import { z } from "zod";
import { fullLike, iota, reshapeTo, transposeTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { tensor } from "../ops/creation.ts";
import { take } from "../ops/gather.ts";
import { expectOptions, type OptionShape, positiveCount } from "../ops/options.ts";
import { randomInt } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, Router, Tokens } from "./plan_types.ts";
import { expectIds } from "./token_ids.ts";
import { expectArgument, expectTokens } from "./tokens.ts";

/** Options of {@linkcode multiHashRouter}. */
export interface MultiHashRouterOptions {
  /** Number of experts a segment chooses from, E. */
  readonly experts: number;
  /** Number of segments and hashes, N. */
  readonly segments: number;
  /** Number of token ids, V. */
  readonly vocabulary: number;
  /** The expert of each id for each segment, N lists of V; by default they are drawn with the key of `init`. */
  readonly tables?: readonly (readonly number[])[];
}

/** Parameters of {@linkcode multiHashRouter}: integers, so no optimizer moves them, but checkpoints keep them. */
export interface MultiHashRouterParams {
  /** Expert of each id for each segment, u32[N, V]. */
  readonly tables: Tensor;
}

/** A router that tells how many segments it chooses for. */
export interface MultiHashRouter extends Router<MultiHashRouterParams> {
  /** Number of segments, N: assignments of a token. */
  readonly segments: number;
}

const OPTIONS: OptionShape = {
  experts: positiveCount,
  segments: positiveCount,
  vocabulary: positiveCount,
  tables: z.custom<readonly (readonly number[])[]>((value) => Array.isArray(value) && value.every(Array.isArray), {
    error: "must be an array of arrays, the expert of each id for each segment",
  }).optional(),
};

/**
 * Routes each token to one expert for each of N segments: segment m of expert e has the number `m · E + e`.
 *
 * Shapes: `tokens.ids` [T], `params.tables` u32[N, V] -> plan over N · E segments with T · N assignments of weight 1;
 * assignment `t · N + m` is segment m of token t. Nothing is dropped and `aux` is empty. What segments compute is not
 * added but concatenated, see `multiHash`. An id outside the vocabulary gets no expert.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router without state, the same in training and outside. Its `experts` is N · E.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if the tokens have no ids.
 *
 * @example Two segments of two experts each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, multiHashRouter, tensor, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const router = multiHashRouter({ experts: 2, segments: 2, vocabulary: 3, tables: [[0, 1, 0], [1, 1, 0]] });
 * const ids = tensor([0, 2], { dtype: "u32" });
 * const plan = router.route(router.init(key(0)), { hidden: zeros([2, 8]), ids });
 * assertEquals([...await plan.stats.load.data()], [2, 0, 1, 1]);
 * ```
 *
 * Source: Roller et al. 2021.
 */
export function multiHashRouter(options: MultiHashRouterOptions): MultiHashRouter {
  expectOptions("multiHashRouter", OPTIONS, options, () => tablesProblems(options));
  const { experts, segments, vocabulary, tables } = options;
  const name = `multiHash(${segments} x ${experts})`;

  function init(key: Key): MultiHashRouterParams {
    return {
      tables: tables === undefined
        ? randomInt(key, [segments, vocabulary], { max: experts, dtype: "u32" })
        : tensor(tables.map((row) => [...row]), { dtype: "u32" }),
    };
  }

  function route({ tables }: MultiHashRouterParams, tokens: Tokens): DispatchPlan {
    const count = expectTokens(name, tokens);
    const ids = expectIds(name, tokens);
    expectArgument(name, "params.tables", tables, [segments, vocabulary], "u32");
    const chosen = transposeTo(take(tables, ids, { axis: 1 }), [1, 0]); // [T, N]
    const numbers = add(chosen, mul(iota([count, segments], "u32", 1), experts));
    return planFromTopK({
      experts: segments * experts,
      indices: where(reshapeTo(less(ids, vocabulary), [count, 1]), numbers, segments * experts),
      weights: fullLike([count, segments], "f32", 1),
      mask: tokens.mask,
    });
  }

  return { name, experts: segments * experts, segments, causal: true, init, route };
}

function tablesProblems({ experts, segments, vocabulary, tables }: MultiHashRouterOptions): readonly OptionProblem[] {
  if (tables === undefined) return [];
  const problems: OptionProblem[] = tables.length === segments
    ? []
    : [["tables.length", tables.length, `must be ${segments}, one for each segment (segments is ${segments})`]];
  for (const [segment, table] of tables.entries()) {
    const name = `tables.${segment}`;
    if (table.length !== vocabulary) {
      const requirement = `must be ${vocabulary}, one for each id (vocabulary is ${vocabulary})`;
      problems.push([`${name}.length`, table.length, requirement]);
    }
    const at = table.findIndex((expert) => !(Number.isInteger(expert) && expert >= 0 && expert < experts));
    const requirement = `must be a whole number in 0..${experts - 1} (experts is ${experts})`;
    if (at >= 0) problems.push([`${name}.${at}`, table[at], requirement]);
  }
  return problems;
}
