/**
 * The top-k router as loops over numbers: what the tests compare plans with.
 *
 * @module
 */
import type { TopKRouterOptions } from "../../src/routing/top_k_router.ts";

/** What there is to route, and how. */
export interface NaiveCall extends Omit<TopKRouterOptions, "width"> {
  /** Hidden states by token. */
  readonly hidden: readonly (readonly number[])[];
  /** Which tokens are real. */
  readonly mask: readonly boolean[];
  /** Gate, [D, E], row-major. */
  readonly gate: readonly number[];
  /** Tokens of a sequence. */
  readonly sequenceLength: number;
}

/** What the router should find. */
export interface NaiveResult {
  /** Kept assignments by expert. */
  readonly rows: readonly number[];
  /** Kept by expert. */
  readonly counts: readonly number[];
  /** Offered by expert. */
  readonly load: readonly number[];
  /** By assignment. */
  readonly weights: readonly number[];
  /** Balance loss. */
  readonly balance: number;
  /** z-loss. */
  readonly zLoss: number;
  /** Entropy of the mean distribution. */
  readonly entropy: number;
}

function shares(values: readonly number[]): number[] {
  const total = values.reduce((a, b) => a + b, 0);
  return values.map((value) => value / total);
}

function softmaxOf(logits: readonly number[]): number[] {
  const most = Math.max(...logits);
  return shares(logits.map((value) => Math.exp(value - most)));
}

interface Choice {
  readonly token: number;
  readonly choice: number;
  readonly expert: number;
}

/** Routes outside training. */
export function routeNaively(call: NaiveCall): NaiveResult {
  const { hidden, mask, gate, experts, k, score = "softmax", weights = "scores", sequenceLength } = call;
  const { evalCapacityFactor = call.capacityFactor ?? Infinity, groupSize = sequenceLength, minCapacity = 1 } = call;
  const size = Math.min(groupSize, sequenceLength);
  const capacity = Math.max(Math.min(size, Math.floor(evalCapacityFactor * size * k / experts)), minCapacity);

  const logits = hidden.map((row) =>
    Array.from(
      { length: experts },
      (_, e) => row.reduce((total, value, d) => total + value * gate[d * experts + e]!, 0),
    )
  );
  const scores = logits.map((row) =>
    score === "softmax" ? softmaxOf(row) : row.map((value) => 1 / (1 + Math.exp(-value)))
  );
  const chosen = logits.map((row) => row.map((_, e) => e).sort((a, b) => row[b]! - row[a]! || a - b).slice(0, k));
  const priority = scores.map((row) => call.capacityOrder === "priority" ? Math.max(...row) : 0);
  const weightOf = chosen.map((picked, t) => {
    if (weights === "softmaxSelected") return softmaxOf(picked.map((e) => logits[t]![e]!));
    const own = picked.map((e) => scores[t]![e]!);
    return weights === "normalized" ? shares(own) : own;
  });

  // Groups are cut from sequences, and the last of a sequence may be short.
  const groups: number[][] = [];
  for (let start = 0; start < hidden.length; start += sequenceLength) {
    for (let at = start; at < start + sequenceLength; at += size) {
      const end = Math.min(at + size, start + sequenceLength);
      groups.push(Array.from({ length: end - at }, (_, i) => at + i).filter((t) => mask[t]));
    }
  }
  const real = mask.filter(Boolean).length;
  const kept: Choice[] = [];
  const load = new Array<number>(experts).fill(0);
  let balance = 0;
  for (const members of groups) {
    const offers: Choice[] = members.flatMap((token) =>
      chosen[token]!.map((expert, choice) => ({ token, choice, expert }))
    );
    if (call.capacityOrder !== "tokenMajor") {
      offers.sort((a, b) => a.choice - b.choice || priority[b.token]! - priority[a.token]! || a.token - b.token);
    }
    const taken = new Array<number>(experts).fill(0);
    for (const offer of offers) if (taken[offer.expert]!++ < capacity) kept.push(offer);
    for (let e = 0; e < experts; e++) {
      load[e]! += taken[e]!;
      const share = taken[e]! / (members.length * k || 1);
      const mean = members.reduce((total, t) => total + shares(scores[t]!)[e]!, 0) / (members.length || 1);
      balance += experts * share * mean * members.length / real;
    }
  }

  kept.sort((a, b) => a.expert - b.expert || a.token * k + a.choice - (b.token * k + b.choice));
  const flatWeights = new Array<number>(hidden.length * k).fill(0);
  for (const { token, choice } of kept) flatWeights[token * k + choice] = weightOf[token]![choice]!;
  const meanShares = load.map((_, e) =>
    scores.reduce((sum, row, t) => sum + (mask[t] ? shares(row)[e]! : 0), 0) / real
  );
  const logSums = logits.map((row) => Math.log(row.reduce((total, value) => total + Math.exp(value), 0)));
  return {
    rows: kept.map(({ token, choice }) => token * k + choice),
    counts: load.map((_, e) => kept.filter(({ expert }) => expert === e).length),
    load,
    weights: flatWeights,
    balance,
    zLoss: logSums.reduce((total, value, t) => total + (mask[t] ? value ** 2 : 0), 0) / real,
    entropy: -meanShares.reduce((total, p) => total + p * Math.log(p), 0),
  };
}
