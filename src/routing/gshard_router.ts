/**
 * The top-2 router of GShard: a best expert for every token, and a second one that is used at random.
 *
 * @module
 */
import { reshapeTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { concat } from "../ops/concat.ts";
import { count, expectOptions, oneOf, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { uniform } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import { topK } from "../ops/top_k.ts";
import { balanceLoss, meanOfGroups, sumByGroup, zLoss } from "./aux_losses.ts";
import { expertCapacity, maskChoices, rankChoices } from "./capacity.ts";
import { gateLogits, initGate } from "./gate.ts";
import { groupOfToken, routingGroups } from "./groups.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { scoreLogits, weighChosen } from "./score.ts";
import { expectKey, expectTokens } from "./tokens.ts";
import { capacityFactorOption, type TopKRouterParams } from "./top_k_router.ts";

/** Options of {@linkcode gshardRouter}. */
export interface GshardRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E, at least 2. */
  readonly experts: number;
  /**
   * What becomes of the second choice while training: `"random"` (the default) uses it with twice its weight as
   * probability, `"always"` uses it. Outside training it is always used.
   */
  readonly secondChoice?: "random" | "always";
  /** Slots of an expert in a group while training, in proportion to an even load; 1 by default. */
  readonly capacityFactor?: number;
  /** The factor outside training, by default the same. */
  readonly evalCapacityFactor?: number;
  /** Fewest slots of an expert in a group, 4 by default. */
  readonly minCapacity?: number;
  /** Tokens of a routing group; by default a group is a sequence, or all tokens if they have no `sequenceLength`. */
  readonly groupSize?: number;
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  secondChoice: oneOf("random", "always").optional(),
  capacityFactor: capacityFactorOption.optional(),
  evalCapacityFactor: capacityFactorOption.optional(),
  minCapacity: count.optional(),
  groupSize: positiveCount.optional(),
  gateStd: positive.optional(),
};

/**
 * Routes each token to its best expert, and to its second best if chance or the mode says so.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with 2 · T assignments. The weights are the two largest
 * softmax probabilities divided by their sum; they stay as they are when a choice is dropped. Of a second choice with
 * weight w (at most one half), 2 · w is the probability of use; one that is not used takes no slot. All first choices
 * come before all second ones where slots are short.
 *
 * `aux` holds `balance`, taken over first choices as published, and `zLoss`.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state. It is causal only without a capacity: a later first choice can take a second one's
 * slot.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if a key is missing while training.
 *
 * @example Everybody has two experts outside training
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gshardRouter, init, key, ones } from "@switchyard/switchyard";
 *
 * await init();
 * const router = gshardRouter({ width: 4, experts: 8, evalCapacityFactor: Infinity });
 * const plan = router.route(router.init(key(0)), { hidden: ones([3, 4]) });
 * assertEquals([plan.assignments, await plan.stats.dropped.item()], [6, 0]);
 * ```
 *
 * Source: Lepikhin et al. 2020, algorithm 1.
 */
export function gshardRouter(options: GshardRouterOptions): Router<TopKRouterParams> {
  expectOptions("gshardRouter", OPTIONS, options, () => {
    return options.experts >= 2 ? [] : [["experts", options.experts, "must be a whole number from 2 up"]];
  });
  const { experts, secondChoice = "random", capacityFactor = 1, evalCapacityFactor = capacityFactor } = options;
  const name = `gshard(2/${experts})`;

  function route({ gate }: TopKRouterParams, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    const { mask, sequenceLength, hidden } = tokens;
    const tokenCount = expectTokens(name, tokens);
    const logits = gateLogits(name, hidden, gate, options);
    const scored = scoreLogits(logits, "softmax");
    const { indices } = topK(logits, 2);
    const weights = weighChosen(scored, indices, "normalized"); // [T, 2]
    const choices = maskChoices(indices, mask, experts);
    const isRandom = context.train === true && secondChoice === "random";
    const groups = routingGroups({ tokens: tokenCount, groupSize: options.groupSize, sequenceLength });
    const plan = planFromTopK({
      experts,
      indices: isRandom
        ? withoutLightSeconds(choices, weights, experts, expectKey(name, "dispatch", context))
        : choices,
      weights,
      capacity: expertCapacity({
        groupSize: groups.groupSize,
        experts,
        k: 2,
        capacityFactor: context.train === true ? capacityFactor : evalCapacityFactor,
        minCapacity: options.minCapacity ?? 4,
      }),
      groups,
      meanDistribution: meanOfGroups(sumByGroup(scored.distribution, groups, mask), groups, mask),
    });
    const { load } = rankChoices({
      choices: sliceAxis(choices, 1, { stop: 1 }),
      groupOf: groupOfToken(groups),
      groups: groups.groups,
      experts,
      order: "tokenMajor",
    });
    const balance = balanceLoss({ distribution: scored.distribution, load, k: 1, groups, mask });
    return { ...plan, aux: { balance, zLoss: zLoss(logits, mask) } };
  }

  return {
    name,
    experts,
    causal: capacityFactor === Infinity && evalCapacityFactor === Infinity,
    init: (key: Key): TopKRouterParams => ({ gate: initGate(key, options) }),
    route,
  };
}

/** Takes back each second choice with a probability that falls with its weight. */
function withoutLightSeconds(choices: Tensor, weights: Tensor, experts: number, key: Key): Tensor {
  const tokens = choices.shape[0]!;
  const second = sliceAxis(choices, 1, { start: 1 }); // [T, 1]
  const probability = mul(sliceAxis(weights, 1, { start: 1 }), 2);
  const drawn = reshapeTo(uniform(key, [tokens]), [tokens, 1]);
  const used = where(less(drawn, probability), second, experts);
  return concat([sliceAxis(choices, 1, { stop: 1 }), used], { axis: 1 });
}
