/**
 * Scores that an assignment over a whole batch can work with: one NaN must not decide about everybody.
 *
 * @module
 */
import { reshapeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { equal, greater, logicalAnd } from "../ops/compare.ts";
import { max, min } from "../ops/extremum.ts";
import { where } from "../ops/select.ts";
import { isFinite } from "../ops/unary.ts";

/** Scores without NaN and infinity, and their range. */
export interface FiniteScores {
  /** [T, E]; rows of padding are all `lowest`. */
  readonly scores: Tensor;
  /** Lowest finite score of a real token, 0 if there is none: scalar. */
  readonly lowest: Tensor;
  /** Highest one, 0 if there is none: scalar. */
  readonly highest: Tensor;
}

/** Makes scores f32[T, E] finite: +Infinity becomes the highest finite score of a real token, all else the lowest. */
export function finiteScores(scores: Tensor, mask?: Tensor): FiniteScores {
  const real = isFinite(scores);
  const counted = mask === undefined ? real : logicalAnd(real, reshapeTo(mask, [mask.size, 1]));
  const low = min(where(counted, scores, Infinity));
  // Without a finite score the minimum over nothing is Infinity.
  const hasNone = equal(low, Infinity);
  const lowest = where(hasNone, 0, low);
  const highest = where(hasNone, 0, max(where(counted, scores, -Infinity)));
  const isInfinite = greater(scores, 3.4028234e38);
  return { scores: where(counted, scores, where(isInfinite, highest, lowest)), lowest, highest };
}
