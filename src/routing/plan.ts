/**
 * Building dispatch plans from chosen experts. Everything stays on the device and repeats bit for bit: a stable counting
 * sort, no atomics, no read-back.
 *
 * Letters: T tokens, K choices of a token, A assignments, E experts. What a plan is stands in `plan_types.ts`.
 *
 * @module
 */
import { castTo, fullLike, reshapeTo } from "../core/arithmetic.ts";
import { stopGradient } from "../core/grad.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, maximum, minimum, sub } from "../ops/binary.ts";
import { less, logicalAnd } from "../ops/compare.ts";
import { cumsum } from "../ops/cumsum.ts";
import { take } from "../ops/gather.ts";
import { group } from "../ops/group.ts";
import { sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import { entropyOf } from "./aux_losses.ts";
import { type CapacityOrder, maskChoices, rankChoices } from "./capacity.ts";
import { groupOfToken, overGroups, type RoutingGroups, routingGroups } from "./groups.ts";
import type { DispatchPlan } from "./plan_types.ts";
import { expectArgument } from "./tokens.ts";

/** What every plan carries besides its assignments. */
export interface PlanExtras {
  /** Auxiliary losses by name, f32 scalars without coefficients; none by default. */
  readonly aux?: Readonly<Record<string, Tensor>> | undefined;
  /** Mean routing distribution, f32[E], for the entropy; the load's shares by default. */
  readonly meanDistribution?: Tensor | undefined;
  /** Whether the weight scales what an expert puts out (the default) or what it takes in. */
  readonly scaleAt?: "output" | "input" | undefined;
  /** What a stateful router hands on. */
  readonly carry?: unknown;
}

/** A limit on the assignments an expert takes in each routing group. */
export interface PlanCapacity {
  /** Slots of an expert in a group; no limit by default. */
  readonly capacity?: number | undefined;
  /** The groups; by default one group of all tokens. */
  readonly groups?: RoutingGroups | undefined;
  /** Who is served first, `"choiceMajor"` by default. */
  readonly capacityOrder?: CapacityOrder | undefined;
  /** Priority of each token, f32[T]; the order `"priority"` needs it. */
  readonly priority?: Tensor | undefined;
}

/** Options of {@linkcode planFromTopK}. */
export interface TopKPlanOptions extends PlanExtras, PlanCapacity {
  /** Number of experts. */
  readonly experts: number;
  /** Chosen experts, best first, u32[T, K]; a number from `experts` up is no choice. */
  readonly indices: Tensor;
  /** Combination weights, f32[T, K]. */
  readonly weights: Tensor;
  /** Which tokens are real, bool[T]; padding chooses nobody. */
  readonly mask?: Tensor | undefined;
}

/** Options of {@linkcode planFromAssignments}. */
export interface AssignmentPlanOptions extends PlanExtras {
  /** Number of experts. */
  readonly experts: number;
  /** Expert of each assignment, u32[A], grouped by token; a number from `experts` up is no assignment. */
  readonly indices: Tensor;
  /** Combination weights, f32[A]. */
  readonly weights: Tensor;
  /** First assignment of each token and, last, how many are in use: u32[T + 1], ascending. The rest of A is spare. */
  readonly tokenOffsets: Tensor;
  /** Which tokens are real, bool[T]; padding keeps no assignment. */
  readonly mask?: Tensor | undefined;
}

interface Kept extends PlanExtras {
  readonly tokens: number;
  readonly experts: number;
  /** Expert of each assignment, u32[A]; from `experts` up for dropped ones. */
  readonly kept: Tensor;
  readonly weights: Tensor;
  /** Choices of each expert before capacity, if it differs from what is kept. */
  readonly load?: Tensor | undefined;
  readonly tokenOffsets?: Tensor | undefined;
  /** Tokens of assignments. */
  tokenOf(assignments: Tensor): Tensor;
}

function sharesOf(load: Tensor): Tensor {
  return div(castTo(load, "f32"), maximum(castTo(sum(load), "f32"), 1));
}

/** Sorts what is kept by expert. */
function assemble(parts: Kept): DispatchPlan {
  const { tokens, experts, kept, weights, tokenOffsets, carry } = parts;
  const assignments = kept.size;
  const { offsets, order, rank, counts } = group(kept, experts);
  const load = parts.load ?? counts;
  return {
    tokens,
    experts,
    assignments,
    expertOffsets: offsets,
    rowToken: parts.tokenOf(order),
    rowAssign: order,
    assignRow: rank,
    // A dropped assignment weighs nothing, so no gradient reaches the router through it even if someone reads it.
    weight: where(less(kept, experts), weights, 0),
    ...(tokenOffsets === undefined ? {} : { tokenOffsets }),
    scaleAt: parts.scaleAt ?? "output",
    aux: parts.aux ?? {},
    stats: {
      load,
      counts,
      dropped: sub(fullLike([], "u32", assignments), sum(counts)),
      entropy: stopGradient(entropyOf(parts.meanDistribution ?? sharesOf(load))),
    },
    ...(carry === undefined ? {} : { carry }),
  };
}

/**
 * Builds a plan where every token makes the same number of choices.
 *
 * Assignment `t · K + k` is choice k of token t. With a capacity, the choices that come too late in `capacityOrder` are
 * dropped; weights of dropped choices become 0 and the others stay as they are. Equal inputs give equal plans, bit for
 * bit; derivatives go through the weights and `aux` alone.
 *
 * @returns A plan with `assignments` = T · K.
 * @throws {ShapeError} If shapes do not fit.
 * @throws {DTypeError} If indices are not u32, weights not f32, or the mask not bool.
 *
 * @example Three tokens, one slot for each of two experts
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, planFromTopK, read, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const plan = planFromTopK({
 *   experts: 2,
 *   indices: tensor([[1], [1], [0]], { dtype: "u32" }),
 *   weights: tensor([[0.9], [0.8], [0.7]]),
 *   capacity: 1,
 * });
 * const { expertOffsets, rowToken, stats } = await read(plan);
 * assertEquals([...expertOffsets], [0, 1, 2]);
 * assertEquals([...rowToken].slice(0, 2), [2, 0]);
 * assertEquals([...stats.dropped], [1]);
 * ```
 */
export function planFromTopK(options: TopKPlanOptions): DispatchPlan {
  const { experts, indices, weights, mask, priority, capacity = Infinity, capacityOrder = "choiceMajor" } = options;
  const [tokens = 0, k = 0] = indices.shape;
  const shape = [tokens, k];
  expectArgument("planFromTopK", "indices", indices, shape, "u32");
  expectArgument("planFromTopK", "weights", weights, shape, "f32");
  if (mask !== undefined) expectArgument("planFromTopK", "mask", mask, [tokens], "bool");
  if (priority !== undefined) expectArgument("planFromTopK", "priority", priority, [tokens], "f32");
  const choices = maskChoices(indices, mask, experts);
  const { groups = routingGroups({ tokens }) } = options;
  const ranking = capacity === Infinity ? null : rankChoices({
    choices,
    groupOf: groupOfToken(groups),
    groups: groups.groups,
    experts,
    order: capacityOrder,
    priority,
  });
  const kept = ranking === null ? choices : where(less(ranking.rank, capacity), choices, experts);
  return assemble({
    ...options,
    tokens,
    kept: reshapeTo(kept, [tokens * k]),
    weights: reshapeTo(weights, [tokens * k]),
    load: ranking === null ? undefined : overGroups(ranking.load),
    tokenOf: (assignments) => k === 1 ? assignments : div(assignments, k),
  });
}

/**
 * Builds a plan where tokens have different numbers of assignments, also none. Nothing is dropped but padding.
 *
 * @returns A plan with `tokenOffsets`, and room for all A assignments.
 * @throws {ShapeError} If shapes do not fit.
 * @throws {DTypeError} If indices or offsets are not u32, weights not f32, or the mask not bool.
 *
 * @example Two experts for the first token, none for the second, one for the third
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, planFromAssignments, read, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const plan = planFromAssignments({
 *   experts: 2,
 *   indices: tensor([1, 0, 1], { dtype: "u32" }),
 *   weights: tensor([0.5, 0.5, 1]),
 *   tokenOffsets: tensor([0, 2, 2, 3], { dtype: "u32" }),
 * });
 * const { expertOffsets, rowToken } = await read(plan);
 * assertEquals([...expertOffsets], [0, 1, 3]);
 * assertEquals([...rowToken], [0, 0, 2]);
 * ```
 */
export function planFromAssignments(options: AssignmentPlanOptions): DispatchPlan {
  const { experts, indices, weights, tokenOffsets, mask } = options;
  const [assignments, tokens] = [indices.size, tokenOffsets.size - 1];
  expectArgument("planFromAssignments", "indices", indices, [assignments], "u32");
  expectArgument("planFromAssignments", "weights", weights, [assignments], "f32");
  expectArgument("planFromAssignments", "tokenOffsets", tokenOffsets, [tokens + 1], "u32");
  if (mask !== undefined) expectArgument("planFromAssignments", "mask", mask, [tokens], "bool");
  // Tokens that end at or before an assignment come before its own; ends past the last one belong to no group.
  const ends = group(sliceAxis(tokenOffsets, 0, { start: 1 }), assignments).counts;
  const tokenOf = cumsum(ends); // u32[A], T for the spare ones
  const isUsed = less(tokenOf, tokens);
  const isReal = mask === undefined ? isUsed : logicalAnd(isUsed, take(mask, tokenOf));
  return assemble({
    ...options,
    tokens,
    kept: where(isReal, indices, experts),
    tokenOf: (order) => minimum(take(tokenOf, order), tokens - 1),
  });
}
