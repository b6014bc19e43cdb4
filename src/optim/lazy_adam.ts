/**
 * Adam for tables of which a step touches few rows: embeddings, and the values of memories.
 *
 * @module
 */
import { castTo, reshapeTo, zerosLike } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, maximum, mul } from "../ops/binary.ts";
import { notEqual } from "../ops/compare.ts";
import { any } from "../ops/extremum.ts";
import { expectOptions } from "../ops/options.ts";
import { where } from "../ops/select.ts";
import { sqrt, square } from "../ops/unary.ts";
import { type AdamMomentOptions, type AdamOptions, biasCorrection, momentOptions } from "./adam.ts";
import { floatLeaves, type LeafMap, leafOf, mapFloats, mapLeaves } from "./leaves.ts";
import { learningRate as rateOption } from "./options.ts";
import { scaleByLearningRate, zeroMoments } from "./scale.ts";
import { chain, type GradientTransform } from "./transform.ts";

/** State of {@linkcode scaleByLazyAdam}. */
export interface LazyAdamState {
  /** Steps that touched each row, u32[N]; a scalar parameter counts as one row. */
  readonly counts: LeafMap;
  /** Moving means of the gradients, f32. */
  readonly mean: LeafMap;
  /** Moving means of the squared gradients, f32. */
  readonly variance: LeafMap;
}

/** Which rows of a gradient [N, ...R] are not all zero, bool[N]. */
function touchedRows(grad: Tensor): Tensor {
  const isNonzero = notEqual(grad, 0);
  return grad.shape.length < 2 ? isNonzero : any(isNonzero, { axis: grad.shape.slice(1).map((_, i) => i + 1) });
}

/** Gives one number for each row the rank of the rows' tensor. */
function byRow(numbers: Tensor, like: Tensor): Tensor {
  return reshapeTo(numbers, like.shape.map((size, axis) => axis === 0 ? size : 1));
}

/**
 * Scales like `scaleByAdam`, but only rows (slices along axis 0) whose gradient is not all zero; moments and bias
 * correction of the others stand still, and their updates are zero.
 *
 * Each row is treated as if Adam had seen no step but those that touched it. Where every step touches all rows the result
 * is Adam's. Gradients are dense here, so this saves no memory and no time: it changes what rare rows learn, whose moments
 * would otherwise decay, and which would go on moving, between two uses.
 *
 * @throws {ConfigError} If an option is out of range.
 */
export function scaleByLazyAdam(options: AdamMomentOptions = {}): GradientTransform<LazyAdamState> {
  expectOptions("scaleByLazyAdam", momentOptions, options);
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  return {
    init: (params) => ({
      counts: mapLeaves(floatLeaves(params), ({ shape }) => zerosLike({ shape: shape.slice(0, 1), dtype: "u32" })),
      mean: zeroMoments(params),
      variance: zeroMoments(params),
    }),
    update(grads, state) {
      const counts: Record<string, Tensor> = {};
      const mean: Record<string, Tensor> = {};
      const variance: Record<string, Tensor> = {};
      const updates = mapFloats(grads, (grad, name) => {
        const [before, oldMean, oldVariance] = [state.counts, state.mean, state.variance]
          .map((map) => leafOf(map, name, grad, "scaleByLazyAdam")) as [Tensor, Tensor, Tensor];
        const touched = touchedRows(grad);
        const count = add(before, castTo(touched, "u32"));
        const isTouched = byRow(touched, grad);
        const m = where(isTouched, add(mul(oldMean, beta1), mul(grad, 1 - beta1)), oldMean);
        const v = where(isTouched, add(mul(oldVariance, beta2), mul(square(grad), 1 - beta2)), oldVariance);
        counts[name] = count;
        mean[name] = m;
        variance[name] = v;
        // A row without a step would divide by zero; what it is divided by instead does not matter.
        const steps = maximum(count, 1);
        const [meanFactor, varianceFactor] = [beta1, beta2].map((beta) => byRow(biasCorrection(beta, steps), grad)) as [
          Tensor,
          Tensor,
        ];
        return where(isTouched, div(mul(m, meanFactor), add(sqrt(mul(v, varianceFactor)), epsilon)), 0);
      });
      return [updates, { counts, mean, variance }];
    },
  };
}

/**
 * Adam on the rows that a step touches, as {@linkcode scaleByLazyAdam} says.
 *
 * Use it for one kind of leaf inside a chain with `masked`, or alone. Weight decay has no place here: it would touch
 * every row. The published rate for values of a product-key memory is a constant 1e-3.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example A row without a gradient rests
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, lazyAdam, tensor, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = lazyAdam({ learningRate: 0.5 });
 * const values = zeros([2, 2]);
 * const [first, state] = optimizer.update(tensor([[4, 4], [0, 0]]), optimizer.init(values), values);
 * const [second] = optimizer.update(tensor([[0, 0], [9, 9]]), state, values);
 * const rounded = async (x: typeof first) => [...await x.data()].map((value) => Math.round(-100 * value) + 0);
 * assertEquals([await rounded(first), await rounded(second)], [[50, 50, 0, 0], [0, 0, 50, 50]]);
 * ```
 *
 * Source: Kingma and Ba 2014 for Adam; Lample et al. 2019 for its use on the rows that were read.
 */
export function lazyAdam(options: AdamOptions): GradientTransform {
  expectOptions("lazyAdam", { learningRate: rateOption, ...momentOptions }, options);
  const { learningRate, ...moments } = options;
  return chain(scaleByLazyAdam(moments), scaleByLearningRate(learningRate));
}
