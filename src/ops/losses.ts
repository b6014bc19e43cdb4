/**
 * Losses: cross-entropy over the last axis with integer targets, and mean squared error.
 *
 * @module
 */
import { castTo, iota } from "../core/arithmetic.ts";
import { stopGradient } from "../core/grad.ts";
import { expectNoProblems, ShapeError } from "../core/errors.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, formatAval, sameShape } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { spread } from "../core/vmap.ts";
import { add, div, maximum, mul, sub } from "./binary.ts";
import { equal, greater } from "./compare.ts";
import { laxMaxPrimitive } from "./extremum.ts";
import { expectFloat, expectInteger } from "./operand.ts";
import { mean, sum } from "./reduce.ts";
import { where } from "./select.ts";
import { exp, log, square } from "./unary.ts";
import { unsqueeze } from "./view.ts";

/** How a loss is summarized: its mean, its sum, or one value for each position. */
export type Reduction = "mean" | "sum" | "none";

interface CrossEntropyAttrs {
  readonly labelSmoothing: number;
}

/** True at the target's place in each row: a comparison of counters, never a stored one-hot. */
function isTarget(logits: Aval, targets: Tensor): Tensor {
  const classes = iota(logits.shape, "u32", logits.shape.length - 1);
  return equal(classes, unsqueeze(targets, -1));
}

/** The largest logit of each row, the row minus that, and the logarithm of the sum of the exponentials of the latter. */
function shifted(logits: Tensor): { readonly top: Tensor; readonly difference: Tensor; readonly logTotal: Tensor } {
  const top = apply(laxMaxPrimitive, [stopGradient(logits)], { axes: [logits.shape.length - 1] });
  const difference = sub(logits, unsqueeze(top, -1));
  return { top, difference, logTotal: log(sum(exp(difference), { axis: -1 })) };
}

/** Primitive behind {@linkcode crossEntropy}: f32 logits [..., C] and u32 targets [...] to one loss for each row. */
export const crossEntropyPrimitive: Primitive = definePrimitive<CrossEntropyAttrs>({
  name: "crossEntropy",
  kind: "composite",
  shape([logits, targets]) {
    if (logits!.shape.length === 0 || !sameShape(logits!.shape.slice(0, -1), targets!.shape)) {
      throw new ShapeError("shape/cross-entropy", {
        summary: `Cannot take the cross-entropy: targets ${formatAval(targets!)} do not fit logits ${
          formatAval(logits!)
        }`,
        facts: [["op", "crossEntropy(logits, targets)"]],
        fix: "give one target index for each row of logits; classes are the last axis",
        details: { logits: logits!.shape, targets: targets!.shape },
      });
    }
    return [{ shape: targets!.shape, dtype: "f32" }];
  },
  expand([logits, targets], { labelSmoothing }) {
    const { difference, logTotal } = shifted(logits!);
    const picked = sum(where(isTarget(logits!, targets!), difference, 0), { axis: -1 });
    if (labelSmoothing === 0) return [sub(logTotal, picked)];
    const average = mean(difference, { axis: -1 });
    return [sub(logTotal, add(mul(picked, 1 - labelSmoothing), mul(average, labelSmoothing)))];
  },
  vjp([ct], [logits, targets], _, { labelSmoothing }) {
    const uniform = labelSmoothing / logits!.shape.at(-1)!;
    const wanted = where(isTarget(logits!, targets!), 1 - labelSmoothing + uniform, uniform);
    // From the maximum and the sum that the loss has computed: no probability is stored, and no row is summed again.
    const { top, difference, logTotal } = shifted(logits!);
    const isAnySeen = unsqueeze(greater(top, -Infinity), -1);
    const probabilities = where(isAnySeen, exp(sub(difference, unsqueeze(logTotal, -1))), 0);
    return [mul(sub(probabilities, wanted), unsqueeze(ct!, -1)), null];
  },
  batch(inputs, mapped, attrs, batchSize) {
    const operands = inputs.map((input, i) => mapped[i] ? input : spread(input, batchSize));
    return [apply(crossEntropyPrimitive, operands, attrs)];
  },
  lower: { as: "inline" },
});

