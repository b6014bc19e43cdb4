/**
 * Auxiliary losses of routers and the entropy of routing. None carries a coefficient: the caller owns those.
 *
 * Letters: T tokens, E experts, G routing groups. Padding counts in no sum and no mean.
 *
 * @module
 */
import { castTo, fullLike, reshapeTo } from "../core/arithmetic.ts";
import { stopGradient } from "../core/grad.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, maximum, mul } from "../ops/binary.ts";
import { greater } from "../ops/compare.ts";
import { logSumExp, mean, sum, variance } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { log, neg, square } from "../ops/unary.ts";
import { overGroups, type RoutingGroups, splitByGroup } from "./groups.ts";

/** Zeroes the rows of padding; NaN in them does not survive. */
function realRows(x: Tensor, mask: Tensor | undefined): Tensor {
  if (mask === undefined) return x;
  return where(reshapeTo(mask, [mask.size, ...x.shape.slice(1).map(() => 1)]), x, 0);
}

/** Real tokens, at least 1: f32 scalar. */
function realCount(tokens: number, mask: Tensor | undefined): Tensor {
  if (mask === undefined) return fullLike([], "f32", Math.max(1, tokens));
  return maximum(sum(castTo(mask, "f32")), 1);
}

/** Real tokens of each group, f32[G, 1]. */
function realByGroup(groups: RoutingGroups, mask: Tensor | undefined): Tensor {
  if (mask === undefined && groups.tokens === groups.groups * groups.groupSize) {
    return fullLike([groups.groups, 1], "f32", groups.groupSize);
  }
  const isReal = mask === undefined ? fullLike([groups.tokens], "f32", 1) : castTo(mask, "f32");
  return sum(splitByGroup(isReal, groups), { axis: 1, keepDims: true });
}

/** The sum of [T, ...R] over the real tokens. */
export function sumOverTokens(x: Tensor, mask?: Tensor): Tensor {
  return sum(realRows(x, mask), { axis: 0 });
}

/** The mean of [T, ...R] over the real tokens; 0 if there are none. */
export function meanOverTokens(x: Tensor, mask?: Tensor): Tensor {
  return div(sumOverTokens(x, mask), realCount(x.shape[0]!, mask));
}

/** The sums of [T, ...R] over the real tokens of each group, [G, ...R]. */
export function sumByGroup(x: Tensor, groups: RoutingGroups, mask?: Tensor): Tensor {
  return sum(splitByGroup(realRows(x, mask), groups), { axis: 1 });
}

/** The mean of sums by group [G, ...R] over all real tokens, [...R]; 0 if there are none. */
export function meanOfGroups(sums: Tensor, groups: RoutingGroups, mask?: Tensor): Tensor {
  return div(overGroups(sums), realCount(groups.tokens, mask));
}

/** What {@linkcode balanceLoss} depends on. */
export interface BalanceLossOptions {
  /** Routing probabilities, f32[T, E]; each row sums to 1. */
  readonly distribution: Tensor;
  /** Choices of each expert before capacity, u32[G, E]. */
  readonly load: Tensor;
  /** Experts a token chooses. */
  readonly k: number;
  /** The routing groups. */
  readonly groups: RoutingGroups;
  /** Which tokens are real, bool[T]. */
  readonly mask?: Tensor | undefined;
}

/**
 * The load-balancing loss: in each group `E · Σ_e f_e · P_e`, where `f_e` is the share of all choices that fell on expert
 * e (a constant for derivatives) and `P_e` its mean probability.
 *
 * It is 1 when the choices or the probabilities are uniform, for every k, and E when one expert takes everything; values
 * a little below 1 occur. Groups are averaged, each by its number of real tokens. 0 if there is no real token.
 *
 * @returns f32 scalar.
 *
 * Source: Fedus et al. 2021, equations 4 to 6.
 */
export function balanceLoss({ distribution, load, k, groups, mask }: BalanceLossOptions): Tensor {
  const [tokens, experts] = distribution.shape as [number, number];
  const means = div(sumByGroup(distribution, groups, mask), maximum(realByGroup(groups, mask), 1)); // [G, E]
  // A group's loss is E · Σ load / (k · n) · P and its share of the mean is n / N, so its own size n cancels.
  const total = sum(mul(castTo(stopGradient(load), "f32"), means));
  return div(mul(total, experts / k), realCount(tokens, mask));
}

/**
 * The router z-loss: the mean over real tokens of the squared log-sum-exp of their logits. It keeps logits small.
 *
 * @param logits f32[T, E].
 * @param mask Which tokens are real, bool[T].
 * @returns f32 scalar; 0 if there is no real token.
 *
 * Source: Zoph et al. 2022.
 */
export function zLoss(logits: Tensor, mask?: Tensor): Tensor {
  return meanOverTokens(square(logSumExp(logits, { axis: 1 })), mask);
}

/**
 * The squared coefficient of variation of the elements: their variance (the population's) over their squared mean. 0 if
 * all are equal, also if all are 0.
 *
 * Source: Shazeer et al. 2017, equation 7.
 */
export function squaredVariation(x: Tensor): Tensor {
  return div(variance(x), add(square(mean(x)), 1e-10));
}

/** The entropy in nats of a distribution over the last axis; entries of 0 add nothing. */
export function entropyOf(distribution: Tensor): Tensor {
  const isPositive = greater(distribution, 0);
  const surprise = neg(log(where(isPositive, distribution, 1)));
  return sum(mul(distribution, surprise), { axis: -1 });
}
