/**
 * The router of sigma-MoE: experts do not compete, so each is scored by the sigmoid of its logit.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { belowOne, expectOptions, oneOf, type OptionShape, positiveCount } from "../ops/options.ts";
import { takeAlong } from "../ops/gather.ts";
import { bernoulli } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { softmax } from "../ops/softmax.ts";
import { topK } from "../ops/top_k.ts";
import { meanOverTokens } from "./aux_losses.ts";
import { entropyRegularizer } from "./entropy_regularizer.ts";
import { gateLogits } from "./gate.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { scoreLogits, weighChosen } from "./score.ts";
import { initSigmaGate } from "./sigma_init.ts";
import { expectKey, expectTokens } from "./tokens.ts";
import { choiceProblems, type TopKRouterParams } from "./top_k_router.ts";

/**
 * What weighs an expert: the sigmoid of its logit, or one of the two forms it was compared with, the softmax over all
 * experts (`"softmax"`) or over the chosen ones (`"softmaxSelected"`).
 */
export type SigmaScore = "sigmoid" | "softmax" | "softmaxSelected";

/** Options of {@linkcode sigmaRouter}. */
export interface SigmaRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Experts a token visits, 1..E. */
  readonly k: number;
  /** While training, the probability that a token cannot have an expert; 0 by default. */
  readonly expertDropout?: number;
  /** What weighs an expert, `"sigmoid"` by default. */
  readonly score?: SigmaScore;
  /** Number of layers of the model, 1 by default: the initial gate has variance 2 / (D · layers). */
  readonly layers?: number;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  k: positiveCount,
  expertDropout: belowOne.optional(),
  score: oneOf("sigmoid", "softmax", "softmaxSelected").optional(),
  layers: positiveCount.optional(),
};

/** The experts of each token and their weights. */
interface Choice {
  /** u32[T, K], best first. */
  readonly indices: Tensor;
  /** f32[T, K]. */
  readonly weights: Tensor;
}

/**
 * Chooses among the available experts, bool[T, E], all by default. A token with fewer than k of them gets others too,
 * at weight 0.
 */
export function chooseAvailable(
  logits: Tensor,
  available: Tensor | undefined,
  { k, score = "sigmoid" }: Pick<SigmaRouterOptions, "k" | "score">,
): Choice {
  const { indices } = topK(available === undefined ? logits : where(available, logits, -Infinity), k);
  const scored = scoreLogits(logits, score === "sigmoid" ? "sigmoid" : "softmax");
  const weights = weighChosen(scored, indices, score === "softmaxSelected" ? score : "scores");
  return { indices, weights: available === undefined ? weights : where(takeAlong(available, indices), weights, 0) };
}

/**
 * Routes each token to its `k` best experts, weighed by the sigmoids of their logits as they are.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with T · k assignments; choice 0 has the highest score.
 * Nothing is dropped by capacity. Expert dropout takes each expert from each token with that probability before the
 * choice, and scales nothing; a token left with fewer than k experts visits others with weight 0. Ties go to the lower
 * expert.
 *
 * `aux` holds `entropyReg` ({@linkcode entropyRegularizer} of the logits before dropout), without a coefficient, in both
 * modes. The gate starts with columns of equal norm; {@linkcode sigmaExpertScales} starts the experts, which have relu
 * and no biases in the publication.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router without state.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if a key is missing while training
 *   with expert dropout.
 *
 * @example Weights do not compete
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, sigmaRouter, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const router = sigmaRouter({ width: 8, experts: 4, k: 2 });
 * const plan = router.route(router.init(key(0)), { hidden: zeros([3, 8]) });
 * assertEquals([...await plan.weight.data()], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
 * ```
 *
 * Source: Csordás et al. 2023.
 */
export function sigmaRouter(options: SigmaRouterOptions): Router<TopKRouterParams> {
  expectOptions("sigmaRouter", OPTIONS, options, () => choiceProblems(options));
  const { width, experts, k, expertDropout = 0, layers = 1 } = options;
  const name = `sigma(${k}/${experts})`;

  function route({ gate }: TopKRouterParams, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    const count = expectTokens(name, tokens);
    const { hidden, mask } = tokens;
    const logits = gateLogits(name, hidden, gate, options);
    const available = context.train === true && expertDropout > 0
      ? bernoulli(expectKey(name, "expert dropout", context), [count, experts], { probability: 1 - expertDropout })
      : undefined;
    const plan = planFromTopK({
      experts,
      ...chooseAvailable(logits, available, options),
      mask,
      meanDistribution: meanOverTokens(softmax(logits), mask),
    });
    return { ...plan, aux: { entropyReg: entropyRegularizer(logits, mask) } };
  }

  return {
    name,
    experts,
    causal: true,
    init: (key: Key): TopKRouterParams => ({ gate: initSigmaGate(key, { width, experts, layers }) }),
    route,
  };
}
