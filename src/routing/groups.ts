/**
 * Routing groups: the consecutive tokens of one sequence that share capacities and are balanced among themselves.
 *
 * Letters: T tokens, G groups, S tokens of a full group. The last group of a sequence may be shorter.
 *
 * @module
 */
import { iota, reshapeTo, sumOver } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, mul, remainder } from "../ops/binary.ts";
import { pad } from "../ops/slice.ts";

/** How tokens fall into groups; all static. */
export interface RoutingGroups {
  /** T. */
  readonly tokens: number;
  /** G. */
  readonly groups: number;
  /** S: tokens of a group that is not cut short. */
  readonly groupSize: number;
  /** Number of sequences. */
  readonly sequences: number;
  /** Tokens of a sequence; groups do not cross its end. */
  readonly sequenceLength: number;
}

/** Options of {@linkcode routingGroups}. */
export interface RoutingGroupsOptions {
  /** T. */
  readonly tokens: number;
  /** Most tokens a group may have; by default a group is a sequence. */
  readonly groupSize?: number | undefined;
  /** Tokens of a sequence, a divisor of T; by default all tokens are one sequence. */
  readonly sequenceLength?: number | undefined;
}

/** Cuts every sequence into groups of `groupSize` tokens; the rest of a sequence is a shorter group. */
export function routingGroups({ tokens, groupSize, sequenceLength = tokens }: RoutingGroupsOptions): RoutingGroups {
  const size = Math.max(1, Math.min(groupSize ?? sequenceLength, sequenceLength));
  // Without tokens there is one empty group, so that shapes stay positive.
  const sequences = sequenceLength === 0 ? 1 : tokens / sequenceLength;
  const groups = sequences * Math.max(1, Math.ceil(sequenceLength / size));
  return { tokens, groups, groupSize: size, sequences, sequenceLength };
}

/** The group of each token, u32[T]. */
export function groupOfToken({ tokens, groups, groupSize, sequences, sequenceLength }: RoutingGroups): Tensor {
  const token = iota([tokens], "u32", 0);
  if (sequenceLength % groupSize === 0) return div(token, groupSize);
  const sequence = div(token, sequenceLength);
  return add(mul(sequence, groups / sequences), div(remainder(token, sequenceLength), groupSize));
}

/** Brings [T, ...R] to [G, S, ...R]; short groups end in zeros. */
export function splitByGroup(x: Tensor, { groups, groupSize, sequences, sequenceLength }: RoutingGroups): Tensor {
  const rest = x.shape.slice(1);
  const missing = (groups * groupSize) / sequences - sequenceLength;
  const bySequence = reshapeTo(x, [sequences, sequenceLength, ...rest]);
  const padded = missing === 0 ? bySequence : pad(bySequence, [0, [0, missing], ...rest.map(() => 0)]);
  return reshapeTo(padded, [groups, groupSize, ...rest]);
}

/** Adds [G, ...R] over the groups, [...R]. */
export function overGroups(x: Tensor): Tensor {
  return x.shape[0] === 1 ? reshapeTo(x, x.shape.slice(1)) : sumOver(x, [0]);
}
