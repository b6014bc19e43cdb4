/**
 * The linear gate of learned routers: hidden states to logits, in f32 whatever their type, and what may disturb its input
 * while training.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "../ops/binary.ts";
import { dropout } from "../ops/dropout.ts";
import { matmul } from "../ops/matmul.ts";
import { split } from "../ops/random.ts";
import { normal, truncatedNormal, uniform } from "../ops/samplers.ts";
import { expectArgument } from "./tokens.ts";

/** Sizes of a gate. */
export interface GateSize {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
}

/** Distribution of an initial gate. */
export interface GateInit extends GateSize {
  /** `"normal"` by default; `"truncatedNormal"` is cut at two deviations. */
  readonly gateInit?: "normal" | "truncatedNormal" | undefined;
  /** Standard deviation (before it is cut), 0.02 by default. */
  readonly gateStd?: number | undefined;
}

/** Draws a gate, f32[D, E]. */
export function initGate(key: Key, { width, experts, gateInit = "normal", gateStd = 0.02 }: GateInit): Tensor {
  const draw = gateInit === "normal" ? normal : truncatedNormal;
  return mul(draw(key, [width, experts]), gateStd);
}

/**
 * What a gate sees: the hidden states [T, D] in f32, checked.
 *
 * @throws {ShapeError} If they do not have the width.
 */
export function gateInput(name: string, hidden: Tensor, width: number): Tensor {
  expectArgument(name, "tokens.hidden", hidden, [hidden.shape[0]!, width], "float");
  // Rounding logits to half precision would make ties, and with them other choices.
  return castTo(hidden, "f32");
}

/**
 * Multiplies by a gate of the parameters, f32[T, D] to [T, E].
 *
 * @param field Name of the gate among the parameters.
 * @throws {ShapeError} If the gate is not [D, E].
 */
export function throughGate(
  name: string,
  input: Tensor,
  gate: Tensor,
  { width, experts }: GateSize,
  field = "gate",
): Tensor {
  expectArgument(name, `params.${field}`, gate, [width, experts], "float");
  return matmul(input, castTo(gate, "f32"));
}

/** Logits f32[T, E] of hidden states [T, D], undisturbed. */
export function gateLogits(name: string, hidden: Tensor, gate: Tensor, size: GateSize): Tensor {
  return throughGate(name, gateInput(name, hidden, size.width), gate, size);
}

/** What disturbs the input of a gate while training. */
export interface GateNoise {
  /** Each value is multiplied by a number in 1 - jitter to 1 + jitter; 0 by default. */
  readonly jitter?: number | undefined;
  /** Share of the values that are dropped, the others being scaled up; 0 by default. */
  readonly inputDropout?: number | undefined;
}

/** Disturbs the input of a gate; consumes the key. */
export function disturbed(key: Key, input: Tensor, { jitter = 0, inputDropout = 0 }: GateNoise): Tensor {
  const [jitterKey, dropoutKey] = split(key);
  const thinned = dropout(dropoutKey, input, inputDropout);
  if (jitter === 0) return thinned;
  return mul(thinned, uniform(jitterKey, input.shape, { min: 1 - jitter, max: 1 + jitter }));
}
