/**
 * Adafactor: second moments kept as one row and one column for each matrix, so that the state is nearly free.
 *
 * A "matrix" is the last two axes of a leaf; leading axes count matrices. A stack of experts [E, d, f] keeps [E, d] and
 * [E, f], and is clipped and scaled expert by expert, exactly as E separate leaves would be.
 *
 * @module
 */
import { z } from "zod";
import { castTo, zerosLike } from "../core/arithmetic.ts";
import type { Shape } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, maximum, mul } from "../ops/binary.ts";
import { mean } from "../ops/reduce.ts";
import { expm1, log, neg, rsqrt, sqrt, square } from "../ops/unary.ts";
import { unsqueeze } from "../ops/view.ts";
import { filterLeaves, floatLeaves, type LeafMap, leafOf, mapFloats, mapLeaves } from "./leaves.ts";
import { belowOne, callback, expectOptions, flag, nonNegative, positive, positiveCount } from "../ops/options.ts";
import { learningRate as rateOption } from "./options.ts";
import {
  addDecayedWeights,
  type LeafPredicate,
  movingAverage,
  scale,
  scaleByLearningRate,
  startCount,
} from "./scale.ts";
import { relativeStepSchedule, type Schedule } from "./schedules.ts";
import { chain, type GradientTransform, stateless } from "./transform.ts";

/** Root of the mean square of each matrix, [..., 1, 1]; of the whole leaf where it has fewer than two axes. */
function blockRms(x: Tensor): Tensor {
  const axis = x.shape.length < 2 ? x.shape.map((_, i) => i) : [-2, -1];
  return sqrt(mean(square(x), { axis, keepDims: true }));
}

/** Options of {@linkcode scaleByFactoredRms}. */
export interface FactoredRmsOptions {
  /** How fast old statistics fade: their share at step t is 1 − t^−decayRate; 0.8 by default. */
  readonly decayRate?: number;
  /** Matrices with a side below this keep the full second moment; 128 by default. */
  readonly minFactoredSize?: number;
  /** Added to squared gradients; 1e-30 by default. */
  readonly epsilon?: number;
}

/** State of {@linkcode scaleByFactoredRms}: each leaf is in `row` and `column`, or in `full`. */
export interface FactoredRmsState {
  /** Finished steps, a u32 scalar. */
  readonly count: Tensor;
  /** Mean squares over the last axis, [..., d]. */
  readonly row: LeafMap;
  /** Mean squares over the last axis but one, [..., f]. */
  readonly column: LeafMap;
  /** Mean squares of leaves that are not factored. */
  readonly full: LeafMap;
}

const factoredOptions = {
  decayRate: positive.optional(),
  minFactoredSize: positiveCount.optional(),
  epsilon: positive.optional(),
};

/**
 * Divides gradients by the root of their mean square, which is estimated from row and column means.
 *
 * @throws {ConfigError} If an option is out of range.
 */
export function scaleByFactoredRms(options: FactoredRmsOptions = {}): GradientTransform<FactoredRmsState> {
  expectOptions("scaleByFactoredRms", factoredOptions, options);
  const { decayRate = 0.8, minFactoredSize = 128, epsilon = 1e-30 } = options;
  const isFactored = (shape: Shape) => shape.length >= 2 && Math.min(...shape.slice(-2)) >= minFactoredSize;
  function zerosOf(leaves: LeafMap, shapeOf: (shape: Shape) => Shape): LeafMap {
    return mapLeaves(leaves, ({ shape }) => zerosLike({ shape: shapeOf(shape), dtype: "f32" }));
  }
  return {
    init(params) {
      const leaves = floatLeaves(params);
      const factored = filterLeaves(leaves, (_, { shape }) => isFactored(shape));
      return {
        count: startCount(),
        row: zerosOf(factored, (shape) => shape.slice(0, -1)),
        column: zerosOf(factored, (shape) => [...shape.slice(0, -2), shape.at(-1)!]),
        full: zerosOf(filterLeaves(leaves, (_, { shape }) => !isFactored(shape)), (shape) => shape),
      };
    },
    update(grads, state) {
      const count = add(state.count, 1);
      // 1 − t^−decayRate and its complement, each without cancellation.
      const faded = mul(log(castTo(count, "f32")), -decayRate);
      const kept = neg(expm1(faded));
      const fresh = add(expm1(faded), 1);
      const row: Record<string, Tensor> = {};
      const column: Record<string, Tensor> = {};
      const full: Record<string, Tensor> = {};
      function blend(map: LeafMap, name: string, statistic: Tensor): Tensor {
        return add(mul(leafOf(map, name, statistic, "scaleByFactoredRms"), kept), mul(statistic, fresh));
      }
      const updates = mapFloats(grads, (grad, name) => {
        const squares = add(square(grad), epsilon); // [..., d, f]
        if (!isFactored(grad.shape)) {
          const total = full[name] = blend(state.full, name, squares);
          return mul(grad, rsqrt(total));
        }
        const rows = row[name] = blend(state.row, name, mean(squares, { axis: -1 })); // [..., d]
        const columns = column[name] = blend(state.column, name, mean(squares, { axis: -2 })); // [..., f]
        const rowFactor = rsqrt(div(rows, mean(rows, { axis: -1, keepDims: true })));
        return mul(mul(grad, unsqueeze(rowFactor, -1)), unsqueeze(rsqrt(columns), -2));
      });
      return [updates, { count, row, column, full }];
    },
  };
}

