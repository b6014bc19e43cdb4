/**
 * From router logits to scores, and from the scores of the chosen experts to combination weights: two of the orthogonal
 * pieces of a router. Choosing is `topK` on the logits, because every score grows with its logit.
 *
 * @module
 */
import type { Tensor } from "../core/tensor.ts";
import { sigmoid, softplus } from "../ops/activations.ts";
import { takeAlong } from "../ops/gather.ts";
import { softmax } from "../ops/softmax.ts";
import { neg } from "../ops/unary.ts";

/** How a logit becomes a score: in competition with the other experts, or by itself. */
export type Score = "softmax" | "sigmoid";

/**
 * How the scores of the chosen experts become weights.
 *
 * - `"scores"`: as they are. The weights of a token sum to less than 1 (softmax) or up to k (sigmoid).
 * - `"normalized"`: divided by their sum over the chosen experts.
 * - `"softmaxSelected"`: the softmax of the chosen logits, whatever the score; for softmax scores the same as
 *   `"normalized"`.
 *
 * With one expert a token, the last two are the constant 1: the router then learns nothing from the task.
 */
export type WeightRule = "scores" | "normalized" | "softmaxSelected";

/** Scores of all experts for each token. */
export interface Scores {
  /** The logits they were computed from, [T, E]. */
  readonly logits: Tensor;
  /** Logarithms of the scores, up to a constant for each token, [T, E]. */
  readonly logScores: Tensor;
  /** The scores, [T, E]. */
  readonly scores: Tensor;
  /** The scores of each token divided by their sum, [T, E]: what balance and entropy are measured on. */
  readonly distribution: Tensor;
}

/** Scores logits [T, E], f32. */
export function scoreLogits(logits: Tensor, score: Score): Scores {
  if (score === "softmax") {
    const scores = softmax(logits);
    return { logits, logScores: logits, scores, distribution: scores };
  }
  // Dividing by a sum of sigmoids that all underflow would give NaN; the softmax of their logarithms does not.
  const logScores = neg(softplus(neg(logits)));
  return { logits, logScores, scores: sigmoid(logits), distribution: softmax(logScores) };
}

/**
 * Weighs the chosen experts.
 *
 * @param indices The chosen experts, u32[T, K].
 * @returns f32[T, K].
 */
export function weighChosen({ logits, logScores, scores }: Scores, indices: Tensor, rule: WeightRule): Tensor {
  if (rule === "scores") return takeAlong(scores, indices);
  return softmax(takeAlong(rule === "normalized" ? logScores : logits, indices));
}
