/**
 * The router of Switch Transformers, as a setting of the top-k router.
 *
 * @module
 */
import { belowOne, count, expectOptions, oneOf, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import type { Router } from "./plan_types.ts";
import { capacityFactorOption, gatedRouter, retryProblems, type TopKRouterParams } from "./top_k_router.ts";

/** Options of {@linkcode switchRouter}. */
export interface SwitchRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Slots of an expert in a group while training, in proportion to an even load; 1.25 by default. */
  readonly capacityFactor?: number;
  /** The factor outside training, 2 by default. With Infinity a token's result does not depend on other tokens. */
  readonly evalCapacityFactor?: number;
  /** Fewest slots of an expert in a group, 4 by default. */
  readonly minCapacity?: number;
  /** Tokens of a routing group; by default a group is a sequence, or all tokens if they have no `sequenceLength`. */
  readonly groupSize?: number;
  /** Who is served first: tokens in their order (`"token"`, the default), or by falling probability, which no causal model can. */
  readonly priority?: "token" | "probability";
  /** No token left behind: how many more experts a token tries where its best is full, 0 by default. Not causal. */
  readonly retries?: number;
  /** While training, the gate sees each hidden value times a number in 1 - jitter to 1 + jitter; 0.01 by default. */
  readonly jitter?: number;
  /** While training, the share of hidden values that the gate does not see; 0 by default. */
  readonly inputDropout?: number;
  /** How the expert is chosen while training: `"best"` (the default), or `"sampled"` by probability. */
  readonly selection?: "best" | "sampled";
  /** Variance of the initial gate times D, 0.1 by default: a tenth of the usual variance, for stability. */
  readonly initScale?: number;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  capacityFactor: capacityFactorOption.optional(),
  evalCapacityFactor: capacityFactorOption.optional(),
  minCapacity: count.optional(),
  groupSize: positiveCount.optional(),
  priority: oneOf("token", "probability").optional(),
  retries: count.optional(),
  jitter: belowOne.optional(),
  inputDropout: belowOne.optional(),
  selection: oneOf("best", "sampled").optional(),
  initScale: positive.optional(),
};

/**
 * Routes each token to its best expert and weighs it by its softmax probability.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with T assignments. The weight is the probability itself:
 * normalized over a single expert it would be the constant 1, and the gate would learn nothing from the task. A token
 * that comes after its expert's slots are full is dropped: the experts add nothing to it and the residual carries it on.
 * `aux` holds `balance` (the published coefficient is 0.01) and `zLoss` (0.001, where used).
 *
 * The gate starts as a normal distribution cut at two deviations, of deviation sqrt(initScale / D). It is computed in
 * f32 for every type of hidden states; the jitter reaches the gate and not the experts.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state, causal unless tokens have priority by probability or retries.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Six tokens, three experts, two slots each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { eye, init, switchRouter, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const router = switchRouter({ width: 3, experts: 3, evalCapacityFactor: 1, minCapacity: 1 });
 * const hidden = tensor([[2, 1, 0], [1.5, 0, 0.5], [1, 0, 0], [0, 2, 1], [3, 0, 0], [0.2, 0.1, 0.9]]);
 * const plan = router.route({ gate: eye(3) }, { hidden });
 * assertEquals([...await plan.stats.load.data()], [4, 1, 1]);
 * assertEquals([...await plan.stats.counts.data()], [2, 1, 1]);
 * ```
 *
 * Source: Fedus et al. 2021; the z-loss is of Zoph et al. 2022.
 */
export function switchRouter(options: SwitchRouterOptions): Router<TopKRouterParams> {
  expectOptions("switchRouter", OPTIONS, options, () => retryProblems(options));
  const {
    capacityFactor = 1.25,
    evalCapacityFactor = 2,
    minCapacity = 4,
    priority = "token",
    jitter = 0.01,
    initScale = 0.1,
    ...sizes
  } = options;
  return gatedRouter(`switch(${options.experts})`, {
    ...sizes,
    k: 1,
    score: "softmax",
    weights: "scores",
    capacityFactor,
    evalCapacityFactor,
    minCapacity,
    capacityOrder: priority === "token" ? "choiceMajor" : "priority",
    jitter,
    gateInit: "truncatedNormal",
    gateStd: Math.sqrt(initScale / options.width),
  });
}
