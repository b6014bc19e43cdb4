/**
 * No token left behind: tokens whose expert is full try their next best ones, round after round.
 *
 * @module
 */
import { fullLike, reshapeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, minimum, mul } from "../ops/binary.ts";
import { equal, less, logicalAnd } from "../ops/compare.ts";
import { takeRows } from "../ops/rows.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import { rankChoices, type RankOptions } from "./capacity.ts";

/** What {@linkcode placeWithRetries} depends on. `choices` are u32[T, R]: the experts a token tries, best first. */
export interface RetryOptions extends RankOptions {
  /** Slots of an expert in a group. */
  readonly capacity: number;
}

/** Where tokens ended up. */
export interface Placement {
  /** Expert of each token, u32[T, 1]; `experts` for tokens that found no room. */
  readonly placed: Tensor;
  /** Offers each expert got in each group, retries included: u32[G, E]. */
  readonly offers: Tensor;
  /** Offers of the first round alone, u32[G, E]. */
  readonly load: Tensor;
}

/**
 * Places each token with the first of its choices that has room: all first choices, then the second ones of those left
 * over behind whoever is placed already, and so on. Every round is one stable sort on the device.
 */
export function placeWithRetries(options: RetryOptions): Placement {
  const { choices, groupOf, groups, experts, capacity } = options;
  const [tokens, rounds] = choices.shape as [number, number];
  const nobody = fullLike([tokens, 1], "u32", experts);
  const firstSeat = reshapeTo(mul(groupOf, experts), [tokens, 1]);

  let placed = nobody;
  let taken = fullLike([groups, experts], "u32", 0);
  let offers = taken;
  let firstLoad = taken;
  for (let round = 0; round < rounds; round++) {
    const wanted = sliceAxis(choices, 1, { start: round, stop: round + 1 }); // [T, 1]
    const offered = where(equal(placed, experts), wanted, nobody);
    const { rank, load } = rankChoices({ ...options, choices: offered });
    const before = takeRows(reshapeTo(taken, [groups * experts]), add(firstSeat, offered));
    const isPlaced = logicalAnd(less(offered, experts), less(add(before, rank), capacity));
    placed = where(isPlaced, offered, placed);
    taken = minimum(add(taken, load), capacity);
    offers = add(offers, load);
    if (round === 0) firstLoad = load;
  }
  return { placed, offers, load: firstLoad };
}