/** Options of {@linkcode crossEntropy}. */
export interface CrossEntropyOptions {
  /** Positions that count, bool of the targets' shape; all by default. Masked positions have loss and gradient 0. */
  readonly mask?: Tensor;
  /** Share of the target's probability spread evenly over all classes, 0 by default. */
  readonly labelSmoothing?: number;
  /** `"mean"` (the default) averages over the positions that count. */
  readonly reduction?: Reduction;
}

/**
 * Minus the log-probability of the target classes under softmax(logits).
 *
 * Shapes: `logits` [..., C], `targets` [...] -> a scalar, or [...] with reduction `"none"`. Computed in f32 for every
 * float type. A target of C or more counts as no class: its loss is the logarithm of the softmax's denominator, so
 * mask such positions. A mean over no positions is 0.
 *
 * @param targets u32 or i32 indices of classes.
 * @throws {ShapeError} If targets or mask do not fit the logits.
 * @throws {DTypeError} If logits are not floats or targets not integers.
 * @throws {ConfigError} If `labelSmoothing` is not from 0 up to 1.
 *
 * @example Two classes of equal score
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { crossEntropy, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const loss = crossEntropy(tensor([[0, 0]]), tensor([1], { dtype: "u32" }));
 * assertAlmostEquals(await loss.item(), Math.LN2, 1e-6);
 * ```
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { mask, labelSmoothing = 0, reduction = "mean" } = options;
  const isShare = labelSmoothing >= 0 && labelSmoothing < 1;
  expectNoProblems("crossEntropy", isShare ? [] : [["labelSmoothing", labelSmoothing, "must be from 0 up to 1"]]);
  const wide = castTo(expectFloat("crossEntropy", logits), "f32");
  const classes = castTo(expectInteger("crossEntropy", targets), "u32");
  const losses = apply(crossEntropyPrimitive, [wide, classes], { labelSmoothing } satisfies CrossEntropyAttrs);
  if (mask === undefined) return reduced(losses, reduction);
  if (!sameShape(mask.shape, losses.shape)) {
    throw new ShapeError("shape/cross-entropy", {
      summary: `Cannot mask the cross-entropy: mask ${formatAval(mask)} does not fit targets ${formatAval(targets)}`,
      facts: [["op", "crossEntropy(logits, targets, { mask })"]],
      fix: "give the mask the shape of the targets",
      details: { mask: mask.shape, targets: targets.shape },
    });
  }
  const counted = castTo(mask, "bool");
  const kept = where(counted, losses, 0);
  if (reduction !== "mean") return reduced(kept, reduction);
  return div(sum(kept), maximum(sum(castTo(counted, "f32")), 1));
}

function reduced(losses: Tensor, reduction: Reduction): Tensor {
  return reduction === "none" ? losses : reduction === "sum" ? sum(losses) : mean(losses);
}

/** Options of {@linkcode meanSquaredError}. */
export interface MeanSquaredErrorOptions {
  /** `"mean"` (the default), `"sum"`, or `"none"` for one value for each element. */
  readonly reduction?: Reduction;
}

/**
 * The mean of the squared differences of two tensors, which broadcast. Computed in f32 for every float type.
 *
 * @returns An f32 scalar, or the squares themselves with reduction `"none"`.
 * @throws {ShapeError} If the shapes do not broadcast.
 * @throws {DTypeError} If a tensor is not of floats.
 *
 * @example Off by one and by three
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, meanSquaredError, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals(await meanSquaredError(tensor([1, 2]), tensor([2, 5])).item(), 5);
 * ```
 */
export function meanSquaredError(predictions: Tensor, targets: Tensor, options: MeanSquaredErrorOptions = {}): Tensor {
  const [left, right] = [predictions, targets].map((x) => castTo(expectFloat("meanSquaredError", x), "f32"));
  return reduced(square(sub(left!, right!)), options.reduction ?? "mean");
}
