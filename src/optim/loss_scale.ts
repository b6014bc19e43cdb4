/**
 * Loss scaling: gradients of a loss times a large number do not vanish in f16, whose smallest numbers are about 6e-8.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import { callSite, TreeError } from "../core/errors.ts";
import type { Tensor } from "../core/tensor.ts";
import { mapTrees } from "../core/tree.ts";
import { add, div, maximum, minimum as smaller, mul } from "../ops/binary.ts";
import { greaterEqual, logicalNot } from "../ops/compare.ts";
import { expectOptions, numberThat, positive, positiveCount } from "../ops/options.ts";
import { where } from "../ops/select.ts";
import { isFinite } from "../ops/unary.ts";
import { globalNorm } from "./clip.ts";
import { mapFloats } from "./leaves.ts";
import { startCount } from "./scale.ts";

/** What a loss scale remembers between steps. */
export interface LossScaleState {
  /** Factor of the loss at the next step, an f32 scalar. */
  readonly scale: Tensor;
  /** Steps in a row that were not skipped since the scale last changed, a u32 scalar. */
  readonly streak: Tensor;
}

/** A rule for the factor of the loss. Both methods are pure, so they work inside `jit`. */
export interface LossScale {
  /** The state before the first step. */
  init(): LossScaleState;
  /** The state after a step; `isFinite`, a bool scalar, says whether its gradients were. */
  next(state: LossScaleState, isFinite: Tensor): LossScaleState;
}

/** What is told of a step with a scaled loss. */
export interface LossScaleMetrics {
  /** The factor of the step, an f32 scalar. */
  readonly scale: Tensor;
  /** Whether the step changed nothing because its gradients were not finite, a bool scalar. */
  readonly skipped: Tensor;
}

/** Options of {@linkcode lossScale}. */
export interface LossScaleOptions {
  /** The first factor, 32768 by default. */
  readonly initial?: number;
  /** Finite steps in a row after which the factor grows, 2000 by default. */
  readonly growthInterval?: number;
  /** By what the factor grows, and shrinks after a skipped step; 2 by default. Powers of two round nothing. */
  readonly factor?: number;
  /** The factor never falls below it, 1 by default. */
  readonly minimum?: number;
  /** The factor never rises above it, 2²⁴ by default. */
  readonly maximum?: number;
}

const aboveOne = numberThat("must be a number above 1", (value) => value > 1 && value < Infinity);

/**
 * A factor of the loss that follows the gradients: it falls after each step that overflows, and rises after many that do
 * not. Pass it to `trainState` and `trainStep`.
 *
 * @returns The rule.
 * @throws {ConfigError} If an option is out of range, or `initial` is not between `minimum` and `maximum`.
 *
 * @example An overflow halves the scale
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, lossScale, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const rule = lossScale({ initial: 1024 });
 * const { scale } = rule.next(rule.init(), tensor(false, { dtype: "bool" }));
 * assertEquals(await scale.item(), 512);
 * ```
 *
 * Source: Micikevicius et al. 2017.
 */
export function lossScale(options: LossScaleOptions = {}): LossScale {
  const { initial = 2 ** 15, growthInterval = 2000, factor = 2, minimum = 1, maximum: most = 2 ** 24 } = options;
  expectOptions(
    "lossScale",
    {
      initial: positive.optional(),
      growthInterval: positiveCount.optional(),
      factor: aboveOne.optional(),
      minimum: positive.optional(),
      maximum: positive.optional(),
    },
    options,
    () =>
      minimum <= initial && initial <= most
        ? []
        : [["initial", initial, `must be from minimum (${minimum}) to maximum (${most})`]],
  );
  return {
    init: () => startAt(initial),
    next({ scale, streak }, isFinite) {
      const longer = add(streak, 1);
      const isDue = greaterEqual(longer, growthInterval);
      const after = where(isDue, smaller(mul(scale, factor), most), scale);
      return {
        scale: where(isFinite, after, maximum(div(scale, factor), minimum)),
        streak: where(isFinite, where(isDue, 0, longer), 0),
      };
    },
  };
}

/**
 * A factor of the loss that never changes. Steps whose gradients are not finite are skipped all the same.
 *
 * @throws {ConfigError} If the factor is not above 0.
 */
export function fixedLossScale(scale: number): LossScale {
  expectOptions("fixedLossScale", { scale: positive }, { scale });
  return {
    init: () => startAt(scale),
    next: ({ scale, streak }, isFinite) => ({ scale, streak: where(isFinite, add(streak, 1), 0) }),
  };
}

function startAt(scale: number): LossScaleState {
  return { scale: fullLike([], "f32", scale), streak: startCount() };
}

/** Multiplies a loss; in f32 whatever its type. */
export function scaledLoss(loss: Tensor, { scale }: LossScaleState): Tensor {
  return mul(castTo(loss, "f32"), scale);
}

/** The gradients of the loss itself, in f32. */
export function unscaled<P>(grads: P, { scale }: LossScaleState): P {
  const inverse = div(1, scale);
  return mapFloats(grads, (grad) => mul(grad, inverse));
}

/**
 * Whether gradients can be used: a bool scalar, false where one is not finite or their norm is past f32. Clipping needs the
 * same norm, and a program computes it once.
 */
export function areFinite(grads: unknown): Tensor {
  return isFinite(globalNorm(grads));
}

/** What is told of a step. */
export function lossScaleMetrics({ scale }: LossScaleState, isKept: Tensor): LossScaleMetrics {
  return { scale, skipped: logicalNot(isKept) };
}

/** The tree after a step where it is kept, else the one before. Both are computed; the device chooses. */
export function keptOrBefore<T>(isKept: Tensor, after: T, before: T): T {
  return mapTrees("skip a step", after, before, (next, old) => next === old ? old : where(isKept, next, old));
}

/**
 * Checks that a state was made for a step that scales its loss, or for one that does not.
 *
 * @throws {TreeError} If it is of the other kind.
 */
export function expectLossScale(rule: LossScale | undefined, state: LossScaleState | undefined): void {
  if ((rule === undefined) === (state === undefined)) return;
  throw new TreeError("tree/state", {
    summary: rule === undefined
      ? "Cannot take a step: the state has a loss scale, and the step has none"
      : "Cannot take a step: the step scales its loss, and the state has no loss scale",
    facts: [["at", callSite()]],
    fix: "give trainState and trainStep the same lossScale",
  });
}
