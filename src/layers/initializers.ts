/**
 * Initial values of weights.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Shape } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "../ops/binary.ts";
import { truncatedNormal } from "../ops/samplers.ts";

/** Standard deviation of a normal distribution that was cut off at two of its own. */
const DEVIATION_OF_TRUNCATED = 0.87962566103423978;

/** Options of {@linkcode fanIn}. */
export interface FanInOptions {
  /** Number of inputs that one output sums over. */
  readonly inputs: number;
  /** Variance of an output whose inputs have variance 1; 1 by default. */
  readonly scale?: number;
}

/**
 * Draws weights from a truncated normal distribution with variance `scale / inputs`, so that a sum over `inputs`
 * independent values of variance 1 has variance `scale`.
 *
 * @param shape Shape of the weights; leading axes (experts) do not count as inputs unless `inputs` says so.
 *
 * Source: LeCun et al. 1998; Fedus et al. 2021 for a scale below 1 in sparse models.
 */
export function fanIn(key: Key, shape: Shape, { inputs, scale = 1 }: FanInOptions): Tensor {
  return mul(truncatedNormal(key, shape), Math.sqrt(scale / inputs) / DEVIATION_OF_TRUNCATED);
}
