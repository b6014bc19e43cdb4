/**
 * The feed-forward layer that keeps only the greatest inner values of each position.
 *
 * @module
 */
import type { OptionProblem } from "../core/errors.ts";
import { stopGradient } from "../core/grad.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { relu } from "../ops/activations.ts";
import { less } from "../ops/compare.ts";
import { belowOne, expectOptions, flag, nonNegative, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import { topK } from "../ops/top_k.ts";
import { dropoutLayer } from "./dropout.ts";
import type { FeedForwardParams } from "./feed_forward.ts";
import type { Layer, LayerContext } from "./layer.ts";
import { linear } from "./linear.ts";

/** Options of {@linkcode topKFeedForward}. */
export interface TopKFeedForwardOptions {
  /** Size of the last axis of input and output. */
  readonly width: number;
  /** Inner values that are kept, 1..inner. */
  readonly k: number;
  /** Size between the two products, 4·width by default. */
  readonly inner?: number;
  /** Whether the products add a bias, false by default. */
  readonly bias?: boolean;
  /** Share of the inner values that is dropped while training, before the greatest are found; 0 by default. */
  readonly dropout?: number;
  /** Variance of an initial inner value whose inputs have variance 1; 1 by default. */
  readonly scale?: number;
  /** The same for the output; 1 by default. */
  readonly outputScale?: number;
}

/**
 * Keeps the elements of each row (last axis) that are not below its k-th greatest, and zeroes the others.
 *
 * Shapes stay. Ties are kept, so a row may keep more than k. What is kept is constant for derivatives.
 *
 * @param k From 1 to the size of the last axis.
 * @throws {ConfigError} If `k` is out of range.
 * @throws {ShapeError} If `x` has no axis.
 *
 * @example A tie at the threshold
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, keepGreatest, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await keepGreatest(tensor([3, 0, 2, 2, 1]), 2).data()], [3, 0, 2, 2, 0]);
 * ```
 *
 * Source: Csordás et al. 2023.
 */
export function keepGreatest(x: Tensor, k: number): Tensor {
  const { values } = topK(stopGradient(x), k); // [..., k]
  // "Not below" rather than "at least": NaN compares as false and has to stay visible.
  return where(less(x, sliceAxis(values, -1, { start: k - 1 })), 0, x);
}

/**
 * Treats every position by itself: up, relu, only the k greatest inner values, down.
 *
 * Shapes: [..., width] -> [..., width]. Parameters are those of `feedForward` without a gate, and with k = inner the
 * function is too. Where fewer than k inner values are above 0, all pass. Cost is that of the dense layer: both products
 * are whole.
 *
 * @returns A layer; its `apply` throws ConfigError if it trains with dropout and without a key.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Eight of 32 inner values
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, ones, topKFeedForward } from "@switchyard/switchyard";
 *
 * const layer = topKFeedForward({ width: 8, k: 8 });
 * const params = layer.init(key(0));
 * assertEquals(params.up.weight.shape, [8, 32]);
 * assertEquals(layer.apply(params, ones([2, 5, 8])).shape, [2, 5, 8]);
 * ```
 *
 * Source: Csordás et al. 2023.
 */
export function topKFeedForward(options: TopKFeedForwardOptions): Layer<FeedForwardParams, Tensor, Tensor> {
  expectOptions(
    "topKFeedForward",
    {
      width: positiveCount,
      k: positiveCount,
      inner: positiveCount.optional(),
      bias: flag.optional(),
      dropout: belowOne.optional(),
      scale: nonNegative.optional(),
      outputScale: nonNegative.optional(),
    },
    options,
    () => keptProblems(options),
  );
  const { width, k, inner = 4 * width, bias = false, dropout = 0, scale = 1, outputScale = 1 } = options;
  const upLayer = linear({ inputs: width, outputs: inner, bias, scale });
  const downLayer = linear({ inputs: inner, outputs: width, bias, scale: outputScale });
  const dropLayer = dropoutLayer({ rate: dropout });
  return {
    name: `topKFeedForward(${width} -> ${inner}, ${k} kept)`,
    init(key: Key): FeedForwardParams {
      const [upKey, downKey] = split(key);
      return { up: upLayer.init(upKey), down: downLayer.init(downKey) };
    },
    apply({ up, down }: FeedForwardParams, x: Tensor, context: LayerContext = {}): Tensor {
      const active = dropLayer.apply({}, relu(upLayer.apply(up, x)), context); // [..., inner]
      return downLayer.apply(down, keepGreatest(active, k));
    },
  };
}

function keptProblems({ width, k, inner = 4 * width }: TopKFeedForwardOptions): readonly OptionProblem[] {
  return k <= inner ? [] : [["k", k, `must be a whole number in 1..${inner} (inner is ${inner})`]];
}
