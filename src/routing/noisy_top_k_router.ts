/**
 * Noisy top-k: learned noise on the logits while training, and a smooth estimate of the load to balance.
 *
 * @module
 */
import { castTo, reshapeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { softplus } from "../ops/activations.ts";
import { add, div, mul, sub } from "../ops/binary.ts";
import { greater } from "../ops/compare.ts";
import { zeros } from "../ops/creation.ts";
import { erf } from "../ops/error_function.ts";
import { oneHot } from "../ops/gather.ts";
import { expectOptions, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { sum } from "../ops/reduce.ts";
import { normal } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import { topK } from "../ops/top_k.ts";
import { meanOverTokens, squaredVariation, sumOverTokens } from "./aux_losses.ts";
import { gateInput, throughGate } from "./gate.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { scoreLogits, weighChosen } from "./score.ts";
import { expectKey, expectTokens } from "./tokens.ts";

/** Options of {@linkcode noisyTopKRouter}. */
export interface NoisyTopKRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /** Experts a token visits, below E: the smooth load compares with the best expert that was not chosen. */
  readonly k: number;
  /** Least standard deviation of the noise, 0.01 by default. */
  readonly noiseFloor?: number;
}

/** Parameters of {@linkcode noisyTopKRouter}. */
export interface NoisyTopKRouterParams {
  /** Weight of the gate, f32[D, E]. */
  readonly gate: Tensor;
  /** Weight that makes the deviation of the noise, f32[D, E]. */
  readonly noise: Tensor;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  k: positiveCount,
  noiseFloor: positive.optional(),
};

/**
 * Routes each token to the `k` best experts by logits with learned noise, weighed by the softmax over those.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` and `params.noise` [D, E] -> plan with T · k assignments. While training
 * the logits are `x · gate + ε · (softplus(x · noise) + noiseFloor)` with ε drawn from the normal distribution; outside,
 * there is no noise. Both weights start at 0: experts start even, and chance alone decides.
 *
 * `aux` holds `importance`, the squared coefficient of variation of the summed weights over experts, and `load`, the
 * same of the expected number of tokens: while training, each expert's probability to be among the k best if its own
 * noise were drawn again. Outside training `load` is of the hard counts, without gradient. The published coefficients
 * are 0.1. The variance is the population's.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router without state.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if a key is missing while training.
 *
 * @example Noise spreads tokens that are all alike
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { init, key, noisyTopKRouter, ones } from "@switchyard/switchyard";
 *
 * await init();
 * const router = noisyTopKRouter({ width: 4, experts: 4, k: 1 });
 * const [params, hidden] = [router.init(key(0)), ones([64, 4])];
 * assertEquals([...await router.route(params, { hidden }).stats.load.data()], [64, 0, 0, 0]);
 * const plan = router.route(params, { hidden }, { train: true, key: key(1) });
 * assert((await plan.stats.load.data()).every((load) => load > 0));
 * ```
 *
 * Source: Shazeer et al. 2017, sections 2.1, 4 and appendix A.
 */
export function noisyTopKRouter(options: NoisyTopKRouterOptions): Router<NoisyTopKRouterParams> {
  expectOptions("noisyTopKRouter", OPTIONS, options, () => {
    const { experts, k } = options;
    return k < experts ? [] : [["k", k, `must be below experts, which is ${experts}`]];
  });
  const { width, experts, k, noiseFloor = 0.01 } = options;
  const name = `noisyTopK(${k}/${experts})`;

  function route(params: NoisyTopKRouterParams, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    const count = expectTokens(name, tokens);
    const { mask } = tokens;
    const seen = gateInput(name, tokens.hidden, width);
    const clean = throughGate(name, seen, params.gate, options);
    const deviation = add(softplus(throughGate(name, seen, params.noise, options, "noise")), noiseFloor);
    const isTraining = context.train === true;
    const noisy = isTraining
      ? add(clean, mul(normal(expectKey(name, "noise", context), [count, experts]), deviation))
      : clean;
    const { values, indices } = topK(noisy, k + 1);
    const chosen = sliceAxis(indices, 1, { stop: k });
    const scored = scoreLogits(noisy, "softmax");
    const weights = weighChosen(scored, chosen, "softmaxSelected"); // [T, K]
    const plan = planFromTopK({
      experts,
      indices: chosen,
      weights,
      mask,
      meanDistribution: meanOverTokens(scored.distribution, mask),
    });
    const last = sliceAxis(values, 1, { start: k - 1, stop: k }); // [T, 1]
    const best = sliceAxis(values, 1, { start: k }); // of those not chosen
    const picks = oneHot(chosen, experts); // [T, K, E]
    const importance = sumOverTokens(sum(mul(picks, reshapeTo(weights, [count, k, 1])), { axis: 1 }), mask);
    const isChosen = greater(sum(picks, { axis: 1 }), 0);
    // An expert is among the best while it beats the last one it would push out.
    const rival = where(isChosen, best, last);
    const load = isTraining
      ? sumOverTokens(normalCdf(div(sub(clean, rival), deviation)), mask)
      : castTo(plan.stats.load, "f32");
    return { ...plan, aux: { importance: squaredVariation(importance), load: squaredVariation(load) } };
  }

  return {
    name,
    experts,
    causal: true,
    init: (): NoisyTopKRouterParams => ({ gate: zeros([width, experts]), noise: zeros([width, experts]) }),
    route,
  };
}

/** Probability of a normal variable to be below x. */
function normalCdf(x: Tensor): Tensor {
  return mul(add(erf(mul(x, Math.SQRT1_2)), 1), 0.5);
}
