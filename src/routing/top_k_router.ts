/**
 * The router most others are settings of: a linear gate, a score, the k best experts, their weights, a capacity.
 *
 * Each piece has its file: `score.ts`, `capacity.ts`, `aux_losses.ts`, `plan.ts`; here they are put in order.
 *
 * @module
 */
import { castTo, reshapeTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "../ops/binary.ts";
import { matmul } from "../ops/matmul.ts";
import {
  belowOne,
  count,
  expectOptions,
  numberThat,
  oneOf,
  type OptionShape,
  positive,
  positiveCount,
} from "../ops/options.ts";
import { normal, truncatedNormal, uniform } from "../ops/samplers.ts";
import { topK } from "../ops/top_k.ts";
import { balanceLoss, meanOfGroups, sumByGroup, zLoss } from "./aux_losses.ts";
import { type CapacityOrder, expertCapacity, maskChoices, rankChoices } from "./capacity.ts";
import { groupOfToken, routingGroups } from "./groups.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { type Score, scoreLogits, weighChosen, type WeightRule } from "./score.ts";
import { expectArgument, expectKey, expectTokens } from "./tokens.ts";

/** Options of {@linkcode topKRouter}. */
export interface TopKRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Experts a token visits, 1..E. */
  readonly k: number;
  /** How a logit becomes a score, `"softmax"` by default. */
  readonly score?: Score;
  /** How the chosen scores become weights, `"scores"` by default: as they are. */
  readonly weights?: WeightRule;
  /** Slots of an expert in a group, in proportion to an even load; Infinity, the default, drops nothing. */
  readonly capacityFactor?: number;
  /** The factor outside training, by default the same. */
  readonly evalCapacityFactor?: number;
  /** Fewest slots of an expert in a group, 1 by default. */
  readonly minCapacity?: number;
  /** Tokens of a routing group; by default a group is a sequence, or all tokens if they have no `sequenceLength`. */
  readonly groupSize?: number;
  /** Whose choices are dropped last, `"choiceMajor"` by default: all first choices precede all second ones. */
  readonly capacityOrder?: CapacityOrder;
  /** While training, the gate sees each hidden value times a number in 1 - jitter to 1 + jitter; 0 by default. */
  readonly jitter?: number;
  /** Distribution of the initial gate, `"normal"` by default; `"truncatedNormal"` is cut at two deviations. */
  readonly gateInit?: "normal" | "truncatedNormal";
  /** Standard deviation of the initial gate (before it is cut), 0.02 by default. */
  readonly gateStd?: number;
}

/** Parameters of {@linkcode topKRouter}. */
export interface TopKRouterParams {
  /** Weight of the gate, f32[D, E]. */
  readonly gate: Tensor;
}

/** Accepts numbers above 0, Infinity among them. */
export const capacityFactorOption: OptionShape[string] = numberThat(
  "must be a number above 0, or Infinity to drop nothing",
  (value) => value > 0,
);

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  k: positiveCount,
  score: oneOf("softmax", "sigmoid").optional(),
  weights: oneOf("scores", "normalized", "softmaxSelected").optional(),
  capacityFactor: capacityFactorOption.optional(),
  evalCapacityFactor: capacityFactorOption.optional(),
  minCapacity: count.optional(),
  groupSize: positiveCount.optional(),
  capacityOrder: oneOf("choiceMajor", "tokenMajor").optional(),
  jitter: belowOne.optional(),
  gateInit: oneOf("normal", "truncatedNormal").optional(),
  gateStd: positive.optional(),
};

/**
 * Routes each token to its `k` best experts.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with T · k assignments; choice 0 has the highest score.
 * Gate, scores, weights and losses are computed in f32 for every type of hidden states. Ties go to the lower expert.
 * The choice is constant for derivatives: the gate learns through the weights and through `aux`, which holds `balance`
 * ({@linkcode balanceLoss}) and `zLoss` ({@linkcode zLoss}), without coefficients, in both modes.
 *
 * With k = 1 and weights that are not `"scores"` every weight is 1, and the gate gets no gradient from the task.
 * The jitter is the only use of the key; experts see the hidden states without it.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state. It is causal unless second choices can lose their place to later tokens.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Two of four experts for each token
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, topKRouter, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const router = topKRouter({ width: 8, experts: 4, k: 2, weights: "normalized" });
 * const plan = router.route(router.init(key(0)), { hidden: zeros([3, 8]) });
 * assertEquals(plan.assignments, 6);
 * assertEquals([...await plan.stats.load.data()], [3, 3, 0, 0]);
 * ```
 *
 * Source: Shazeer et al. 2017 (sparsely gated experts); Lepikhin et al. 2020 for normalized weights and capacity; Fedus
 * et al. 2021 for weights as they are.
 */
