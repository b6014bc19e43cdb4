/**
 * The training step: loss, gradients, optimizer and counters as one jitted function of a state that it replaces.
 *
 * @module
 */
import { z } from "zod";
import { type ValueAndGrad, valueAndGrad } from "../core/grad.ts";
import { jit, type Jitted } from "../core/jit.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add } from "../ops/binary.ts";
import { foldIn, split } from "../ops/random.ts";
import { inMicroBatches } from "./accumulate.ts";
import { callback, expectOptions, positiveCount } from "../ops/options.ts";
import {
  areFinite,
  expectLossScale,
  keptOrBefore,
  type LossScale,
  type LossScaleMetrics,
  lossScaleMetrics,
  type LossScaleState,
  scaledLoss,
  unscaled,
} from "./loss_scale.ts";
import { startCount } from "./scale.ts";
import { applyUpdates, type GradientTransform, type OptimizerState } from "./transform.ts";

/** Everything that changes while a model is trained, and all that a checkpoint needs. */
export interface TrainState<P> {
  /** Parameters of the model, with tables and counters among them if it has some. */
  readonly params: P;
  /** What the optimizer remembers. */
  readonly optimizer: OptimizerState;
  /** Finished steps, a u32 scalar. */
  readonly step: Tensor;
  /** Key of the run; it stays the same, and each step draws from it and its number. */
  readonly key: Key;
  /** Factor of the loss; absent where it is not scaled. */
  readonly lossScale?: LossScaleState;
}

/** Named values measured at a step, scalars or other tensors, in any tree. */
export type Metrics = object;

/** What a loss gets besides parameters and batch. */
export interface StepContext {
  /** A key of this step (and micro-batch) alone, for dropout, jitter and sampling. */
  readonly key: Key;
  /** Finished steps, a u32 scalar. */
  readonly step: Tensor;
}

/** What {@linkcode TrainStepOptions.measure} may look at. */
export interface Measurable<P> {
  /** Parameters before the step. */
  readonly params: P;
  /** Gradients of the loss; where it is scaled they are in f32, without its factor, and may not be finite. */
  readonly grads: P;
  /** What the optimizer made of them, about to be added. */
  readonly updates: P;
}

/** Options of {@linkcode trainStep}. */
export interface TrainStepOptions<P, B, M extends Metrics, N extends Metrics> {
  /** Returns the loss, a float scalar, or a pair of the loss and metrics. */
  readonly loss: (params: P, batch: B, context: StepContext) => Tensor | readonly [loss: Tensor, metrics: M];
  /** Turns gradients into updates. */
  readonly optimizer: GradientTransform;
  /** Parts the batch is split into along axis 0, to keep fewer activations; 1 by default. */
  readonly microBatches?: number;
  /** Further metrics, from gradients and updates. */
  readonly measure?: (step: Measurable<P>) => N;
  /** Advances what the optimizer does not train, such as a balancing bias, after the update. */
  readonly advance?: (params: P, metrics: M) => P;
  /**
   * Multiplies the loss while gradients are taken, for f16. A step whose gradients are not finite is skipped: parameters and
   * optimizer stay as they were, the step counts, and its metrics say so. By default the loss is not scaled and no step
   * is skipped.
   */
  readonly lossScale?: LossScale;
  /**
   * `"finite"` finds the first op that makes a NaN or infinity, at the next read of metrics, also where `lossScale` would
   * skip the step. Slow.
   */
  readonly check?: "finite";
}

/** Metrics of a step: the loss, what became of its scaling if there is any, those returned with it, and those measured. */
export type StepMetrics<M extends Metrics, N extends Metrics> =
  & { readonly loss: Tensor; readonly lossScale?: LossScaleMetrics }
  & M
  & N;

/** A compiled step. It takes over the buffers of the state it is given. */
export type TrainStep<P, B, M extends Metrics = Metrics> = Jitted<
  [state: TrainState<P>, batch: B],
  readonly [state: TrainState<P>, metrics: M]
>;

/** What a state is made from. */
export interface TrainStateOptions<P> {
  /** Parameters of the model. */
  readonly params: P;
  /** The step's optimizer. */
  readonly optimizer: GradientTransform;
  /** Key of the run. */
  readonly key: Key;
  /** The step's loss scale, if it has one. */
  readonly lossScale?: LossScale;
}

/**
 * The state before the first step.
 *
 * The first step takes over the parameters' buffers, so read them from the states that steps return.
 */
