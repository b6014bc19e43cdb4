/**
 * The router of ReMoE: an expert is active where its logit is above 0, so routing is continuous and every token has as
 * many experts as it needs.
 *
 * @module
 */
import { castTo, expandTo, fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import { stopGradient } from "../core/grad.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { relu } from "../ops/activations.ts";
import { add, div, maximum, mul } from "../ops/binary.ts";
import { greater } from "../ops/compare.ts";
import { takeAlong } from "../ops/gather.ts";
import { expectOptions, numberThat, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { topK } from "../ops/top_k.ts";
import { balanceLoss } from "./aux_losses.ts";
import { gateLogits, initGate } from "./gate.ts";
import { routingGroups } from "./groups.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, PlanStats, Router, Tokens } from "./plan_types.ts";
import { expectArgument, expectTokens } from "./tokens.ts";

/** Options of {@linkcode reluRouter}. */
export interface ReluRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Experts a token should visit on average. */
  readonly k: number;
  /**
   * Most experts a token may visit, E by default: early in training nearly all are active. Below E the weakest are
   * dropped, which changes the function and makes it jump.
   */
  readonly maxExperts?: number;
  /** First coefficient of the sparsity loss, 1e-8 by default. */
  readonly initialCoefficient?: number;
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

/** Parameters of {@linkcode reluRouter}. */
export interface ReluRouterParams {
  /** Weight of the gate, f32[D, E]. */
  readonly gate: Tensor;
  /** Coefficient of the sparsity loss, f32 scalar: freeze it, {@linkcode controlSparsity} moves it. */
  readonly coefficient: Tensor;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  k: positive,
  maxExperts: positiveCount.optional(),
  initialCoefficient: positive.optional(),
  gateStd: positive.optional(),
};

function countProblems({ experts, k, maxExperts = experts }: ReluRouterOptions): readonly OptionProblem[] {
  const most = Math.min(maxExperts, experts);
  return [
    ...(maxExperts <= experts
      ? []
      : [["maxExperts", maxExperts, `must be at most experts, which is ${experts}`] as const]),
    ...(k <= most ? [] : [["k", k, `must be at most ${most}, the most experts a token may visit`] as const]),
  ];
}

/**
 * Routes each token to the experts whose logits are above 0, and weighs them by these logits.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E] -> plan with room for T · maxExperts assignments, of which only
 * the active ones have rows. A token without any gets nothing from the experts. Weights are exact, continuous functions
 * of the gate: there is no choice to leave out of the derivative.
 *
 * `aux` holds `sparsity`: the coefficient in the parameters times the balance loss with these weights as probabilities.
 * Add it to the loss as it is. {@linkcode controlSparsity} adapts the coefficient until tokens visit `k` experts on
 * average; leave it out of the optimizer with `freeze`. Inactive assignments count as dropped in the stats.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router; its state is the coefficient.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example One token with two experts, one with none
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { eye, init, key, reluRouter, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const router = reluRouter({ width: 3, experts: 3, k: 1 });
 * const params = { ...router.init(key(0)), gate: eye(3) };
 * const plan = router.route(params, { hidden: tensor([[1, -1, 2], [-1, -2, -3]]) });
 * assertEquals([...await plan.stats.counts.data()], [1, 0, 1]);
 * assertEquals([...await plan.weight.data()], [1, 0, 2, 0, 0, 0]);
 * ```
 *
 * Source: Wang, Chen and Zhu 2024 (ReMoE).
 */
export function reluRouter(options: ReluRouterOptions): Router<ReluRouterParams> {
  expectOptions("reluRouter", OPTIONS, options, () => countProblems(options));
  const { experts, k, maxExperts = experts, initialCoefficient = 1e-8 } = options;
  const name = `relu(${k}/${experts})`;

  function route({ gate, coefficient }: ReluRouterParams, tokens: Tokens): DispatchPlan {
    const count = expectTokens(name, tokens);
    const { mask } = tokens;
    expectArgument(name, "params.coefficient", coefficient, [], "float");
    const weights = relu(gateLogits(name, tokens.hidden, gate, options)); // [T, E]
    const candidates = maxExperts < experts
      ? topK(weights, maxExperts).indices
      : expandTo(iota([1, experts], "u32", 1), [count, experts]);
    const candidateWeights = maxExperts < experts ? takeAlong(weights, candidates) : weights;
    const plan = planFromTopK({
      experts,
      indices: where(greater(candidateWeights, 0), candidates, experts),
      weights: candidateWeights,
      mask,
    });
    const sparsity = balanceLoss({
      distribution: weights,
      load: reshapeTo(plan.stats.load, [1, experts]),
      k,
      groups: routingGroups({ tokens: count }),
      mask,
    });
    return { ...plan, aux: { sparsity: mul(sparsity, stopGradient(castTo(coefficient, "f32"))) } };
  }

  return {
    name,
    experts,
    causal: true,
    init: (key: Key): ReluRouterParams => ({
      gate: initGate(key, options),
      coefficient: fullLike([], "f32", initialCoefficient),
    }),
    route,
  };
}

/** Options of {@linkcode controlSparsity}. */
export interface ControlSparsityOptions {
  /** Experts a token should visit on average. */
  readonly k: number;
  /** Real tokens behind each plan: all of its tokens by default, so give it where there is padding. */
  readonly tokens?: number | Tensor;
  /** Factor by which the coefficient moves, 1.2 by default. */
  readonly factor?: number;
}

const CONTROL: OptionShape = {
  k: positive,
  factor: numberThat("must be a number above 1", (value) => value > 1 && value < Infinity).optional(),
};

/**
 * Adapts the coefficient of the sparsity loss: times `factor` if tokens visited more than `k` experts on average, divided
 * by it if fewer. Call it once after each optimizer step; it is pure and can be part of a jitted step.
 *
 * @param plans Plans of the step, or several: of all layers, which then share one course, or parts of a batch.
 * @returns New parameters; all but the coefficient are the same.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Too many experts
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { controlSparsity, init, key, ones, reluRouter } from "@switchyard/switchyard";
 *
 * await init();
 * const router = reluRouter({ width: 2, experts: 3, k: 1, initialCoefficient: 1 });
 * const params = { ...router.init(key(0)), gate: ones([2, 3]) };
 * const plan = router.route(params, { hidden: ones([4, 2]) });
 * assertAlmostEquals(await controlSparsity(params, plan, { k: 1 }).coefficient.item(), 1.2, 1e-6);
 * ```
 *
 * Source: Wang, Chen and Zhu 2024 (ReMoE), equation 8.
 */
export function controlSparsity<P extends { readonly coefficient: Tensor }>(
  params: P,
  plans: CountedPlan | readonly CountedPlan[],
  options: ControlSparsityOptions,
): P {
  const { tokens, ...checked } = options;
  expectOptions("controlSparsity", CONTROL, checked);
  const { k, factor = 1.2 } = options;
  const parts: readonly CountedPlan[] = Array.isArray(plans) ? plans : [plans];
  const visits = parts.map((plan) =>
    div(castTo(sum(plan.stats.counts), "f32"), maximum(castTo(tokensOf(plan, tokens), "f32"), 1))
  );
  const mean = div(visits.reduce((total, part) => add(total, part)), parts.length);
  const step = where(greater(stopGradient(mean), k), factor, 1 / factor);
  return { ...params, coefficient: mul(params.coefficient, castTo(step, params.coefficient.dtype)) };
}

/** What {@linkcode controlSparsity} reads of a plan. */
export interface CountedPlan {
  /** T. */
  readonly tokens: number;
  /** Its statistics. */
  readonly stats: Pick<PlanStats, "counts">;
}

function tokensOf(plan: CountedPlan, tokens: number | Tensor | undefined): Tensor {
  return typeof tokens === "object" ? tokens : fullLike([], "f32", tokens ?? plan.tokens);
}
