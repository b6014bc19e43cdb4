/**
 * Balanced assignment: every expert gets as many tokens as every other, and the sum of scores is as large as a fixed
 * number of auction rounds makes it.
 *
 * @module
 */
import { castTo, reshapeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, maximum, mul, sub } from "../ops/binary.ts";
import { equal, lessEqual, logicalAnd } from "../ops/compare.ts";
import { full } from "../ops/creation.ts";
import { cumsum } from "../ops/cumsum.ts";
import { group } from "../ops/group.ts";
import { sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { round } from "../ops/unary.ts";
import { auction } from "./auction.ts";
import { finiteScores } from "./finite_scores.ts";

/** Options of {@linkcode balancedAssignment}. */
export interface BalancedAssignmentOptions {
  /** Which tokens are real, bool[T]; padding gets no expert. */
  readonly mask?: Tensor | undefined;
  /** Rounds of the auction, 64 by default. */
  readonly rounds?: number | undefined;
  /**
   * Least increment of a bid as a share of the range of scores, 0.02 by default. The sum of scores of a finished auction
   * is less than this times the range below the best one for each token; smaller increments need more rounds.
   */
  readonly increment?: number | undefined;
}

/** Scores are whole numbers from 0 to here: finer than the increments anyone needs, and prices cannot overflow. */
const RESOLUTION = 2 ** 20;

/**
 * Assigns each token to one expert such that no expert gets more than `ceil(n / E)` of the n real tokens.
 *
 * An auction decides; tokens that are left over after its last round fill the free slots, both in their order. So the
 * result is balanced whatever the scores are, and the same on every run. NaN and -Infinity count as the lowest finite
 * score, +Infinity as the highest.
 *
 * @param scores How well each expert suits each token, f32[T, E].
 * @returns u32[T]: an expert, or E for padding.
 *
 * @example Two experts that everybody would share unevenly
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { balancedAssignment, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const scores = tensor([[9, 8], [9, 1], [9, 2], [9, 7]]);
 * assertEquals([...await balancedAssignment(scores).data()], [1, 0, 0, 1]);
 * ```
 *
 * Source: Bertsekas and Castañon 1989; Lewis et al. 2021.
 */
export function balancedAssignment(scores: Tensor, options: BalancedAssignmentOptions = {}): Tensor {
  const { mask, rounds = 64, increment = 0.02 } = options;
  const [tokens, experts] = scores.shape as [number, number];
  const real = mask ?? full([tokens], 1, { dtype: "bool" });
  const capacity = div(add(sum(castTo(real, "u32")), experts - 1), experts);

  const { scores: finite, lowest, highest } = finiteScores(scores, mask);
  // A range of 0 would divide by 0; below the smallest normal number scores are as good as equal.
  const share = div(sub(finite, lowest), maximum(sub(highest, lowest), 2 ** -126));
  const whole = castTo(round(mul(share, RESOLUTION)), "i32");
  const bidding = where(reshapeTo(real, [tokens, 1]), whole, -1);
  const won = auction(bidding, capacity, { rounds, increment: Math.max(1, Math.round(increment * RESOLUTION)) });
  return fillSlots(won, real, capacity, experts);
}

/** Gives the tokens without an expert the free slots, the first token the first one. */
function fillSlots(won: Tensor, real: Tensor, capacity: Tensor, experts: number): Tensor {
  const tokens = won.size;
  const isLeft = logicalAnd(equal(won, experts), real);
  const turn = cumsum(castTo(isLeft, "u32"), { exclusive: true }); // place among those left
  const free = sub(capacity, group(won, experts).counts);
  const filled = cumsum(free); // slots of the experts up to each
  const before = lessEqual(reshapeTo(filled, [1, experts]), reshapeTo(turn, [tokens, 1])); // [T, E]
  return where(isLeft, sum(castTo(before, "u32"), { axis: 1 }), won);
}
