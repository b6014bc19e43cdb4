/**
 * Expert Choice: experts choose tokens, so every expert is exactly full and tokens have from 0 to E experts.
 *
 * @module
 */
import { expandTo, fullLike, iota, reshapeTo, transposeTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, mul, remainder } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { takeAlong } from "../ops/gather.ts";
import { group } from "../ops/group.ts";
import { expectOptions, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { takeRows } from "../ops/rows.ts";
import { where } from "../ops/select.ts";
import { topK } from "../ops/top_k.ts";
import { stopGradient } from "../core/grad.ts";
import { meanOverTokens } from "./aux_losses.ts";
import { expertCapacity } from "./capacity.ts";
import { gateLogits, initGate } from "./gate.ts";
import { type RoutingGroups, routingGroups, splitByGroup } from "./groups.ts";
import { planFromAssignments } from "./plan.ts";
import type { DispatchPlan, Router, Tokens } from "./plan_types.ts";
import { scoreLogits } from "./score.ts";
import { expectTokens } from "./tokens.ts";
import type { TopKRouterParams } from "./top_k_router.ts";

/** Options of {@linkcode expertChoiceRouter}. */
export interface ExpertChoiceRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Experts of a token on average: each expert takes this share of the tokens of a group, divided by E; 2 by default. */
  readonly capacityFactor?: number;
  /** Tokens of a group that experts choose from; by default a sequence, or all tokens if they have no `sequenceLength`. */
  readonly groupSize?: number;
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  capacityFactor: positive.optional(),
  groupSize: positiveCount.optional(),
  gateStd: positive.optional(),
};

/**
 * Lets each expert take the tokens of a group that score highest with it.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with G · E · C assignments for G groups, where
 * C = max(1, floor(capacityFactor · S / E)) for groups of S tokens, at most S. Assignments are grouped by token in
 * `tokenOffsets`. A token's scores are its softmax over experts, and they are the weights as they are. Without padding
 * every expert has G · C rows whatever the scores are. `aux` is empty: there is nothing to balance. A token that nobody
 * takes gets nothing from the experts; so does one whose scores are NaN, unless too few others are left.
 *
 * Whether a token is taken depends on all tokens of its group, later ones too. `causal` is false, and a model that
 * generates must refuse this router: see {@linkcode expectCausal}.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state that is not causal, the same in training and outside.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Every expert is full
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { expertChoiceRouter, init, key, normal } from "@switchyard/switchyard";
 *
 * await init();
 * const router = expertChoiceRouter({ width: 8, experts: 4 });
 * const plan = router.route(router.init(key(0)), { hidden: normal(key(1), [12, 8]) });
 * assertEquals([...await plan.expertOffsets.data()], [0, 6, 12, 18, 24]);
 * ```
 *
 * Source: Zhou et al. 2022.
 */
export function expertChoiceRouter(options: ExpertChoiceRouterOptions): Router<TopKRouterParams> {
  expectOptions("expertChoiceRouter", OPTIONS, options);
  const { experts, capacityFactor = 2, groupSize } = options;
  const name = `expertChoice(${capacityFactor}/${experts})`;

  function route({ gate }: TopKRouterParams, tokens: Tokens): DispatchPlan {
    const count = expectTokens(name, tokens);
    const { mask, sequenceLength, hidden } = tokens;
    const { scores } = scoreLogits(gateLogits(name, hidden, gate, options), "softmax");
    const groups = routingGroups({ tokens: count, groupSize, sequenceLength });
    const capacity = expertCapacity({ groupSize: groups.groupSize, experts, k: 1, capacityFactor, minCapacity: 1 });
    const { taken, weights } = takeBest(scores, groups, Math.min(capacity, groups.groupSize), mask);

    // Sorting what experts took by token makes it assignments; inside a token experts ascend.
    const { offsets, order } = group(taken, count);
    const perGroup = experts * (taken.size / (groups.groups * experts));
    const expertOf = div(remainder(order, perGroup), perGroup / experts);
    const plan = planFromAssignments({
      experts,
      indices: expertOf,
      weights: takeRows(weights, order),
      tokenOffsets: offsets,
      mask,
      meanDistribution: meanOverTokens(scores, mask),
    });
    const isFull = mask === undefined && count === groups.groups * groups.groupSize;
    return isFull ? { ...plan, expertOffsets: mul(iota([experts + 1], "u32", 0), taken.size / experts) } : plan;
  }

  return {
    name,
    experts,
    causal: false,
    init: (key: Key): TopKRouterParams => ({ gate: initGate(key, options) }),
    route,
  };
}

/** Tokens that experts take, in order of group, expert and rank; from T up where there is none. Both are [G · E · C]. */
function takeBest(
  scores: Tensor,
  groups: RoutingGroups,
  capacity: number,
  mask: Tensor | undefined,
): { readonly taken: Tensor; readonly weights: Tensor } {
  const [tokens] = scores.shape as [number, number];
  const real = mask ?? fullLike([tokens], "bool", 1);
  const byExpert = transposeTo(splitByGroup(scores, groups), [0, 2, 1]); // [G, E, S]
  // Padding, and the room that short groups have left, is taken last.
  const isReal = reshapeTo(splitByGroup(real, groups), [groups.groups, 1, groups.groupSize]);
  const { indices } = topK(where(isReal, stopGradient(byExpert), -1), capacity); // [G, E, C]
  const names = reshapeTo(
    splitByGroup(where(real, add(iota([tokens], "u32", 0), 1), 0), groups),
    [groups.groups, 1, groups.groupSize],
  );
  const named = takeAlong(expandTo(names, byExpert.shape), indices); // a token's number plus 1, 0 for none
  const size = indices.size;
  const weights = reshapeTo(takeAlong(byExpert, indices), [size]);
  const flat = reshapeTo(named, [size]);
  const isNobody = less(flat, 1);
  return { taken: where(isNobody, tokens, add(flat, 0xffffffff)), weights: where(isNobody, 0, weights) };
}
