/**
 * Alternating Updates: a stream of K blocks, of which each layer computes one and predicts the others.
 *
 * Letters: K blocks, D width of a block.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { eye, ones } from "../ops/creation.ts";
import { count, expectOptions, oneOf } from "../ops/options.ts";
import { reshape } from "../ops/view.ts";
import { type Hidden, hiddenOf, withHidden } from "./hidden.ts";
import type { Layer, LayerContext } from "./layer.ts";
import { blockOf, correctBlocks, joinBlocks, mixBlocks, splitBlocks, STREAM_OPTIONS } from "./width_blocks.ts";

/** Options of {@linkcode altUp}. */
export interface AltUpOptions<P, X extends Hidden, Y extends Hidden> {
  /** A whole layer of the model, such as `transformerBlock`, with its own residual path, from width D to width D. */
  readonly layer: Layer<P, X, Y>;
  /** Width of a block, D: the layer's. */
  readonly width: number;
  /** Number of blocks, K; 2 by default. */
  readonly blocks?: number;
  /** Number of the layer in the model, counted from 0; 0 by default. */
  readonly index?: number;
  /** Which block is computed: `"alternating"` (the default), block `index` mod K, or the `"same"`, block 0. */
  readonly selection?: "alternating" | "same";
  /** What the layer reads: the `"block"` as it came (the default), or as it is `"predicted"`. */
  readonly reads?: "block" | "predicted";
}

/** Parameters of {@linkcode altUp}: the layer's, and K² + K numbers. */
export interface AltUpParams<P> {
  /** The layer's. */
  readonly layer: P;
  /** Share of block j in the prediction of block i, at place i · K + j: f32[K²], a vector so that it is not decayed. */
  readonly prediction: Tensor;
  /** Share of the computed block's error that is added to each block, f32[K]. */
  readonly correction: Tensor;
}

/**
 * Widens the hidden states of a layer K times without widening the layer: it computes one of K blocks; all blocks are
 * predicted from each other and corrected by how far the computed one is off its prediction.
 *
 * Shapes: hidden [..., K · D] -> [..., K · D], alone or in an object; the layer sees [..., D] and everything else of the
 * object, and what it returns besides is passed on. `predicted_i = Σ_j prediction[i, j] · x_j`, then
 * `y_i = predicted_i + correction_i · (layer(x_a) - predicted_a)` for the active block a, in f32.
 *
 * The start is the identity (prediction I, correction 1): the active block gets what the layer returns, and every other
 * block the same increment. Other starts train badly, and so does decaying these parameters. Give every layer its own.
 *
 * @returns A layer over the stream; embedding and output of the model are K · D wide, or see `recycledAltUp`.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 * @throws {ShapeError} By `apply`, if the hidden states are not K · D wide.
 *
 * @example Two layers that take turns
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { altUp, feedForward, key, ones, sequential } from "@switchyard/switchyard";
 *
 * const layer = feedForward({ width: 4 });
 * const stack = sequential(altUp({ layer, width: 4, index: 0 }), altUp({ layer, width: 4, index: 1 }));
 * assertEquals(stack.apply(stack.init(key(0)), ones([3, 8])).shape, [3, 8]);
 * ```
 *
 * Source: Baykal et al. 2023 (Alternating Updates for efficient transformers).
 */
export function altUp<P, X extends Hidden, Y extends Hidden>(
  options: AltUpOptions<P, X, Y>,
): Layer<AltUpParams<P>, X, Y> {
  expectOptions("altUp", {
    ...STREAM_OPTIONS,
    index: count.optional(),
    selection: oneOf("alternating", "same").optional(),
    reads: oneOf("block", "predicted").optional(),
  }, options);
  const { layer, width, blocks = 2, index = 0, selection = "alternating", reads = "block" } = options;
  const active = selection === "alternating" ? index % blocks : 0;
  const name = `altUp(${layer.name}, block ${active} of ${blocks})`;

  return {
    name,
    init: (key: Key): AltUpParams<P> => ({
      layer: layer.init(key),
      prediction: reshape(eye(blocks), [blocks * blocks]),
      correction: ones([blocks]),
    }),
    apply(params: AltUpParams<P>, x: X, context?: LayerContext): Y {
      const wide = hiddenOf(x);
      const stream = splitBlocks(name, wide, { width, blocks }); // [..., K, D]
      const predicted = mixBlocks(stream, castTo(reshape(params.prediction, [blocks, blocks]), "f32"));
      const read = castTo(blockOf(reads === "block" ? stream : predicted, active), wide.dtype);
      const output = layer.apply(params.layer, withHidden(x, read), context);
      const corrected = correctBlocks(predicted, active, hiddenOf(output), castTo(params.correction, "f32"));
      return withHidden(output, joinBlocks(corrected, wide));
    },
  };
}
