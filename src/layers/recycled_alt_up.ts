/**
 * Recycled Alternating Updates: a wide stream between a narrow embedding and a narrow output.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import { expectOptions } from "../ops/options.ts";
import { sum } from "../ops/reduce.ts";
import { broadcastTo, unsqueeze } from "../ops/view.ts";
import { type Hidden, hiddenOf, withHidden } from "./hidden.ts";
import type { Layer, LayerContext } from "./layer.ts";
import { expectWidth, joinBlocks, splitBlocks, STREAM_OPTIONS } from "./width_blocks.ts";

/** Options of {@linkcode recycledAltUp}. */
export interface RecycledAltUpOptions<P, X extends Hidden, Y extends Hidden> {
  /** What works on the stream: one or several layers from `altUp`, in sequence. */
  readonly layer: Layer<P, X, Y>;
  /** Width of a block, D. */
  readonly width: number;
  /** Number of blocks, K; 2 by default. */
  readonly blocks?: number;
}

/**
 * Copies the hidden states into each of K blocks, applies layers to that stream, and adds the blocks up.
 *
 * Shapes: hidden [..., D] -> [..., D], alone or in an object; the layer sees [..., K · D]. It has no parameters of its
 * own: the embedding and the output of the model stay D wide. The sum is taken in f32; the final norm follows it.
 *
 * @returns A layer with the parameters of the one inside.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 * @throws {ShapeError} By `apply`, if the hidden states are not D wide.
 *
 * @example Narrow outside, wide inside
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { altUp, feedForward, key, ones, recycledAltUp } from "@switchyard/switchyard";
 *
 * const inside = altUp({ layer: feedForward({ width: 4 }), width: 4, blocks: 3 });
 * const layer = recycledAltUp({ layer: inside, width: 4, blocks: 3 });
 * assertEquals(layer.apply(layer.init(key(0)), ones([5, 4])).shape, [5, 4]);
 * ```
 *
 * Source: Baykal et al. 2023 (Alternating Updates for efficient transformers).
 */
export function recycledAltUp<P, X extends Hidden, Y extends Hidden>(
  options: RecycledAltUpOptions<P, X, Y>,
): Layer<P, X, Y> {
  expectOptions("recycledAltUp", STREAM_OPTIONS, options);
  const { layer, width, blocks = 2 } = options;
  const name = `recycledAltUp(${layer.name}, ${blocks} x ${width})`;

  return {
    name,
    init: (key: Key): P => layer.init(key),
    apply(params: P, x: X, context?: LayerContext): Y {
      const narrow = hiddenOf(x);
      expectWidth(name, narrow, width, "one block");
      const copies = broadcastTo(unsqueeze(narrow, -2), [...narrow.shape.slice(0, -1), blocks, width]);
      const output = layer.apply(params, withHidden(x, joinBlocks(copies, narrow)), context);
      const added = sum(splitBlocks(name, hiddenOf(output), { width, blocks }), { axis: -2 });
      return withHidden(output, castTo(added, narrow.dtype));
    },
  };
}
