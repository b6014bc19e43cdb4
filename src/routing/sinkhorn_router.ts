/**
 * The router of S-BASE: experts are chosen from a balanced soft assignment while training, by their logits outside.
 *
 * @module
 */
import { stopGradient } from "../core/grad.ts";
import type { Key } from "../core/key.ts";
import { expectOptions, oneOf, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { topK } from "../ops/top_k.ts";
import { meanOverTokens } from "./aux_losses.ts";
import { finiteScores } from "./finite_scores.ts";
import { gateLogits, initGate } from "./gate.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { scoreLogits, weighChosen } from "./score.ts";
import { sinkhorn, type SinkhornShifts } from "./sinkhorn.ts";
import { expectTokens } from "./tokens.ts";
import { choiceProblems, type TopKRouterParams } from "./top_k_router.ts";

/** Options of {@linkcode sinkhornRouter}. */
export interface SinkhornRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Experts a token visits, 1 by default. */
  readonly k?: number;
  /** Rounds of Sinkhorn's algorithm while training, 10 by default. */
  readonly iterations?: number;
  /**
   * `"added"` (the default) for Sinkhorn's algorithm, `"subtracted"` to repeat the runs of sigma-MoE's published code,
   * whose rounds balance less.
   */
  readonly shifts?: SinkhornShifts;
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  k: positiveCount.optional(),
  iterations: positiveCount.optional(),
  shifts: oneOf("added", "subtracted").optional(),
  gateStd: positive.optional(),
};

/**
 * Routes each token to the `k` experts with the largest share of it in a soft assignment that is even over experts.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with T · k assignments. While training the assignment is
 * {@linkcode sinkhorn} of the logits; outside it is the logits. Weights are of the raw logits in both: sigmoids for
 * k = 1, softmax probabilities for more. The gate learns through them alone, and `aux` is empty. Loads are nearly even
 * but not exactly, and nothing is dropped.
 *
 * Logits that are not finite count as the lowest or highest of the batch while experts are chosen; the weight of such a
 * token shows them.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state. It is causal outside training; while training a choice depends on the batch.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example A gate that prefers one expert
 * ```ts
 * import { assert } from "@std/assert";
 * import { add, init, key, normal, sinkhornRouter, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const router = sinkhornRouter({ width: 2, experts: 2 });
 * const params = { gate: tensor([[1, 0], [0, 1]]) };
 * const hidden = add(normal(key(0), [64, 2]), tensor([3, 0]));
 * const [alone] = await router.route(params, { hidden }).stats.load.data();
 * const [balanced] = await router.route(params, { hidden }, { train: true }).stats.load.data();
 * assert(alone! > 60 && balanced! < 40);
 * ```
 *
 * Source: Clark et al. 2022.
 */
export function sinkhornRouter(options: SinkhornRouterOptions): Router<TopKRouterParams> {
  const { k = 1, iterations = 10, shifts = "added", experts } = options;
  expectOptions("sinkhornRouter", OPTIONS, options, () => choiceProblems({ experts, k }));
  const name = `sinkhorn(${k}/${experts})`;

  function route({ gate }: TopKRouterParams, tokens: Tokens, { train = false }: RouteContext = {}): DispatchPlan {
    expectTokens(name, tokens);
    const { mask } = tokens;
    const logits = gateLogits(name, tokens.hidden, gate, options);
    const scored = scoreLogits(logits, k === 1 ? "sigmoid" : "softmax");
    const preferences = train
      ? sinkhorn(finiteScores(stopGradient(logits), mask).scores, { iterations, mask, shifts })
      : logits;
    const { indices } = topK(preferences, k);
    return planFromTopK({
      experts,
      indices,
      weights: weighChosen(scored, indices, "scores"),
      mask,
      meanDistribution: meanOverTokens(scored.distribution, mask),
    });
  }

  return {
    name,
    experts,
    causal: true,
    init: (key: Key): TopKRouterParams => ({ gate: initGate(key, options) }),
    route,
  };
}