export function topKRouter(options: TopKRouterOptions): Router<TopKRouterParams> {
  expectOptions("topKRouter", OPTIONS, options, () => {
    const { experts, k } = options;
    return k <= experts ? [] : [["k", k, `must be a whole number in 1..${experts} (experts is ${experts})`]];
  });
  return gatedRouter(`topK(${options.k}/${options.experts})`, options);
}

/** Makes the router of checked options under a name; presets such as `switchRouter` are made with it. */
export function gatedRouter(name: string, options: TopKRouterOptions): Router<TopKRouterParams> {
  const { width, experts, k, capacityFactor = Infinity, evalCapacityFactor = capacityFactor } = options;
  const { capacityOrder = "choiceMajor", gateInit = "normal", gateStd = 0.02 } = options;
  const isDropless = capacityFactor === Infinity && evalCapacityFactor === Infinity;

  function route(params: TopKRouterParams, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    const { mask, sequenceLength } = tokens;
    const tokenCount = expectTokens(name, tokens);
    const logits = gateLogits(name, params, tokens, context, options);
    const scored = scoreLogits(logits, options.score ?? "softmax");
    const { indices } = topK(logits, k);
    const choices = maskChoices(indices, mask, experts);
    const groups = routingGroups({ tokens: tokenCount, groupSize: options.groupSize, sequenceLength });
    const factor = context.train === true ? capacityFactor : evalCapacityFactor;
    const plan = planFromTopK({
      experts,
      indices: choices,
      weights: weighChosen(scored, indices, options.weights ?? "scores"),
      capacity: expertCapacity({
        groupSize: groups.groupSize,
        experts,
        k,
        capacityFactor: factor,
        minCapacity: options.minCapacity ?? 1,
      }),
      capacityOrder,
      groups,
      meanDistribution: meanOfGroups(sumByGroup(scored.distribution, groups, mask), groups, mask),
    });
    // Under a capacity this is the ranking the plan made already, and the compiler computes it once.
    const load = groups.groups === 1
      ? reshapeTo(plan.stats.load, [1, experts])
      : rankChoices({ choices, groupOf: groupOfToken(groups), groups: groups.groups, experts, order: capacityOrder })
        .load;
    const balance = balanceLoss({ distribution: scored.distribution, load, k, groups, mask });
    return { ...plan, aux: { balance, zLoss: zLoss(logits, mask) } };
  }

  return {
    name,
    experts,
    causal: k === 1 || capacityOrder === "tokenMajor" || isDropless,
    init(key: Key): TopKRouterParams {
      const draw = gateInit === "normal" ? normal : truncatedNormal;
      return { gate: mul(draw(key, [width, experts]), gateStd) };
    },
    route,
  };
}

/** The gate's logits, f32[T, E], with the jitter of training. */
function gateLogits(
  name: string,
  { gate }: TopKRouterParams,
  { hidden }: Tokens,
  context: RouteContext,
  { width, experts, jitter = 0 }: TopKRouterOptions,
): Tensor {
  expectArgument(name, "tokens.hidden", hidden, [hidden.shape[0]!, width], "float");
  expectArgument(name, "params.gate", gate, [width, experts], "float");
  // Rounding logits to half precision would make ties, and with them other choices.
  const wide = castTo(hidden, "f32");
  const isJittered = context.train === true && jitter > 0;
  const seen = isJittered
    ? mul(wide, uniform(expectKey(name, "jitter", context), wide.shape, { min: 1 - jitter, max: 1 + jitter }))
    : wide;
  return matmul(seen, castTo(gate, "f32"));
}
