/**
 * How sigma-MoE starts: weights like those of a dense layer as wide as all experts, and a gate that favors nobody.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, mul } from "../ops/binary.ts";
import { expectOptions, positiveCount } from "../ops/options.ts";
import { sum, variance } from "../ops/reduce.ts";
import { rsqrt, sqrt, square } from "../ops/unary.ts";
import { type GateSize, initGate } from "./gate.ts";

/** Options of {@linkcode sigmaExpertScales}. */
export interface SigmaExpertScalesOptions {
  /** Number of experts of a layer, E. */
  readonly experts: number;
  /** Number of layers of the model, L. */
  readonly layers: number;
}

/** Variances of initial values, as the layer of experts takes them. */
export interface SigmaExpertScales {
  /** Variance of an inner value whose inputs have variance 1: 2 / L. */
  readonly scale: number;
  /** The same for an expert's output: 2 / (E · L). */
  readonly outputScale: number;
}

/**
 * Tells `moe` how experts of sigma-MoE start in a model with norms before its layers: the first product with variance
 * 2 / (D · L), the second with 2 / (E · F · L), where E · F is the inner width of all experts together.
 *
 * @throws {ConfigError} If an option is no count.
 *
 * @example Sixteen experts in a model of twelve layers
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, moe, sigmaExpertScales, sigmaRouter } from "@switchyard/switchyard";
 *
 * const router = sigmaRouter({ width: 8, experts: 16, k: 4, layers: 12 });
 * const scales = sigmaExpertScales({ experts: 16, layers: 12 });
 * const layer = moe({ router, width: 8, inner: 4, activation: "relu", ...scales });
 * assertEquals(layer.init(key(0)).experts.up.shape, [16, 8, 4]);
 * ```
 *
 * Source: Csordás et al. 2023.
 */
export function sigmaExpertScales(options: SigmaExpertScalesOptions): SigmaExpertScales {
  expectOptions("sigmaExpertScales", { experts: positiveCount, layers: positiveCount }, options);
  const { experts, layers } = options;
  return { scale: 2 / layers, outputScale: 2 / (experts * layers) };
}

/** Draws a gate f32[D, E] with variance 2 / (D · L) whose columns have equal norms. */
export function initSigmaGate(key: Key, { width, experts, layers }: GateSize & { readonly layers: number }): Tensor {
  const gate = initGate(key, { width, experts, gateStd: Math.sqrt(2 / (width * layers)) });
  // Columns of one element differ in sign alone, and may have no deviation to keep.
  return width === 1 ? gate : withEvenNorms(gate);
}

/** Gives the columns of a gate [D, E] equal norms and keeps the standard deviation of its elements. */
export function withEvenNorms(gate: Tensor): Tensor {
  const even = mul(gate, rsqrt(sum(square(gate), { axis: 0, keepDims: true })));
  return mul(even, sqrt(div(variance(gate), variance(even))));
}
