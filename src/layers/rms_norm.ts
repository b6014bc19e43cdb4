/**
 * Root-mean-square normalization as a layer.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { ones } from "../ops/creation.ts";
import { rmsNorm } from "../ops/norm.ts";
import { expectOptions, positiveCount } from "../ops/options.ts";
import type { Layer } from "./layer.ts";
import { nonNegative } from "./options.ts";

/** Options of {@linkcode rmsNormLayer}. */
export interface RmsNormLayerOptions {
  /** Size of the last axis. */
  readonly width: number;
  /** Added to the mean square, 1e-6 by default. */
  readonly epsilon?: number;
}

/** Parameters of {@linkcode rmsNormLayer}. */
export interface RmsNormParams {
  /** Factor of each element of a row, [width]. */
  readonly scale: Tensor;
}

/**
 * Divides every row (last axis) by the root of its mean square, then scales it by parameters that start at 1.
 *
 * Shapes: [..., width] -> [..., width]. Computed in f32 for every float type.
 *
 * @returns A layer.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example Shapes stay
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, ones, rmsNormLayer } from "@switchyard/switchyard";
 *
 * const layer = rmsNormLayer({ width: 3 });
 * assertEquals(layer.apply(layer.init(key(0)), ones([2, 3])).shape, [2, 3]);
 * ```
 */
export function rmsNormLayer(options: RmsNormLayerOptions): Layer<RmsNormParams, Tensor, Tensor> {
  expectOptions("rmsNormLayer", { width: positiveCount, epsilon: nonNegative.optional() }, options);
  const { width, epsilon = 1e-6 } = options;
  return {
    name: `rmsNorm(${width})`,
    init: (_key: Key): RmsNormParams => ({ scale: ones([width]) }),
    apply: ({ scale }: RmsNormParams, x: Tensor): Tensor => rmsNorm(x, { scale, epsilon }),
  };
}
