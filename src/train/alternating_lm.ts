/**
 * The language models of the router `altup`, in three forms of Alternating Updates.
 *
 * @module
 */
import {
  causalSelfAttention,
  concat,
  type DenseBody,
  reshape,
  sum,
  type Tensor,
  transformerBlock,
  type TransformerBlockLayer,
  type TransformerLmLayer,
} from "../../mod.ts";
import { alternatingBlock } from "./alternating_block.ts";
import { DEFAULT_STRIDE, sequenceBlock } from "./sequence_block.ts";
import { streamLm } from "./stream_lm.ts";
import type { AltUpForm } from "./variants.ts";

/** Options of {@linkcode alternatingLm}. */
export interface AlternatingLmOptions {
  /** Number of token ids. */
  readonly vocabulary: number;
  /** Width that a layer computes. */
  readonly width: number;
  /** Number of layers. */
  readonly layers: number;
  /** Attention heads. */
  readonly heads: number;
  /** Whether gradients compute the layers' activations again instead of keeping them; false by default. */
  readonly remat?: boolean;
  /** Makes the body of a layer. */
  readonly body: () => DenseBody<object>;
  /** Which form; see {@linkcode alternatingLm}. */
  readonly form: AltUpForm;
  /** Blocks of the stream, 2 by default; not for `sequence`. */
  readonly blocks?: number;
  /** Which block a layer computes, `"alternating"` by default; not for `sequence`. */
  readonly selection?: "alternating" | "same";
  /** For `sequence`: every how many positions one is computed, 2 by default. */
  readonly stride?: number;
}

/**
 * Builds a language model like `transformerLm` with Alternating Updates.
 *
 * - `recycled`: between the layers the stream is several times as wide as in them. The embedding is copied into each block
 *   of it, each layer computes one block and predicts and corrects the others, and in the end the blocks are added up.
 * - `full`: the same, but embedding and output are as wide as the stream.
 * - `sequence`: the stream is as wide as the layers; those between the first and the last compute every k-th position.
 *
 * A byte costs as much in a layer of the first two as in that of a dense model, and in the third's, on average, a k-th of it.
 *
 * @param options The form, the sizes and the dense body.
 * @returns The model, which is causal.
 * @throws {ConfigError} If a size is invalid.
 */
export function alternatingLm(options: AlternatingLmOptions): TransformerLmLayer<object> {
  const { vocabulary, width, layers, heads, remat = false, body, form, blocks: count = 2, selection } = options;
  const attention = causalSelfAttention({ width, heads, outputScale: 1 / (2 * layers) });
  const plain = Array.from({ length: layers }, () => transformerBlock({ width, attention, body: body() }));
  const name = `alternatingLm(${vocabulary}, ${form}, ${layers} x`;
  if (form === "sequence") {
    const { stride = DEFAULT_STRIDE } = options;
    const isWhole = (layer: number): boolean => layer === 0 || layer === layers - 1;
    const blocks = plain.map((block, layer): TransformerBlockLayer<object> =>
      isWhole(layer) ? block : sequenceBlock(block, stride) as TransformerBlockLayer<object>
    );
    return streamLm({
      name: `${name} ${width}, 1 of ${stride} positions)`,
      vocabulary,
      width,
      remat,
      blocks,
      widen: unchanged,
      narrow: unchanged,
    });
  }
  const blocks = plain.map((block, index) =>
    alternatingBlock(block, {
      width,
      blocks: count,
      index,
      ...(selection === undefined ? {} : { selection }),
    }) as TransformerBlockLayer<object>
  );
  const isFull = form === "full";
  return streamLm({
    name: `${name} ${count} x ${width})`,
    vocabulary,
    width: isFull ? count * width : width,
    remat,
    blocks,
    widen: isFull ? unchanged : (narrow) => concat(Array.from({ length: count }, () => narrow), { axis: -1 }),
    narrow: isFull
      ? unchanged
      : (stream) => sum(reshape(stream, [...stream.shape.slice(0, -1), count, width]), { axis: -2 }),
  });
}

function unchanged(x: Tensor): Tensor {
  return x;
}
