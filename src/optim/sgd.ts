/**
 * Stochastic gradient descent, with momentum if wanted.
 *
 * @module
 */
import { belowOne, expectOptions, flag } from "../ops/options.ts";
import { learningRate as rateOption } from "./options.ts";
import { scaleByLearningRate, trace } from "./scale.ts";
import type { Schedule } from "./schedules.ts";
import { chain, type GradientTransform } from "./transform.ts";

/** Options of {@linkcode sgd}. */
export interface SgdOptions {
  /** Step length, a number or a schedule. */
  readonly learningRate: number | Schedule;
  /** Share of the old direction that is kept; 0 by default, which keeps no state. */
  readonly momentum?: number;
  /** Nesterov's momentum: looks one step ahead. */
  readonly nesterov?: boolean;
}

/**
 * Follows the gradient, or a decaying sum of gradients where there is momentum.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example One step down a parabola
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { applyUpdates, init, sgd, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = sgd({ learningRate: 0.25 });
 * const [updates] = optimizer.update(tensor(4), optimizer.init(tensor(2)), tensor(2));
 * assertEquals(await applyUpdates(tensor(2), updates).item(), 1);
 * ```
 */
export function sgd(options: SgdOptions): GradientTransform {
  expectOptions("sgd", { learningRate: rateOption, momentum: belowOne.optional(), nesterov: flag.optional() }, options);
  const { learningRate, momentum = 0, nesterov = false } = options;
  const descent = scaleByLearningRate(learningRate);
  return momentum === 0 ? chain(descent) : chain(trace({ decay: momentum, nesterov }), descent);
}
