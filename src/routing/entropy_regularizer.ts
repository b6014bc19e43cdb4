/**
 * The regularizer of sigma-MoE: it keeps experts alive by keeping the mean routing distribution wide.
 *
 * @module
 */
import { castTo, reshapeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { maximum, mul, sub } from "../ops/binary.ts";
import { logSumExp, sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { logSoftmax } from "../ops/softmax.ts";
import { exp, log } from "../ops/unary.ts";

/** Logarithm of what counts as no probability at all: finite, so that a product with 0 is 0. */
const LEAST_LOG = -1e30;

/**
 * Minus the entropy of the mean over real tokens of the softmax of their logits: `Σ_e P_e log P_e`.
 *
 * It is `-log E` where experts are even over the batch and 0 where one takes everything, however sharp single tokens
 * are. Computed from logarithms, so that a dead expert still has a gradient. 0 if there is no real token.
 *
 * @param logits f32[T, E].
 * @param mask Which tokens are real, bool[T].
 * @returns f32 scalar, without a coefficient; the published ones are 1e-3 and 1e-4.
 *
 * @example Even over experts, though every token is sure
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { entropyRegularizer, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertAlmostEquals(await entropyRegularizer(tensor([[30, 0], [0, 30]])).item(), -Math.log(2), 1e-5);
 * assertAlmostEquals(await entropyRegularizer(tensor([[30, 0], [30, 0]])).item(), 0, 1e-5);
 * ```
 *
 * Source: Csordás et al. 2023.
 */
export function entropyRegularizer(logits: Tensor, mask?: Tensor): Tensor {
  const ofTokens = logSoftmax(logits);
  const tokens = logits.shape[0]!;
  // Padding is replaced, not weighed by 0: NaN in it must not survive.
  const counted = mask === undefined ? ofTokens : where(reshapeTo(mask, [tokens, 1]), ofTokens, LEAST_LOG);
  const real = mask === undefined ? Math.max(1, tokens) : maximum(sum(castTo(mask, "f32")), 1);
  const ofBatch = sub(logSumExp(counted, { axis: 0 }), typeof real === "number" ? Math.log(real) : log(real)); // [E]
  return sum(mul(exp(ofBatch), ofBatch));
}
