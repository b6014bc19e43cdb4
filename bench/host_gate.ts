/**
 * A softmax gate on the host in float64: what it chooses, its gradients, and the choices as padded slots.
 *
 * @module
 */
import type { HostGradients } from "./host_experts.ts";

/** Letters: T tokens, D width, E experts, K experts of a token. */
export interface GateSizes {
  /** T. */
  readonly tokens: number;
  /** D. */
  readonly width: number;
  /** E. */
  readonly experts: number;
  /** K. */
  readonly k: number;
}

/** What a gate decides. */
export interface HostChoices {
  /** Softmax of the logits, [T, E]. */
  readonly scores: Float64Array;
  /** The best experts, best first, [T, K]. */
  readonly indices: Uint32Array;
  /** Their scores, [T, K]. */
  readonly weights: Float64Array;
}

/** Chooses the K best experts of every token. */
export function chooseOnHost(
  hidden: ArrayLike<number>,
  gate: ArrayLike<number>,
  { tokens, width, experts, k }: GateSizes,
): HostChoices {
  const scores = new Float64Array(tokens * experts);
  const indices = new Uint32Array(tokens * k);
  const weights = new Float64Array(tokens * k);
  for (let token = 0; token < tokens; token++) {
    const row = scores.subarray(token * experts, (token + 1) * experts);
    for (let d = 0; d < width; d++) {
      const value = hidden[token * width + d]!;
      for (let expert = 0; expert < experts; expert++) row[expert]! += value * gate[d * experts + expert]!;
    }
    const most = Math.max(...row);
    const total = row.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
    row.forEach((logit, expert) => row[expert] = Math.exp(logit - most) / total);
    const best = Array.from(row, (_, expert) => expert).sort((a, b) => row[b]! - row[a]! || a - b);
    for (let choice = 0; choice < k; choice++) {
      indices[token * k + choice] = best[choice]!;
      weights[token * k + choice] = row[best[choice]!]!;
    }
  }
  return { scores, indices, weights };
}

/**
 * Carries the gradients of the weights on to gate and hidden states.
 *
 * @param gradients Gradients of the experts; what the gate adds to those of `hidden` is added in place.
 * @returns The gradient of the gate, [D, E].
 */
export function addGateGradients(
  gradients: HostGradients,
  { scores, indices }: HostChoices,
  { width, experts, k, hidden, gate, checked }: GateSizes & {
    readonly hidden: { readonly data: ArrayLike<number> };
    readonly gate: { readonly data: ArrayLike<number> };
    /** Tokens whose weights have a gradient. */
    readonly checked: readonly number[];
  },
): Float64Array {
  const result = new Float64Array(width * experts);
  for (const token of checked) {
    const row = scores.subarray(token * experts, (token + 1) * experts);
    const slopes = new Float64Array(experts);
    for (let a = token * k; a < (token + 1) * k; a++) slopes[indices[a]!]! += gradients.weight[a]!;
    const mean = row.reduce((sum, score, expert) => sum + score * slopes[expert]!, 0);
    for (let expert = 0; expert < experts; expert++) {
      const slope = row[expert]! * (slopes[expert]! - mean);
      for (let d = 0; d < width; d++) {
        result[d * experts + expert]! += hidden.data[token * width + d]! * slope;
        gradients.hidden[token * width + d]! += gate.data[d * experts + expert]! * slope;
      }
    }
  }
  return result;
}

/** Who goes where, for libraries without plans. C is the largest load, so nothing is dropped. */
export interface Slots {
  /** Token of each slot, [E * C]; token 0 where a slot is empty, whose result nobody takes. */
  readonly slotToken: Int32Array;
  /** Slot of each assignment, [T * K]. */
  readonly assignmentSlot: Int32Array;
  /** 1 at the expert of each assignment, [T, K, E]. */
  readonly oneHotChoices: Float32Array;
}

/** Gives every assignment a slot of its expert. */
export function slotsOf({ indices }: HostChoices, { experts, k }: GateSizes): Slots {
  const loads = new Array<number>(experts).fill(0);
  const places = Array.from(indices, (expert) => loads[expert]!++);
  const capacity = Math.max(...loads);
  const slotToken = new Int32Array(experts * capacity);
  const oneHotChoices = new Float32Array(indices.length * experts);
  const assignmentSlot = Int32Array.from(places, (place, assignment) => indices[assignment]! * capacity + place);
  assignmentSlot.forEach((slot, assignment) => {
    slotToken[slot] = Math.floor(assignment / k);
    oneHotChoices[assignment * experts + indices[assignment]!] = 1;
  });
  return { slotToken, assignmentSlot, oneHotChoices };
}
