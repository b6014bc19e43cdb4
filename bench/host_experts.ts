/**
 * What experts compute, token by token in float64: the definition that `execute` and the dense layer are checked with.
 *
 * @module
 */
import type { HostData } from "../mod.ts";
import { expectClose, hostGelu, hostGeluSlope } from "./verify.ts";

type Numbers = HostData | Float64Array;

/** Experts of the body `ffn` with gelu and no biases, and what they are given. Letters: T, E, K, D width, F inner. */
export interface HostExperts {
  /** D. */
  readonly width: number;
  /** F. */
  readonly inner: number;
  /** K. */
  readonly k: number;
  /** [T, D]. */
  readonly hidden: Numbers;
  /** [E, D, F]. */
  readonly up: Numbers;
  /** [E, F, D]. */
  readonly down: Numbers;
  /** Expert of each assignment, [T, K]. */
  readonly choices: ArrayLike<number>;
  /** Weight of each assignment, [T, K]. */
  readonly weight: ArrayLike<number>;
}

/** Gradients of all inputs. */
export interface HostGradients {
  /** [T, D]. */
  readonly hidden: Float64Array;
  /** [T, K]. */
  readonly weight: Float64Array;
  /** [E, D, F]. */
  readonly up: Float64Array;
  /** [E, F, D]. */
  readonly down: Float64Array;
}

/** Gradients that are still zero. */
function zeroGradients({ hidden, weight, up, down }: HostExperts): HostGradients {
  return {
    hidden: new Float64Array(hidden.length),
    weight: new Float64Array(weight.length),
    up: new Float64Array(up.length),
    down: new Float64Array(down.length),
  };
}

/**
 * Computes what the experts of one token put out, [D].
 *
 * With a cotangent [T, D] and gradients, adds to these what the token contributes.
 */
function treatToken(
  experts: HostExperts,
  token: number,
  backward?: { readonly cotangent: Numbers; readonly gradients: HostGradients },
): Float64Array {
  const { width, inner, k, choices, weight } = experts;
  const result = new Float64Array(width);
  for (let assignment = token * k; assignment < (token + 1) * k; assignment++) {
    const start = choices[assignment]! * width * inner;
    const raised = raise(experts, token, start);
    const put = lower(experts, raised.map(hostGelu), start);
    put.forEach((value, d) => result[d]! += weight[assignment]! * value);
    if (backward === undefined) continue;
    const { cotangent, gradients } = backward;
    const from = cotangent.subarray(token * width, (token + 1) * width);
    put.forEach((value, d) => gradients.weight[assignment]! += value * from[d]!);
    const slope = Float64Array.from(from, (value) => value * weight[assignment]!);
    addGradients(experts, { token, start, raised, slope }, gradients);
  }
  return result;
}

/** The hidden states of one token times an expert's first matrix, [F]. */
function raise({ width, inner, hidden, up }: HostExperts, token: number, start: number): Float64Array {
  const raised = new Float64Array(inner);
  for (let d = 0; d < width; d++) {
    const value = hidden[token * width + d]!;
    for (let f = 0; f < inner; f++) raised[f]! += value * up[start + d * inner + f]!;
  }
  return raised;
}

/** What lies between the matrices times an expert's second one, [D]. */
function lower({ width, inner, down }: HostExperts, active: Float64Array, start: number): Float64Array {
  const put = new Float64Array(width);
  for (let f = 0; f < inner; f++) {
    for (let d = 0; d < width; d++) put[d]! += active[f]! * down[start + f * width + d]!;
  }
  return put;
}

/** Adds what one assignment contributes, given the slope of the loss by what its expert puts out. */
function addGradients(
  { width, inner, hidden, up, down }: HostExperts,
  { token, start, raised, slope }: {
    readonly token: number;
    readonly start: number;
    readonly raised: Float64Array;
    readonly slope: Float64Array;
  },
  gradients: HostGradients,
): void {
  const raisedSlope = new Float64Array(inner);
  for (let f = 0; f < inner; f++) {
    const active = hostGelu(raised[f]!);
    let activeSlope = 0;
    for (let d = 0; d < width; d++) {
      const at = start + f * width + d;
      gradients.down[at]! += active * slope[d]!;
      activeSlope += down[at]! * slope[d]!;
    }
    raisedSlope[f] = activeSlope * hostGeluSlope(raised[f]!);
  }
  for (let d = 0; d < width; d++) {
    let hiddenSlope = 0;
    for (let f = 0; f < inner; f++) {
      const at = start + d * inner + f;
      gradients.up[at]! += hidden[token * width + d]! * raisedSlope[f]!;
      hiddenSlope += up[at]! * raisedSlope[f]!;
    }
    gradients.hidden[token * width + d]! += hiddenSlope;
  }
}

/** What a layer computed, on the host. What is absent is not checked. */
export interface FoundByLayer {
  /** [T, D]. */
  readonly out?: HostData;
  /** Gradients of the sum of the output times a cotangent. */
  readonly grads?: {
    readonly hidden: HostData;
    readonly up: HostData;
    readonly down: HostData;
    readonly weight?: HostData;
  };
}

/**
 * Compares a layer with its definition.
 *
 * A cotangent that is zero but for the checked tokens leaves only these to compute, and still determines all gradients.
 *
 * @throws {WrongResultError} If the output of a checked token or any gradient is wrong.
 */
export function expectDefinition(
  what: string,
  experts: HostExperts,
  { out, grads }: FoundByLayer,
  { checked, cotangent, adjust }: {
    readonly checked: readonly number[];
    readonly cotangent: Float32Array;
    /** Adds what comes before the experts, such as a gate, contributes to the gradients. */
    readonly adjust?: (gradients: HostGradients) => void;
  },
): void {
  const { width, inner, k } = experts;
  const gradients = zeroGradients(experts);
  for (const token of checked) {
    const expected = treatToken(experts, token, { cotangent, gradients });
    if (out === undefined) continue;
    expectClose(`${what}, token ${token}`, out.subarray(token * width, (token + 1) * width), expected, inner * k);
  }
  adjust?.(gradients);
  for (const name of ["hidden", "up", "down", "weight"] as const) {
    const found = grads?.[name];
    if (found !== undefined) expectClose(`${what}, gradient of ${name}`, found, gradients[name], inner * k);
  }
}
