/**
 * The feed-forward layer of a transformer: the dense counterpart of one expert.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { gelu, relu, silu } from "../ops/activations.ts";
import { mul } from "../ops/binary.ts";
import { expectOptions, oneOf, type OptionShape, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import type { Layer } from "./layer.ts";
import { linear, type LinearParams } from "./linear.ts";
import { flag, nonNegative } from "./options.ts";

/** What is applied between the two products; gelu is the tanh form. */
export type Activation = "relu" | "gelu" | "silu";

/** Options of {@linkcode feedForward}. */
export interface FeedForwardOptions {
  /** Size of the last axis of input and output. */
  readonly width: number;
  /** Size between the two products, 4·width by default. */
  readonly inner?: number;
  /** Nonlinearity, `"gelu"` by default. */
  readonly activation?: Activation;
  /** `"ffn"` (the default): down(act(up(x))). `"glu"`: down(act(gate(x)) · up(x)). */
  readonly body?: "ffn" | "glu";
  /** Whether the products add a bias, false by default. */
  readonly bias?: boolean;
  /** Variance of an initial inner value whose inputs have variance 1; 1 by default. */
  readonly scale?: number;
  /** The same for the output; 1 by default. */
  readonly outputScale?: number;
}

/** What the options accept; layers whose experts are feed-forward layers take the same. */
export const feedForwardOptionShape: OptionShape = {
  width: positiveCount,
  inner: positiveCount.optional(),
  activation: oneOf("relu", "gelu", "silu").optional(),
  body: oneOf("ffn", "glu").optional(),
  bias: flag.optional(),
  scale: nonNegative.optional(),
  outputScale: nonNegative.optional(),
};

/** Parameters of {@linkcode feedForward}. */
export interface FeedForwardParams {
  /** [width, inner]. */
  readonly up: LinearParams;
  /** [width, inner]; present for the gated body. */
  readonly gate?: LinearParams;
  /** [inner, width]. */
  readonly down: LinearParams;
}

/** The op behind each name. */
export const ACTIVATIONS: Readonly<Record<Activation, (x: Tensor) => Tensor>> = {
  relu,
  silu,
  gelu: (x) => gelu(x, { approximate: "tanh" }),
};

/**
 * Treats every position by itself: up, a nonlinearity, down.
 *
 * Shapes: [..., width] -> [..., width].
 *
 * @returns A layer.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example A gated body
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { feedForward, key, ones } from "@switchyard/switchyard";
 *
 * const layer = feedForward({ width: 8, inner: 12, body: "glu", activation: "silu" });
 * const params = layer.init(key(0));
 * assertEquals(params.gate?.weight.shape, [8, 12]);
 * assertEquals(layer.apply(params, ones([2, 5, 8])).shape, [2, 5, 8]);
 * ```
 *
 * Source: Vaswani et al. 2017; Shazeer 2020 for the gated body.
 */
export function feedForward(options: FeedForwardOptions): Layer<FeedForwardParams, Tensor, Tensor> {
  expectOptions("feedForward", feedForwardOptionShape, options);
  const { width, inner = 4 * width, activation = "gelu", body = "ffn", bias = false } = options;
  const { scale = 1, outputScale = 1 } = options;
  const upLayer = linear({ inputs: width, outputs: inner, bias, scale });
  const downLayer = linear({ inputs: inner, outputs: width, bias, scale: outputScale });
  const activate = ACTIVATIONS[activation];
  return {
    name: `feedForward(${width} -> ${inner}, ${body}, ${activation})`,
    init(key: Key): FeedForwardParams {
      const [upKey, downKey, gateKey] = split(key, 3);
      const params: FeedForwardParams = { up: upLayer.init(upKey), down: downLayer.init(downKey) };
      return body === "glu" ? { ...params, gate: upLayer.init(gateKey) } : params;
    },
    apply({ up, gate, down }: FeedForwardParams, x: Tensor): Tensor {
      const raised = upLayer.apply(up, x); // [..., inner]
      const inside = gate === undefined ? activate(raised) : mul(activate(upLayer.apply(gate, x)), raised);
      return downLayer.apply(down, inside);
    },
  };
}
