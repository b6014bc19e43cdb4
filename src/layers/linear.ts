/**
 * The linear layer.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add } from "../ops/binary.ts";
import { zeros } from "../ops/creation.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions, positiveCount } from "../ops/options.ts";
import { fanIn } from "./initializers.ts";
import type { Layer } from "./layer.ts";
import { flag, nonNegative } from "./options.ts";

/** Options of {@linkcode linear}. */
export interface LinearOptions {
  /** Size of the last axis of the input. */
  readonly inputs: number;
  /** Size of the last axis of the output. */
  readonly outputs: number;
  /** Whether a bias is added, true by default. */
  readonly bias?: boolean;
  /** Variance of an initial output whose inputs have variance 1; 1 by default. */
  readonly scale?: number;
}

/** Parameters of {@linkcode linear}. */
export interface LinearParams {
  /** Weights, [inputs, outputs]. */
  readonly weight: Tensor;
  /** Added to every output, [outputs]; absent without bias. */
  readonly bias?: Tensor;
}

/**
 * Multiplies the last axis by a matrix and adds a bias.
 *
 * Shapes: [..., inputs] -> [..., outputs]. Weights start truncated normal with variance `scale / inputs`, biases at 0.
 *
 * @returns A layer.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example Rows of three become rows of two
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, linear, ones } from "@switchyard/switchyard";
 *
 * const layer = linear({ inputs: 3, outputs: 2 });
 * assertEquals(layer.apply(layer.init(key(0)), ones([5, 3])).shape, [5, 2]);
 * ```
 */
export function linear(options: LinearOptions): Layer<LinearParams, Tensor, Tensor> {
  expectOptions("linear", {
    inputs: positiveCount,
    outputs: positiveCount,
    bias: flag.optional(),
    scale: nonNegative.optional(),
  }, options);
  const { inputs, outputs, bias = true, scale = 1 } = options;
  return {
    name: `linear(${inputs} -> ${outputs})`,
    init(key: Key): LinearParams {
      const weight = fanIn(key, [inputs, outputs], { inputs, scale });
      return bias ? { weight, bias: zeros([outputs]) } : { weight };
    },
    apply(params: LinearParams, x: Tensor): Tensor {
      const product = matmul(x, params.weight); // [..., outputs]
      return params.bias === undefined ? product : add(product, params.bias);
    },
  };
}