/** Shrinks the update of each matrix so that the root of its mean square is at most `threshold`. */
export function clipByBlockRms(threshold: number): GradientTransform<null> {
  expectOptions("clipByBlockRms", { threshold: positive }, { threshold });
  return stateless((updates) =>
    mapFloats(updates, (update) => div(update, maximum(div(blockRms(update), threshold), 1)))
  );
}

/** Multiplies the update of each matrix by the root mean square of its parameter, or by `least` if that is larger. */
export function scaleByParameterRms(least: number = 1e-3): GradientTransform<null> {
  expectOptions("scaleByParameterRms", { least: positive }, { least });
  return stateless((updates, params) => {
    const weights = floatLeaves(params);
    return mapFloats(updates, (update, name) => mul(update, maximum(blockRms(castTo(weights[name]!, "f32")), least)));
  });
}

/** Options of {@linkcode adafactor}. */
export interface AdafactorOptions extends FactoredRmsOptions {
  /** Step length; by default {@linkcode relativeStepSchedule}, which suits steps relative to the parameters' size. */
  readonly learningRate?: number | Schedule;
  /** Multiplies the step by the parameter's size; true by default. */
  readonly multiplyByParameterScale?: boolean;
  /** Largest root mean square of a matrix's update before the learning rate; 1 by default, null for no limit. */
  readonly clippingThreshold?: number | null;
  /** Decay of a moving average of the updates; 0 by default, which keeps none. */
  readonly momentum?: number;
  /** Share of each parameter that is subtracted, NOT times the learning rate; 0 by default. */
  readonly weightDecay?: number;
  /** Which leaves decay; all by default. */
  readonly mask?: LeafPredicate;
}

/**
 * Adafactor: Adam's step length with a state of d + f numbers for a matrix of d · f, relative to the parameter's size.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example A stack of experts keeps two vectors for each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, ones, scaleByFactoredRms } from "@switchyard/switchyard";
 *
 * await init();
 * const { row, column } = scaleByFactoredRms({ minFactoredSize: 4 }).init({ up: ones([3, 4, 8]) });
 * assertEquals([row.up!.shape, column.up!.shape], [[3, 4], [3, 8]]);
 * ```
 *
 * Source: Shazeer and Stern 2018; the order of the parts is optax's.
 */
export function adafactor(options: AdafactorOptions = {}): GradientTransform {
  expectOptions("adafactor", {
    ...factoredOptions,
    learningRate: rateOption.optional(),
    multiplyByParameterScale: flag.optional(),
    clippingThreshold: z.union([z.null(), positive], { error: "must be a number above 0, or null" }).optional(),
    momentum: belowOne.optional(),
    weightDecay: nonNegative.optional(),
    mask: callback.optional(),
  }, options);
  const {
    learningRate = relativeStepSchedule(),
    multiplyByParameterScale = true,
    clippingThreshold = 1,
    momentum = 0,
    weightDecay = 0,
    mask = () => true,
    ...factored
  } = options;
  return chain(
    scaleByFactoredRms(factored),
    ...(clippingThreshold === null ? [] : [clipByBlockRms(clippingThreshold)]),
    scaleByLearningRate(learningRate),
    ...(multiplyByParameterScale ? [scaleByParameterRms()] : []),
    ...(momentum === 0 ? [] : [movingAverage(momentum)]),
    // The learning rate has turned the update around already, so the decay is subtracted here.
    ...(weightDecay === 0 ? [] : [scale(-1), addDecayedWeights({ rate: weightDecay, mask }), scale(-1)]),
  );
}
