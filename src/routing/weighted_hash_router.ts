/**
 * Routing with fixed experts and learned weights: the token's id names its experts, the hidden state says how much each
 * of them counts.
 *
 * @module
 */
import { z } from "zod";
import { castTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { softplus } from "../ops/activations.ts";
import { maximum, mul } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { tensor } from "../ops/creation.ts";
import { take, takeAlong } from "../ops/gather.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { normal, uniform } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { softmax } from "../ops/softmax.ts";
import { topK } from "../ops/top_k.ts";
import { log } from "../ops/unary.ts";
import { unsqueeze } from "../ops/view.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, Router, Tokens } from "./plan_types.ts";
import { expectIds } from "./token_ids.ts";
import { expectArgument, expectTokens } from "./tokens.ts";

/** Options of {@linkcode weightedHashRouter}. */
export interface WeightedHashRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Number of token ids, V. */
  readonly vocabulary: number;
  /** Experts of an id, 1..E. */
  readonly k: number;
  /** What the weights of a token sum to, 1.5 by default. */
  readonly scale?: number;
  /** The experts of each id, V lists of k different ones; by default they are drawn with the key of `init`. */
  readonly table?: readonly (readonly number[])[];
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

/** Parameters of {@linkcode weightedHashRouter}. */
export interface WeightedHashRouterParams {
  /** Experts of each id, u32[V, K]; no optimizer moves them. */
  readonly table: Tensor;
  /** Weight of the gate, f32[D, E]. */
  readonly gate: Tensor;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  vocabulary: positiveCount,
  k: positiveCount,
  scale: positive.optional(),
  table: z.custom<readonly (readonly number[])[]>((value) => Array.isArray(value) && value.every(Array.isArray), {
    error: "must be an array of arrays, the experts of each id",
  }).optional(),
  gateStd: positive.optional(),
};

/** Below this, softplus(x) is e^x to the last bit of f32, and its logarithm x. */
const LOWEST = -20;

/**
 * The logarithm of sqrt(softplus(x)), for every x: the direct form is the logarithm of 0 for x below -104.
 *
 * @param x f32 of any shape.
 */
function logRootSoftplus(x: Tensor): Tensor {
  // The branch that is not taken must have a finite slope too.
  const logarithm = where(less(x, LOWEST), x, log(softplus(maximum(x, LOWEST))));
  return mul(logarithm, 0.5);
}

/**
 * Routes each token to the `k` experts that its id names, and weighs them by the hidden state: `sqrt(softplus(logit))` of
 * each, divided by their sum, times `scale`.
 *
 * Shapes: `tokens.ids` [T], `tokens.hidden` [T, D], `params.table` u32[V, K], `params.gate` [D, E] -> plan with T · K
 * assignments. Nothing is dropped and `aux` is empty. The gate learns through the weights of the named experts alone.
 * With k = 1 every weight is `scale`, and the gate learns nothing. An id outside the vocabulary gets no expert.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router without state, the same in training and outside.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if the tokens have no ids.
 *
 * @example Equal logits share the scale
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, tensor, weightedHashRouter, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const router = weightedHashRouter({ width: 8, experts: 3, vocabulary: 2, k: 2, table: [[0, 1], [2, 1]] });
 * const ids = tensor([1, 0, 1], { dtype: "u32" });
 * const plan = router.route(router.init(key(0)), { hidden: zeros([3, 8]), ids });
 * assertEquals([...await plan.stats.load.data()], [1, 3, 2]);
 * assertEquals([...await plan.weight.data()], [0.75, 0.75, 0.75, 0.75, 0.75, 0.75]);
 * ```
 *
 * Source: the first layers of DeepSeek-V4, as described in its ports.
 */
export function weightedHashRouter(options: WeightedHashRouterOptions): Router<WeightedHashRouterParams> {
  expectOptions("weightedHashRouter", OPTIONS, options, () => tableProblems(options));
  const { width, experts, vocabulary, k, scale = 1.5, table, gateStd = 0.02 } = options;
  const name = `weightedHash(${k}/${experts})`;

  function init(key: Key): WeightedHashRouterParams {
    const [tableKey, gateKey] = split(key);
    return {
      // The k best of random scores are k different experts, each as likely as any other.
      table: table === undefined
        ? topK(uniform(tableKey, [vocabulary, experts]), k).indices
        : tensor(table.map((row) => [...row]), { dtype: "u32" }),
      gate: mul(normal(gateKey, [width, experts]), gateStd),
    };
  }

  function route({ table, gate }: WeightedHashRouterParams, tokens: Tokens): DispatchPlan {
    const count = expectTokens(name, tokens);
    const ids = expectIds(name, tokens);
    expectArgument(name, "tokens.hidden", tokens.hidden, [count, width], "float");
    expectArgument(name, "params.table", table, [vocabulary, k], "u32");
    expectArgument(name, "params.gate", gate, [width, experts], "float");
    const named = take(table, ids, { axis: 0 }); // [T, K]
    const logits = matmul(castTo(tokens.hidden, "f32"), castTo(gate, "f32")); // [T, E]
    return planFromTopK({
      experts,
      indices: where(unsqueeze(less(ids, vocabulary), 1), named, experts),
      weights: mul(softmax(logRootSoftplus(takeAlong(logits, named))), scale),
      mask: tokens.mask,
    });
  }

  return { name, experts, causal: true, init, route };
}

function tableProblems({ experts, vocabulary, k, table }: WeightedHashRouterOptions): readonly OptionProblem[] {
  const problems: OptionProblem[] = k <= experts
    ? []
    : [["k", k, `must be a whole number in 1..${experts} (experts is ${experts})`]];
  if (table === undefined) return problems;
  if (table.length !== vocabulary) {
    const requirement = `must be ${vocabulary}, one row for each id (vocabulary is ${vocabulary})`;
    return [...problems, ["table.length", table.length, requirement]];
  }
  const isExpert = (expert: number) => Number.isInteger(expert) && expert >= 0 && expert < experts;
  const at = table.findIndex((row) => row.length !== k || new Set(row).size !== k || !row.every(isExpert));
  if (at < 0) return problems;
  const requirement = `must be ${k} different whole numbers in 0..${experts - 1} (k is ${k}, experts is ${experts})`;
  return [...problems, [`table.${at}`, table[at], requirement]];
}
