/**
 * Training with two passes over each batch that must agree: a loss for `trainStep` made from a model's predictions.
 *
 * @module
 */
import type { Tensor } from "../core/tensor.ts";
import { mapTree } from "../core/tree.ts";
import { add, mul } from "../ops/binary.ts";
import { concat, splitAxis } from "../ops/concat.ts";
import { consistencyLoss } from "../ops/consistency_loss.ts";
import { belowOne, callback, expectOptions, nonNegative, oneOf } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import type { StepContext } from "./train_step.ts";

/** What a model says about a batch. */
export interface Prediction<M extends object> {
  /** Scores of classes, [..., C]. */
  readonly logits: Tensor;
  /** Right classes, u32 or i32 [...]. */
  readonly targets: Tensor;
  /** Positions that count, bool [...]; all by default. */
  readonly mask?: Tensor;
  /** Added to the loss once for each pass, such as weighted auxiliary losses; nothing by default. */
  readonly penalty?: Tensor;
  /** Anything to report. */
  readonly metrics?: M;
}

/** Options of {@linkcode inTwoPasses}. */
export interface TwoPassOptions {
  /** Factor of the divergence between the passes, 5 by default. */
  readonly alpha?: number;
  /** Share of the target's probability spread evenly over all classes, 0 by default. */
  readonly labelSmoothing?: number;
  /**
   * `"separate"` (the default) calls the model twice with two keys. `"together"` calls it once with the batch twice in a
   * row along axis 0: for `thorRouter` with 2 passes and distinct draws, or to launch larger kernels.
   */
  readonly passes?: "separate" | "together";
}

/** What is measured on the way. */
export interface TwoPassMetrics<M extends object> {
  /** Mean of both passes' cross-entropies, in nats. */
  readonly crossEntropy: Tensor;
  /** Mean divergence between the passes. */
  readonly divergence: Tensor;
  /** What the model reported at each call, in order. */
  readonly calls: readonly M[];
}

/** A loss for `trainStep`. */
export type TwoPassLoss<P, B, M extends object> = (
  params: P,
  batch: B,
  context: StepContext,
) => readonly [loss: Tensor, metrics: TwoPassMetrics<M>];

/** The predictions of two passes. */
interface Passes<M extends object> {
  readonly logits: readonly [Tensor, Tensor];
  readonly targets: Tensor;
  readonly mask: Tensor | undefined;
  readonly calls: readonly Prediction<M>[];
}

/**
 * Turns a model into the loss of two passes over each batch: both cross-entropies and `alpha` times the divergence of
 * what they predict, see `consistencyLoss`.
 *
 * The passes share parameters and batch and differ in what they draw: experts (`thorRouter`) or dropout. With
 * micro-batches each part has keys of its own. A step costs two passes whichever way they are made.
 *
 * @param predict Runs the model in training mode, with the key it is given.
 * @returns A loss for `trainStep`.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example A model that draws nothing agrees with itself
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, inTwoPasses, key, scalar, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const loss = inTwoPasses((logits: Tensor, targets: Tensor) => ({ logits, targets }), { alpha: 5 });
 * const targets = tensor([1], { dtype: "u32" });
 * const [, metrics] = loss(tensor([[0, 2]]), targets, { key: key(0), step: scalar(0) });
 * assertEquals(await metrics.divergence.item(), 0);
 * ```
 *
 * Source: Zuo et al. 2021; Liang et al. 2021 for dense models with dropout.
 */
export function inTwoPasses<P, B, M extends object = Record<never, never>>(
  predict: (params: P, batch: B, context: StepContext) => Prediction<M>,
  options: TwoPassOptions = {},
): TwoPassLoss<P, B, M> {
  expectOptions("inTwoPasses", {
    predict: callback,
    alpha: nonNegative.optional(),
    labelSmoothing: belowOne.optional(),
    passes: oneOf("separate", "together").optional(),
  }, { predict, ...options });
  const { passes = "separate", ...lossOptions } = options;

  function separately(params: P, batch: B, context: StepContext): Passes<M> {
    const [firstKey, secondKey] = split(context.key);
    const first = predict(params, batch, { ...context, key: firstKey });
    const second = predict(params, batch, { ...context, key: secondKey });
    const { targets, mask } = first;
    return { logits: [first.logits, second.logits], targets, mask, calls: [first, second] };
  }

  function together(params: P, batch: B, context: StepContext): Passes<M> {
    const doubled = mapTree(batch, (leaf) => leaf.shape.length === 0 ? leaf : concat([leaf, leaf]));
    const call = predict(params, doubled, context);
    const halves = (x: Tensor) => splitAxis(x, 0, 2) as [Tensor, Tensor];
    const mask = call.mask === undefined ? undefined : halves(call.mask)[0];
    return { logits: halves(call.logits), targets: halves(call.targets)[0], mask, calls: [call] };
  }

  return (params, batch, context) => {
    const { logits, targets, mask, calls } = (passes === "separate" ? separately : together)(params, batch, context);
    const { loss, crossEntropy, divergence } = consistencyLoss(...logits, targets, {
      ...lossOptions,
      ...(mask === undefined ? {} : { mask }),
    });
    // One call for both passes has the mean of their penalties.
    const penalties = calls.flatMap(({ penalty }) => penalty === undefined ? [] : [mul(penalty, 2 / calls.length)]);
    return [
      penalties.reduce((total, penalty) => add(total, penalty), loss),
      { crossEntropy, divergence, calls: calls.flatMap(({ metrics }) => metrics === undefined ? [] : [metrics]) },
    ];
  };
}
