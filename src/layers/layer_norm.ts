/**
 * Layer normalization as a layer.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { ones, zeros } from "../ops/creation.ts";
import { layerNorm } from "../ops/norm.ts";
import { expectOptions, positiveCount } from "../ops/options.ts";
import type { Layer } from "./layer.ts";
import { nonNegative } from "./options.ts";

/** Options of {@linkcode layerNormLayer}. */
export interface LayerNormLayerOptions {
  /** Size of the last axis. */
  readonly width: number;
  /** Added to the variance, 1e-5 by default. */
  readonly epsilon?: number;
}

/** Parameters of {@linkcode layerNormLayer}. */
export interface LayerNormParams {
  /** Factor of each element of a row, [width]. */
  readonly scale: Tensor;
  /** Added to each element of a row, [width]. */
  readonly bias: Tensor;
}

/**
 * Gives every row (last axis) mean 0 and variance 1, then scales and shifts it by parameters that start at 1 and 0.
 *
 * Shapes: [..., width] -> [..., width]. Computed in f32 for every float type.
 *
 * @returns A layer.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example Shapes stay
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, layerNormLayer, ones } from "@switchyard/switchyard";
 *
 * const layer = layerNormLayer({ width: 3 });
 * assertEquals(layer.apply(layer.init(key(0)), ones([2, 3])).shape, [2, 3]);
 * ```
 */
export function layerNormLayer(options: LayerNormLayerOptions): Layer<LayerNormParams, Tensor, Tensor> {
  expectOptions("layerNormLayer", { width: positiveCount, epsilon: nonNegative.optional() }, options);
  const { width, epsilon = 1e-5 } = options;
  return {
    name: `layerNorm(${width})`,
    init: (_key: Key): LayerNormParams => ({ scale: ones([width]), bias: zeros([width]) }),
    apply: ({ scale, bias }: LayerNormParams, x: Tensor): Tensor => layerNorm(x, { scale, bias, epsilon }),
  };
}
