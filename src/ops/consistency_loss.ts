/**
 * The loss of two passes over one batch: both must be right, and they must agree.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { expectNoProblems, ShapeError } from "../core/errors.ts";
import { formatAval, sameShape } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, maximum, mul, sub } from "./binary.ts";
import { crossEntropy } from "./losses.ts";
import { expectFloat } from "./operand.ts";
import { mean, sum } from "./reduce.ts";
import { where } from "./select.ts";
import { logSoftmax } from "./softmax.ts";
import { exp } from "./unary.ts";

/** Options of {@linkcode consistencyLoss}. */
export interface ConsistencyLossOptions {
  /** Factor of the divergence, 5 by default. */
  readonly alpha?: number;
  /** Positions that count, bool of the targets' shape; all by default. */
  readonly mask?: Tensor;
  /** Share of the target's probability spread evenly over all classes, 0 by default. */
  readonly labelSmoothing?: number;
}

/** The loss and its parts, f32 scalars: means over the positions that count. */
export interface ConsistencyLoss {
  /** `2 · crossEntropy + alpha · divergence`. */
  readonly loss: Tensor;
  /** Mean of both passes' cross-entropies, in nats. */
  readonly crossEntropy: Tensor;
  /** The passes' {@linkcode symmetricDivergence}. */
  readonly divergence: Tensor;
}

/**
 * Half the sum of the Kullback-Leibler divergences of two softmax distributions, from each to the other.
 *
 * Shapes: two tensors of logits [..., C] -> f32 [...]. Computed in f32 from logarithms of the probabilities, so it is
 * finite where probabilities underflow; logits must be finite. Gradients reach both.
 *
 * @throws {ShapeError} If the shapes differ.
 * @throws {DTypeError} If the logits are not floats.
 *
 * @example Equal distributions do not diverge
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, symmetricDivergence, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals(await symmetricDivergence(tensor([1, 2, 0]), tensor([1, 2, 0])).item(), 0);
 * ```
 *
 * Source: Zuo et al. 2021.
 */
export function symmetricDivergence(first: Tensor, second: Tensor): Tensor {
  if (!sameShape(first.shape, second.shape)) {
    throw new ShapeError("shape/divergence", {
      summary: `Cannot compare ${formatAval(first)} with ${formatAval(second)}: the shapes differ`,
      facts: [["op", "symmetricDivergence(first, second)"]],
      fix: "pass the logits of two passes over one batch",
      details: { first: first.shape, second: second.shape },
    });
  }
  const [logP, logQ] = [first, second].map((logits) =>
    logSoftmax(castTo(expectFloat("symmetricDivergence", logits), "f32"))
  ) as [Tensor, Tensor];
  const difference = mul(sub(exp(logP), exp(logQ)), sub(logP, logQ)); // each term is 0 or more
  return mul(sum(difference, { axis: -1 }), 0.5);
}

/**
 * Adds the cross-entropies of two passes over one batch and `alpha` times their divergence.
 *
 * Shapes: two tensors of logits [..., C], targets [...] -> f32 scalars. The cross-entropy counts twice, so alpha = 5 is
 * 2.5 for each of them. Both passes get gradients from all terms.
 *
 * @param targets u32 or i32 indices of classes.
 * @throws {ShapeError} If shapes do not fit.
 * @throws {DTypeError} If logits are not floats or targets not integers.
 * @throws {ConfigError} If `alpha` or `labelSmoothing` is out of range.
 *
 * @example Passes that agree pay for their errors alone
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { consistencyLoss, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const [logits, targets] = [tensor([[0, 0]]), tensor([1], { dtype: "u32" })];
 * const { loss } = consistencyLoss(logits, logits, targets, { alpha: 5 });
 * assertAlmostEquals(await loss.item(), 2 * Math.LN2, 1e-6);
 * ```
 *
 * Source: Zuo et al. 2021; Liang et al. 2021 use it with dropout in the place of experts.
 */
export function consistencyLoss(
  first: Tensor,
  second: Tensor,
  targets: Tensor,
  options: ConsistencyLossOptions = {},
): ConsistencyLoss {
  const { alpha = 5, ...entropyOptions } = options;
  const isFactor = alpha >= 0 && alpha < Infinity;
  expectNoProblems("consistencyLoss", isFactor ? [] : [["alpha", alpha, "must be a number from 0 up"]]);
  const divergences = symmetricDivergence(first, second); // [...]
  const [left, right] = [first, second].map((logits) => crossEntropy(logits, targets, entropyOptions)) as [
    Tensor,
    Tensor,
  ];
  const total = add(left, right);
  const divergence = meanOver(divergences, options.mask);
  return { loss: add(total, mul(divergence, alpha)), crossEntropy: mul(total, 0.5), divergence };
}

/** The mean over the positions that count, 0 if none does: as in `crossEntropy`, which has checked the mask. */
function meanOver(x: Tensor, mask: Tensor | undefined): Tensor {
  if (mask === undefined) return mean(x);
  const counted = castTo(mask, "bool");
  return div(sum(where(counted, x, 0)), maximum(sum(castTo(counted, "f32")), 1));
}
