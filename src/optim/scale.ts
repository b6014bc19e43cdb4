/**
 * The small transforms that optimizers are chained from: scaling, averaging, decay.
 *
 * @module
 */
import { castTo, zerosLike } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul } from "../ops/binary.ts";
import { scalar } from "../ops/creation.ts";
import { neg } from "../ops/unary.ts";
import { floatLeaves, type LeafMap, leafOf, leafPath, mapFloats, mapLeaves } from "./leaves.ts";
import { belowOne as decayOption, callback, expectOptions, finite, flag, nonNegative } from "../ops/options.ts";
import type { Schedule } from "./schedules.ts";
import { type GradientTransform, stateless } from "./transform.ts";

/** Chooses leaves by path (such as `.layers[0].weight`) and shape. */
export type LeafPredicate = (path: string, leaf: Tensor) => boolean;

/** State of a transform that only counts steps. */
export interface CountState {
  /** Finished steps, a u32 scalar. */
  readonly count: Tensor;
}

/** State of a transform that averages updates. */
export interface TraceState {
  /** The running sum or mean, by parameter. */
  readonly trace: LeafMap;
}

/** A count before the first step. */
export function startCount(): Tensor {
  return scalar(0, { dtype: "u32" });
}

/** A zero in f32 for every float leaf. */
export function zeroMoments(params: unknown): LeafMap {
  return mapLeaves(floatLeaves(params), ({ shape }) => zerosLike({ shape, dtype: "f32" }));
}

/** Multiplies updates by a number. */
export function scale(factor: number): GradientTransform<null> {
  expectOptions("scale", { factor: finite }, { factor });
  return stateless((updates) => mapFloats(updates, (update) => mul(update, factor)));
}

/** Multiplies updates by a schedule's value at the current step. */
export function scaleBySchedule(schedule: Schedule): GradientTransform<CountState> {
  expectOptions("scaleBySchedule", { schedule: callback }, { schedule });
  return {
    init: () => ({ count: startCount() }),
    update(updates, { count }) {
      const factor = schedule(count);
      return [mapFloats(updates, (update) => mul(update, factor)), { count: add(count, 1) }];
    },
  };
}

/** Turns directions into descent: multiplies by minus the learning rate, a number or a schedule. */
export function scaleByLearningRate(learningRate: number | Schedule): GradientTransform {
  if (typeof learningRate === "number") return scale(-learningRate);
  return scaleBySchedule((step) => neg(learningRate(step)));
}

/** Options of {@linkcode trace}. */
export interface TraceOptions {
  /** Share of the old trace that is kept. */
  readonly decay: number;
  /** Looks one step ahead: the update is the gradient plus the decayed new trace. */
  readonly nesterov?: boolean;
}

/** Momentum: adds each gradient to a decaying sum, trace = gradient + decay · trace. */
export function trace(options: TraceOptions): GradientTransform<TraceState> {
  expectOptions("trace", { decay: decayOption, nesterov: flag.optional() }, options);
  const { decay, nesterov = false } = options;
  return {
    init: (params) => ({ trace: zeroMoments(params) }),
    update(updates, state) {
      const next: Record<string, Tensor> = {};
      const moved = mapFloats(updates, (update, name) => {
        const sum = add(mul(leafOf(state.trace, name, update, "trace"), decay), update);
        next[name] = sum;
        return nesterov ? add(mul(sum, decay), update) : sum;
      });
      return [moved, { trace: next }];
    },
  };
}

/** Replaces updates by their moving average, decay · average + (1 − decay) · update, without bias correction. */
export function movingAverage(decay: number): GradientTransform<TraceState> {
  expectOptions("movingAverage", { decay: decayOption }, { decay });
  return {
    init: (params) => ({ trace: zeroMoments(params) }),
    update(updates, state) {
      const next: Record<string, Tensor> = {};
      const averaged = mapFloats(updates, (update, name) => {
        const average = add(mul(leafOf(state.trace, name, update, "movingAverage"), decay), mul(update, 1 - decay));
        next[name] = average;
        return average;
      });
      return [averaged, { trace: next }];
    },
  };
}

/** Options of {@linkcode addDecayedWeights}. */
export interface DecayOptions {
  /** Share of the parameter that is added to its update. */
  readonly rate: number;
  /** Which leaves decay; all by default. */
  readonly mask?: LeafPredicate;
}

/** Weight decay: adds a share of each parameter to its update, before the learning rate turns it around. */
export function addDecayedWeights(options: DecayOptions): GradientTransform<null> {
  expectOptions("addDecayedWeights", { rate: nonNegative, mask: callback.optional() }, options);
  const { rate, mask = () => true } = options;
  return stateless((updates, params) => {
    if (rate === 0) return updates;
    const weights = floatLeaves(params);
    return mapFloats(updates, (update, name) => {
      const weight = weights[name]!;
      return mask(leafPath(name), weight) ? add(update, mul(castTo(weight, "f32"), rate)) : update;
    });
  });
}
