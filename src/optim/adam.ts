/**
 * Adam, and AdamW with decoupled weight decay.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, mul } from "../ops/binary.ts";
import { expm1, neg, sqrt, square } from "../ops/unary.ts";
import { type LeafMap, leafOf, mapFloats } from "./leaves.ts";
import { belowOne, callback, expectOptions, nonNegative, type OptionShape, positive } from "../ops/options.ts";
import { learningRate as rateOption } from "./options.ts";
import { addDecayedWeights, type LeafPredicate, scaleByLearningRate, startCount, zeroMoments } from "./scale.ts";
import type { Schedule } from "./schedules.ts";
import { chain, type GradientTransform } from "./transform.ts";

/** Options of {@linkcode scaleByAdam}. */
export interface AdamMomentOptions {
  /** Decay of the mean of gradients; 0.9 by default. */
  readonly beta1?: number;
  /** Decay of the mean of squared gradients; 0.999 by default. */
  readonly beta2?: number;
  /** Added to the square root, outside it; 1e-8 by default. */
  readonly epsilon?: number;
}

/** State of {@linkcode scaleByAdam}. */
export interface AdamState {
  /** Finished steps, a u32 scalar. */
  readonly count: Tensor;
  /** Moving means of the gradients, f32. */
  readonly mean: LeafMap;
  /** Moving means of the squared gradients, f32. */
  readonly variance: LeafMap;
}

/**
 * 1 / (1 − beta^step): what a moving mean that started from zero is multiplied by. With expm1, because 1 − 0.999^step
 * loses most of its digits in the first steps.
 */
export function biasCorrection(beta: number, step: Tensor): Tensor {
  if (beta === 0) return fullLike(step.shape, "f32", 1);
  return div(1, neg(expm1(mul(castTo(step, "f32"), Math.log(beta)))));
}

/** Checks of the options that all forms of Adam share. */
export const momentOptions: OptionShape = {
  beta1: belowOne.optional(),
  beta2: belowOne.optional(),
  epsilon: positive.optional(),
};

/**
 * Divides the bias-corrected mean of the gradients by the root of their bias-corrected mean square.
 *
 * @throws {ConfigError} If an option is out of range.
 */
export function scaleByAdam(options: AdamMomentOptions = {}): GradientTransform<AdamState> {
  expectOptions("scaleByAdam", momentOptions, options);
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  return {
    init: (params) => ({ count: startCount(), mean: zeroMoments(params), variance: zeroMoments(params) }),
    update(grads, state) {
      const count = add(state.count, 1);
      const [meanFactor, varianceFactor] = [biasCorrection(beta1, count), biasCorrection(beta2, count)];
      const mean: Record<string, Tensor> = {};
      const variance: Record<string, Tensor> = {};
      const updates = mapFloats(grads, (grad, name) => {
        const m = add(mul(leafOf(state.mean, name, grad, "scaleByAdam"), beta1), mul(grad, 1 - beta1));
        const v = add(mul(leafOf(state.variance, name, grad, "scaleByAdam"), beta2), mul(square(grad), 1 - beta2));
        mean[name] = m;
        variance[name] = v;
        return div(mul(m, meanFactor), add(sqrt(mul(v, varianceFactor)), epsilon));
      });
      return [updates, { count, mean, variance }];
    },
  };
}

/** Options of {@linkcode adam}. */
export interface AdamOptions extends AdamMomentOptions {
  /** Step length, a number or a schedule. */
  readonly learningRate: number | Schedule;
}

/**
 * Adam: steps of about the learning rate in every coordinate, whatever the gradients' scale.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example The first step has the length of the learning rate
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { adam, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = adam({ learningRate: 0.1 });
 * const [update] = optimizer.update(tensor(-1234), optimizer.init(tensor(0)), tensor(0));
 * assertAlmostEquals(await update.item(), 0.1, 1e-5);
 * ```
 *
 * Source: Kingma and Ba 2014.
 */
export function adam(options: AdamOptions): GradientTransform {
  expectOptions("adam", { learningRate: rateOption, ...momentOptions }, options);
  const { learningRate, ...moments } = options;
  return chain(scaleByAdam(moments), scaleByLearningRate(learningRate));
}

/** Options of {@linkcode adamw}. */
export interface AdamWOptions extends AdamOptions {
  /** Share of each parameter that is subtracted, times the learning rate; 0.01 by default. */
  readonly weightDecay?: number;
  /** Which leaves decay; all by default. */
  readonly mask?: LeafPredicate;
}

/**
 * AdamW: Adam with weight decay that does not pass through the moments.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example Matrices decay, vectors do not
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { adamw, init, ones, read, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = adamw({ learningRate: 0.1, weightDecay: 0.5, mask: (_path, leaf) => leaf.shape.length > 1 });
 * const params = { weight: ones([2, 2]), bias: ones([2]) };
 * const [updates] = optimizer.update({ weight: zeros([2, 2]), bias: zeros([2]) }, optimizer.init(params), params);
 * const { weight, bias } = await read(updates);
 * assertAlmostEquals(weight[0]!, -0.05, 1e-6);
 * assertAlmostEquals(bias[0]!, 0, 1e-6);
 * ```
 *
 * Source: Loshchilov and Hutter 2017.
 */
export function adamw(options: AdamWOptions): GradientTransform {
  expectOptions("adamw", {
    learningRate: rateOption,
    ...momentOptions,
    weightDecay: nonNegative.optional(),
    mask: callback.optional(),
  }, options);
  const { learningRate, weightDecay = 0.01, mask = () => true, ...moments } = options;
  return chain(
    scaleByAdam(moments),
    addDecayedWeights({ rate: weightDecay, mask }),
    scaleByLearningRate(learningRate),
  );
}
