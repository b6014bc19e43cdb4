/**
 * Schedules: functions from the step count, a tensor, to a scalar tensor, so that a jitted step is compiled once while
 * the rate changes.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, maximum, minimum, mul, sub } from "../ops/binary.ts";
import { cos, exp, sqrt } from "../ops/unary.ts";
import { count, expectOptions, finite, fraction, positive, positiveCount } from "../ops/options.ts";

/** Maps the number of finished steps (an integer scalar, 0 at the first step) to an f32 scalar. */
export type Schedule = (step: Tensor) => Tensor;

/** Steps as a float: exact up to 2^24, some 16 million steps. */
function asFloat(step: Tensor): Tensor {
  return castTo(step, "f32");
}

/** How much of `total` steps has passed, from 0 to 1. */
function progress(step: Tensor, total: number): Tensor {
  return minimum(div(asFloat(step), total), 1);
}

/** The same value at every step. */
export function constantSchedule(value: number): Schedule {
  expectOptions("constantSchedule", { value: finite }, { value });
  return () => fullLike([], "f32", value);
}

/** Options of {@linkcode linearSchedule}. */
export interface LinearScheduleOptions {
  /** Value at step 0; 0 by default. */
  readonly from?: number;
  /** Value from step `steps` on. */
  readonly to: number;
  /** Steps from one to the other. */
  readonly steps: number;
}

/**
 * Goes from one value to another in a straight line and stays there. From 0 it is a warm-up.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example Warming up over four steps
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, linearSchedule, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const warmUp = linearSchedule({ to: 2, steps: 4 });
 * assertEquals(await warmUp(tensor(1, { dtype: "u32" })).item(), 0.5);
 * assertEquals(await warmUp(tensor(9, { dtype: "u32" })).item(), 2);
 * ```
 */
export function linearSchedule(options: LinearScheduleOptions): Schedule {
  expectOptions("linearSchedule", { from: finite.optional(), to: finite, steps: positiveCount }, options);
  const { from = 0, to, steps } = options;
  return (step) => add(mul(progress(step, steps), to - from), from);
}

/** Options of {@linkcode cosineSchedule}. */
export interface CosineScheduleOptions {
  /** Largest value, reached at the end of the warm-up. */
  readonly peak: number;
  /** All steps, those of the warm-up among them. */
  readonly steps: number;
  /** Steps of linear rise from 0, fewer than `steps`; 0 by default. */
  readonly warmupSteps?: number;
  /** Share of the peak that is left at the end and after; 0 by default. */
  readonly finalFraction?: number;
}

/**
 * Rises in a straight line to a peak, then falls along half a cosine to a share of it.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example Half way down
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { cosineSchedule, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const schedule = cosineSchedule({ peak: 1, steps: 110, warmupSteps: 10, finalFraction: 0.2 });
 * assertAlmostEquals(await schedule(tensor(60, { dtype: "u32" })).item(), 0.6, 1e-5);
 * ```
 */
export function cosineSchedule(options: CosineScheduleOptions): Schedule {
  expectOptions("cosineSchedule", {
    peak: positive,
    steps: positiveCount,
    warmupSteps: count.refine((value) => value < options.steps, { error: "must be below steps" }).optional(),
    finalFraction: fraction.optional(),
  }, options);
  const { peak, steps, warmupSteps = 0, finalFraction = 0 } = options;
  const end = peak * finalFraction;
  return (step) => {
    const passed = div(maximum(sub(asFloat(step), warmupSteps), 0), steps - warmupSteps);
    const wave = add(cos(mul(minimum(passed, 1), Math.PI)), 1);
    const falling = add(mul(wave, (peak - end) / 2), end);
    // Before the end of the warm-up the cosine stands at its peak, so the product is the straight line.
    return warmupSteps === 0 ? falling : mul(falling, progress(step, warmupSteps));
  };
}

/** Options of {@linkcode inverseSqrtSchedule}. */
export interface InverseSqrtScheduleOptions {
  /** Largest value, reached at the end of the warm-up. */
  readonly peak: number;
  /** Steps of linear rise from 0, at least 1; the fall is measured in them too. */
  readonly warmupSteps: number;
}

/**
 * Rises in a straight line to a peak, then falls like peak · sqrt(warmupSteps / step), without an end.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example Half the peak after four warm-ups
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { init, inverseSqrtSchedule, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const schedule = inverseSqrtSchedule({ peak: 1, warmupSteps: 100 });
 * assertAlmostEquals(await schedule(tensor(400, { dtype: "u32" })).item(), 0.5, 1e-5);
 * ```
 *
 * Source: Vaswani et al. 2017.
 */
export function inverseSqrtSchedule(options: InverseSqrtScheduleOptions): Schedule {
  expectOptions("inverseSqrtSchedule", { peak: positive, warmupSteps: positiveCount }, options);
  const { peak, warmupSteps } = options;
  return (step) => {
    const fall = sqrt(div(warmupSteps, maximum(asFloat(step), warmupSteps)));
    return mul(mul(progress(step, warmupSteps), fall), peak);
  };
}

/** Options of {@linkcode exponentialSchedule}. */
export interface ExponentialScheduleOptions {
  /** Value at step 0. */
  readonly from: number;
  /** Factor for every `steps` steps. */
  readonly rate: number;
  /** Steps in which the value is multiplied once by `rate`. */
  readonly steps: number;
}

/**
 * Multiplies the value by a rate every so many steps, smoothly: from · rate^(step / steps).
 *
 * @throws {ConfigError} If an option is out of range.
 */
export function exponentialSchedule(options: ExponentialScheduleOptions): Schedule {
  expectOptions("exponentialSchedule", { from: finite, rate: positive, steps: positiveCount }, options);
  const { from, rate, steps } = options;
  return (step) => mul(exp(mul(asFloat(step), Math.log(rate) / steps)), from);
}

/** Options of {@linkcode relativeStepSchedule}. */
export interface RelativeStepScheduleOptions {
  /** Largest value; 0.01 by default. */
  readonly peak?: number;
  /** Steps of linear rise to the peak; 0 by default. */
  readonly warmupSteps?: number;
}

/**
 * Adafactor's own schedule, min(peak, 1 / sqrt(step)) counted from step 1: a share of the parameter's size, not a rate.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * Source: Shazeer and Stern 2018, section 9.
 */
export function relativeStepSchedule(options: RelativeStepScheduleOptions = {}): Schedule {
  expectOptions("relativeStepSchedule", { peak: positive.optional(), warmupSteps: count.optional() }, options);
  const { peak = 0.01, warmupSteps = 0 } = options;
  return (step) => {
    const steady = minimum(div(1, sqrt(add(asFloat(step), 1))), peak);
    return warmupSteps === 0 ? steady : mul(steady, progress(add(asFloat(step), 1), warmupSteps));
  };
}