export function trainState<P>({ params, optimizer, key, lossScale }: TrainStateOptions<P>): TrainState<P> {
  return {
    params,
    optimizer: optimizer.init(params),
    step: startCount(),
    key,
    ...(lossScale === undefined ? {} : { lossScale: lossScale.init() }),
  };
}

/**
 * Builds the step of a training run: `(state, batch) → [next state, metrics]`, compiled once for each batch shape.
 *
 * The state is donated: updates happen in place, and a state cannot be used after it was passed. Metrics stay on the
 * device until someone reads them; {@linkcode train} does so now and then.
 *
 * @throws {ConfigError} If an option is out of range.
 *
 * @example Fitting a line
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { init, key, mean, mul, sgd, square, sub, type Tensor, tensor } from "@switchyard/switchyard";
 * import { trainState, trainStep } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = sgd({ learningRate: 0.1 });
 * const step = trainStep({
 *   loss: (params: { slope: Tensor }, { x, y }: { x: Tensor; y: Tensor }) => mean(square(sub(mul(params.slope, x), y))),
 *   optimizer,
 * });
 * let state = trainState({ params: { slope: tensor(0) }, optimizer, key: key(0) });
 * for (let i = 0; i < 20; i++) [state] = step(state, { x: tensor([1, 2]), y: tensor([3, 6]) });
 * assertAlmostEquals(await state.params.slope.item(), 3, 1e-3);
 * ```
 */
export function trainStep<P, B, M extends Metrics = Record<never, never>, N extends Metrics = Record<never, never>>(
  options: TrainStepOptions<P, B, M, N>,
): TrainStep<P, B, StepMetrics<M, N>> {
  expectOptions("trainStep", {
    loss: callback,
    optimizer: z.custom((value) => typeof (value as GradientTransform | null)?.update === "function", {
      error: "must be a gradient transform",
    }),
    microBatches: positiveCount.optional(),
    measure: callback.optional(),
    advance: callback.optional(),
    lossScale: z.custom((value) => typeof (value as LossScale | null)?.next === "function", {
      error: "must be a loss scale",
    }).optional(),
    check: z.literal("finite", { error: 'must be "finite"' }).optional(),
  }, options);
  const { loss, optimizer, microBatches = 1, measure, advance, lossScale, check } = options;

  /** Loss, metrics and gradients, the last of the scaled loss. */
  function gradients(
    { params, step, key, lossScale: scaling }: TrainState<P>,
    batch: B,
  ): ValueAndGrad<P, { readonly value: Tensor; readonly metrics: M }> {
    const stepKey = foldIn(key, step);
    const keys = microBatches === 1 ? [stepKey] : split(stepKey, microBatches);
    return inMicroBatches(microBatches, (params: P, part: B, i: number) =>
      valueAndGrad((params: P) => {
        const result = loss(params, part, { key: keys[i]!, step });
        const [value, metrics] = isPair(result) ? result : [result, {} as M] as const;
        return [scaling === undefined ? value : scaledLoss(value, scaling), { value, metrics }] as const;
      })(params))(params, batch);
  }

  function trainStep(state: TrainState<P>, batch: B): readonly [TrainState<P>, StepMetrics<M, N>] {
    const { params, lossScale: scaling } = state;
    expectLossScale(lossScale, scaling);
    const { aux: { value, metrics }, grads: found } = gradients(state, batch);
    const grads = scaling === undefined ? found : unscaled(found, scaling);
    const [updates, nextOptimizer] = optimizer.update(grads, state.optimizer, params);
    const trained = applyUpdates(params, updates);
    const measured = measure?.({ params, grads, updates }) ?? {} as N;
    const changed = {
      params: advance === undefined ? trained : advance(trained, metrics),
      optimizer: nextOptimizer,
    };
    const counted = { step: add(state.step, 1), key: state.key };
    if (lossScale === undefined || scaling === undefined) {
      return [{ ...changed, ...counted }, { loss: value, ...metrics, ...measured }];
    }
    const isKept = areFinite(grads);
    return [
      {
        ...keptOrBefore(isKept, changed, { params, optimizer: state.optimizer }),
        ...counted,
        lossScale: lossScale.next(scaling, isKept),
      },
      { loss: value, lossScale: lossScaleMetrics(scaling, isKept), ...metrics, ...measured },
    ];
  }
  return jit(trainStep, { donate: [0], ...(check === undefined ? {} : { check }) });
}

function isPair<M>(result: Tensor | readonly [Tensor, M]): result is readonly [Tensor, M] {
  return Array.isArray(result);
}
