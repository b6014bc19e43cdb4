/**
 * Expert capacity: how many slots there are, and who comes in which place. Ranks are what capacity is decided by.
 *
 * @module
 */
import { reshapeTo, transposeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul, sub } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { group } from "../ops/group.ts";
import { takeRows } from "../ops/rows.ts";
import { where } from "../ops/select.ts";
import { argsort } from "../ops/sort.ts";

/**
 * Who is served first where places are short. `"choiceMajor"`: all first choices in token order, then all second ones.
 * `"tokenMajor"`: all choices of a token before those of the next, which keeps routing causal for k > 1.
 * `"priority"`: as `"choiceMajor"`, but tokens by falling priority (their best score) instead of their order.
 */
export type CapacityOrder = "choiceMajor" | "tokenMajor" | "priority";

/** What {@linkcode expertCapacity} depends on. */
export interface CapacityOptions {
  /** Tokens of a routing group, padding included. */
  readonly groupSize: number;
  /** Number of experts. */
  readonly experts: number;
  /** Experts a token visits. */
  readonly k: number;
  /** Slots in proportion to an even load; Infinity for no limit. */
  readonly capacityFactor: number;
  /** Fewest slots. */
  readonly minCapacity: number;
}

/** Absorbs rounding where the exact product is whole: 1.15 · 100 is 114.99999999999999. */
const WHOLE = 1e-9;

/**
 * The slots of one expert in one routing group: `max(min(S, floor(factor · S · k / E)), minCapacity)`.
 *
 * @returns A whole number, or Infinity where the factor is.
 */
export function expertCapacity(options: CapacityOptions): number {
  const { groupSize, experts, k, capacityFactor, minCapacity } = options;
  if (capacityFactor === Infinity) return Infinity;
  const share = Math.floor((capacityFactor * groupSize * k) / experts + WHOLE);
  return Math.max(Math.min(groupSize, share), minCapacity);
}

/** Takes back the choices of padding: they become the number of no expert. */
export function maskChoices(choices: Tensor, mask: Tensor | undefined, experts: number): Tensor {
  return mask === undefined ? choices : where(reshapeTo(mask, [mask.size, 1]), choices, experts);
}

/** Assignments that compete for slots. */
export interface RankOptions {
  /** Experts by token and choice, u32[T, K]; numbers from `experts` up are nobody's. */
  readonly choices: Tensor;
  /** The group of each token, u32[T]. */
  readonly groupOf: Tensor;
  /** Number of groups. */
  readonly groups: number;
  /** Number of experts. */
  readonly experts: number;
  /** Who is served first. */
  readonly order: CapacityOrder;
  /** Priority of each token, f32[T], for that order; ties go to the earlier token. */
  readonly priority?: Tensor | undefined;
}

/** What {@linkcode rankChoices} finds. */
export interface Ranking {
  /** Place of each choice among those for the same expert in the same group, from 0, u32[T, K]; huge for nobody's. */
  readonly rank: Tensor;
  /** Choices for each expert in each group, u32[G, E]. */
  readonly load: Tensor;
}

/** Ranks the choices for each expert within each group: a stable sort on the device. */
export function rankChoices({ choices, groupOf, groups, experts, order, priority }: RankOptions): Ranking {
  const [tokens] = choices.shape as [number, number];
  const ofGroup = add(mul(reshapeTo(groupOf, [tokens, 1]), experts), choices);
  const contest = where(less(choices, experts), ofGroup, groups * experts); // [T, K]
  if (order !== "priority" || priority === undefined) {
    return rankContest(contest, groups, experts, order === "tokenMajor" ? "tokenMajor" : "choiceMajor");
  }
  const turns = argsort(priority, { descending: true }); // token of each turn
  const { rank, load } = rankContest(takeRows(contest, turns), groups, experts, "choiceMajor");
  return { rank: takeRows(rank, argsort(turns)), load };
}

/** Ranks numbers of (group, expert), u32[T, K], each among its equals. */
function rankContest(
  contest: Tensor,
  groups: number,
  experts: number,
  order: Exclude<CapacityOrder, "priority">,
): Ranking {
  const [tokens, k] = contest.shape as [number, number];
  const isChoiceMajor = order === "choiceMajor" && k > 1;
  const inOrder = reshapeTo(isChoiceMajor ? transposeTo(contest, [1, 0]) : contest, [tokens * k]);
  const { rank: position, offsets, counts } = group(inOrder, groups * experts);
  // Nobody's choices have the position 0xFFFFFFFF, which stays beyond every capacity.
  const flat = sub(position, takeRows(offsets, inOrder));
  const rank = isChoiceMajor ? transposeTo(reshapeTo(flat, [k, tokens]), [1, 0]) : reshapeTo(flat, [tokens, k]);
  return { rank, load: reshapeTo(counts, [groups, experts]) };
}
