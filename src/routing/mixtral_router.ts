/**
 * The router of Mixtral, as a setting of the top-k router.
 *
 * @module
 */
import { expectOptions, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import type { Router } from "./plan_types.ts";
import { choiceProblems, gatedRouter, type TopKRouterParams } from "./top_k_router.ts";

/** Options of {@linkcode mixtralRouter}. */
export interface MixtralRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Experts a token visits, 2 by default. */
  readonly k?: number;
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  k: positiveCount.optional(),
  gateStd: positive.optional(),
};

/**
 * Routes each token to its `k` best experts and weighs them by the softmax over their logits alone: the top k first, the
 * softmax after.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with T · k assignments. Nothing is dropped, and a token's
 * weights sum to 1. Experts that were not chosen get no gradient from the task. `aux` holds `balance` (the published
 * coefficient is 0.02 for losses summed over both choices, which is 0.02 · k here) and `zLoss`.
 *
 * With k = 1 every weight is 1 and the gate learns from `aux` alone; use `switchRouter` for one expert a token.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router without state, the same in training and outside.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Weights of two experts
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { eye, init, mixtralRouter, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const router = mixtralRouter({ width: 3, experts: 3 });
 * const plan = router.route({ gate: eye(3) }, { hidden: tensor([[2, 1, 0]]) });
 * const [first] = await plan.weight.data();
 * assertAlmostEquals(first!, Math.E / (Math.E + 1), 1e-6);
 * ```
 *
 * Source: Jiang et al. 2024.
 */
export function mixtralRouter(options: MixtralRouterOptions): Router<TopKRouterParams> {
  const { k = 2, ...rest } = options;
  expectOptions("mixtralRouter", OPTIONS, options, () => choiceProblems({ ...rest, k }));
  return gatedRouter(`mixtral(${k}/${options.experts})`, { ...rest, k, weights: "softmaxSelected" });
}
