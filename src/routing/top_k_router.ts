/**
 * The router most others are settings of: a linear gate, a score, the k best experts, their weights, a capacity.
 *
 * Each piece has its file: `score.ts`, `capacity.ts`, `aux_losses.ts`, `plan.ts`; here they are put in order.
 *
 * @module
 */
import { reshapeTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add } from "../ops/binary.ts";
import { max } from "../ops/extremum.ts";
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
import { split } from "../ops/random.ts";
import { gumbel } from "../ops/samplers.ts";
import { topK } from "../ops/top_k.ts";
import { balanceLoss, meanOfGroups, sumByGroup, zLoss } from "./aux_losses.ts";
import { type CapacityOrder, expertCapacity, maskChoices, rankChoices, type RankOptions } from "./capacity.ts";
import { disturbed, gateInput, initGate, throughGate } from "./gate.ts";
import { groupOfToken, overGroups, routingGroups } from "./groups.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { placeWithRetries } from "./retries.ts";
import { type Score, scoreLogits, weighChosen, type WeightRule } from "./score.ts";
import { expectKey, expectTokens } from "./tokens.ts";

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
  /**
   * Whose choices are dropped last, `"choiceMajor"` by default: all first choices precede all second ones. `"priority"`
   * serves tokens by falling best score, which is no order for causal models.
   */
  readonly capacityOrder?: CapacityOrder;
  /** With k = 1: how many more experts a token tries where its best is full, 0 by default. Not causal. */
  readonly retries?: number;
  /** While training, the gate sees each hidden value times a number in 1 - jitter to 1 + jitter; 0 by default. */
  readonly jitter?: number;
  /** While training, the share of hidden values that the gate does not see; 0 by default. */
  readonly inputDropout?: number;
  /**
   * How experts are chosen while training: `"best"` (the default), or `"sampled"` in proportion to the softmax of the
   * logits, k different ones. Weights are those of the chosen experts in both.
   */
  readonly selection?: "best" | "sampled";
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
  capacityOrder: oneOf("choiceMajor", "tokenMajor", "priority").optional(),
  retries: count.optional(),
  jitter: belowOne.optional(),
  inputDropout: belowOne.optional(),
  selection: oneOf("best", "sampled").optional(),
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
 * Only jitter, input dropout and sampling use the key; experts see the hidden states without any of them.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state. It is causal unless a token can lose its place to later ones.
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
  expectOptions("topKRouter", OPTIONS, options, () => [...choiceProblems(options), ...retryProblems(options)]);
  return gatedRouter(`topK(${options.k}/${options.experts})`, options);
}

/** What is wrong with the number of experts a token visits. */
export function choiceProblems(
  { experts, k }: { readonly experts: number; readonly k: number },
): readonly OptionProblem[] {
  return k <= experts ? [] : [["k", k, `must be a whole number in 1..${experts} (experts is ${experts})`]];
}

/** What is wrong with the retries of a router. */
export function retryProblems(
  { experts, k = 1, retries = 0 }: { readonly experts: number; readonly k?: number; readonly retries?: number },
): readonly OptionProblem[] {
  if (retries > 0 && k > 1) return [["retries", retries, `must be 0 for more than one expert a token (k is ${k})`]];
  const rest = experts - 1;
  return retries <= rest ? [] : [["retries", retries, `must be a whole number in 0..${rest} (experts is ${experts})`]];
}

/** Makes the router of checked options under a name; presets such as `switchRouter` are made with it. */
export function gatedRouter(name: string, options: TopKRouterOptions): Router<TopKRouterParams> {
  const { experts, k, capacityFactor = Infinity, evalCapacityFactor = capacityFactor } = options;
  const { score = "softmax", weights = "scores", capacityOrder = "choiceMajor", retries = 0 } = options;
  const isDropless = capacityFactor === Infinity && evalCapacityFactor === Infinity;
  const isInOrder = capacityOrder === "tokenMajor" || (capacityOrder === "choiceMajor" && k === 1);

  function route(params: TopKRouterParams, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    const { mask, sequenceLength } = tokens;
    const tokenCount = expectTokens(name, tokens);
    const { logits, preferences } = gateOf(name, params, tokens, context, options);
    const scored = scoreLogits(logits, score);
    const groups = routingGroups({ tokens: tokenCount, groupSize: options.groupSize, sequenceLength });
    const capacity = expertCapacity({
      groupSize: groups.groupSize,
      experts,
      k,
      capacityFactor: context.train === true ? capacityFactor : evalCapacityFactor,
      minCapacity: options.minCapacity ?? 1,
    });
    const tried = k + (capacity < Infinity ? retries : 0);
    const { indices } = topK(preferences, tried);
    const ranked: RankOptions = {
      choices: maskChoices(indices, mask, experts),
      groupOf: groupOfToken(groups),
      groups: groups.groups,
      experts,
      order: capacityOrder,
      priority: capacityOrder === "priority" ? max(scored.scores, { axis: -1 }) : undefined,
    };
    const placement = tried === k ? null : placeWithRetries({ ...ranked, capacity });
    const plan = planFromTopK({
      experts,
      indices: placement?.placed ?? ranked.choices,
      weights: weighChosen(scored, placement?.placed ?? indices, weights),
      capacity: placement === null ? capacity : Infinity,
      capacityOrder,
      priority: ranked.priority,
      groups,
      meanDistribution: meanOfGroups(sumByGroup(scored.distribution, groups, mask), groups, mask),
    });
    const load = placement?.load ?? loadByGroup(plan, ranked);
    const balance = balanceLoss({ distribution: scored.distribution, load, k, groups, mask });
    return {
      ...plan,
      aux: { balance, zLoss: zLoss(logits, mask) },
      stats: placement === null ? plan.stats : { ...plan.stats, load: overGroups(placement.offers) },
    };
  }

  return {
    name,
    experts,
    causal: isDropless || (isInOrder && retries === 0),
    init: (key: Key): TopKRouterParams => ({ gate: initGate(key, options) }),
    route,
  };
}

/** Choices of each expert in each group before capacity, u32[G, E]. */
function loadByGroup(plan: DispatchPlan, ranked: RankOptions): Tensor {
  if (ranked.groups === 1) return reshapeTo(plan.stats.load, [1, ranked.experts]);
  // Under a capacity this is the ranking the plan made already, and the compiler computes it once.
  return rankChoices(ranked).load;
}

/** The gate's logits, f32[T, E], and what the choice of experts follows: the logits, or a sample of them. */
function gateOf(
  name: string,
  { gate }: TopKRouterParams,
  { hidden }: Tokens,
  context: RouteContext,
  options: TopKRouterOptions,
): { readonly logits: Tensor; readonly preferences: Tensor } {
  const { jitter = 0, inputDropout = 0, selection = "best" } = options;
  const seen = gateInput(name, hidden, options.width);
  const uses = [
    ...(jitter > 0 ? ["jitter"] : []),
    ...(inputDropout > 0 ? ["input dropout"] : []),
    ...(selection === "sampled" ? ["sampling"] : []),
  ];
  if (context.train !== true || uses.length === 0) {
    const logits = throughGate(name, seen, gate, options);
    return { logits, preferences: logits };
  }
  const [inputKey, sampleKey] = split(expectKey(name, uses.join(" and "), context));
  const logits = throughGate(name, disturbed(inputKey, seen, { jitter, inputDropout }), gate, options);
  if (selection === "best") return { logits, preferences: logits };
  // The k greatest of logits plus Gumbel noise are k draws from their softmax without replacement.
  return { logits, preferences: add(logits, gumbel(sampleKey, logits.shape)) };
}
