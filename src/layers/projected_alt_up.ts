/**
 * The two ends of Gemma 3n's wide stream: blocks that start as projections of the embedding and end as their mean.
 *
 * Letters: K blocks, D width of a block.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, maximum, mul } from "../ops/binary.ts";
import { stack } from "../ops/concat.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { mean } from "../ops/reduce.ts";
import { slice } from "../ops/slice.ts";
import { sqrt, square } from "../ops/unary.ts";
import { type Hidden, hiddenOf, withHidden } from "./hidden.ts";
import { fanIn } from "./initializers.ts";
import type { Layer, LayerContext } from "./layer.ts";
import { blockOf, expectWidth, joinBlocks, splitBlocks, STREAM_OPTIONS } from "./width_blocks.ts";

/** Options of {@linkcode projectedAltUp}. */
export interface ProjectedAltUpOptions<P, X extends Hidden, Y extends Hidden> {
  /** What works on the stream: one or several layers from `tokenAltUp`, in sequence. */
  readonly layer: Layer<P, X, Y>;
  /** Width of a block, D. */
  readonly width: number;
  /** Number of blocks, K; 4 by default. */
  readonly blocks?: number;
}

/** Parameters of {@linkcode projectedAltUp}. */
export interface ProjectedAltUpParams<P> {
  /** The layer's. */
  readonly layer: P;
  /** Makes blocks 1, 2, … of the hidden states, [K - 1, D, D]. */
  readonly widen: Tensor;
  /** Applied to blocks 1, 2, … before the mean, [K - 1, D, D]. */
  readonly narrow: Tensor;
}

/** Least mean square of a projection that is brought to another magnitude. */
const LEAST_SQUARE = 1e-5;
/** Keeps the root of a row of zeros differentiable. */
const NEARLY_ZERO = 1e-20;

/**
 * Makes K blocks of the hidden states, applies layers to that stream, and takes the mean of the blocks.
 *
 * Shapes: hidden [..., D] -> [..., D], alone or in an object; the layer sees [..., K · D]. Block 0 is the hidden states
 * as they are, the others are projections of them, each row scaled to the root mean square of the same row of block 0. At
 * the end blocks 1, 2, … are projected again and scaled to block 0 as it is then. Computed in f32.
 *
 * @returns A layer.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 * @throws {ShapeError} By `apply`, if the hidden states are not D wide.
 *
 * @example Narrow outside, four blocks inside
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { feedForward, key, ones, projectedAltUp, tokenAltUp } from "@switchyard/switchyard";
 *
 * const inside = tokenAltUp({ layer: feedForward({ width: 4 }), width: 4 });
 * const layer = projectedAltUp({ layer: inside, width: 4 });
 * assertEquals(layer.apply(layer.init(key(0)), ones([5, 4])).shape, [5, 4]);
 * ```
 *
 * Source: Gemma 3n, as in the transformers library.
 */
export function projectedAltUp<P, X extends Hidden, Y extends Hidden>(
  options: ProjectedAltUpOptions<P, X, Y>,
): Layer<ProjectedAltUpParams<P>, X, Y> {
  expectOptions("projectedAltUp", STREAM_OPTIONS, options);
  const { layer, width, blocks = 4 } = options;
  const name = `projectedAltUp(${layer.name}, ${blocks} x ${width})`;
  const shape = [blocks - 1, width, width];

  /** The first block, then the others, projected and scaled to it. */
  function projected(stream: readonly Tensor[], weights: Tensor): Tensor {
    const first = stream[0]!;
    const others = stream.slice(1).map((block, i) => {
      return matchMagnitude(matmul(block, castTo(slice(weights, [i]), "f32")), first);
    });
    return stack([first, ...others], { axis: -2 }); // [..., K, D]
  }

  return {
    name,
    init(key: Key): ProjectedAltUpParams<P> {
      const [layerKey, widenKey, narrowKey] = split(key, 3);
      return {
        layer: layer.init(layerKey),
        widen: fanIn(widenKey, shape, { inputs: width }),
        narrow: fanIn(narrowKey, shape, { inputs: width }),
      };
    },
    apply(params: ProjectedAltUpParams<P>, x: X, context?: LayerContext): Y {
      const narrow = hiddenOf(x);
      expectWidth(name, narrow, width, "one block");
      const copies = new Array<Tensor>(blocks).fill(castTo(narrow, "f32"));
      const widened = joinBlocks(projected(copies, params.widen), narrow);
      const output = layer.apply(params.layer, withHidden(x, widened), context);
      const stream = splitBlocks(name, hiddenOf(output), { width, blocks });
      const parts = Array.from({ length: blocks }, (_, i) => blockOf(stream, i));
      const averaged = mean(projected(parts, params.narrow), { axis: -2 });
      return withHidden(output, castTo(averaged, narrow.dtype));
    },
  };
}

/** Scales each row to the root mean square of the same row of another tensor. */
function matchMagnitude(x: Tensor, target: Tensor): Tensor {
  const [own, wanted] = [x, target].map((rows) => mean(square(rows), { axis: -1, keepDims: true }));
  return mul(x, div(sqrt(maximum(wanted!, NEARLY_ZERO)), sqrt(maximum(own!, LEAST_SQUARE))));
}
