/**
 * The embedding table, which can also be the output projection.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "../ops/binary.ts";
import { take } from "../ops/gather.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions, positive, positiveCount } from "../ops/options.ts";
import { normal } from "../ops/samplers.ts";
import type { Layer } from "./layer.ts";

/** Options of {@linkcode embedding}. */
export interface EmbeddingOptions {
  /** Number of ids. */
  readonly vocabulary: number;
  /** Numbers that stand for one id. */
  readonly width: number;
  /** Standard deviation of the initial rows, 0.02 by default. */
  readonly deviation?: number;
}

/** Parameters of {@linkcode embedding}. */
export interface EmbeddingParams {
  /** One row for each id, [vocabulary, width]. */
  readonly weight: Tensor;
}

/** A table of vectors that turns ids into vectors and, tied, vectors into scores of ids. */
export interface EmbeddingLayer extends Layer<EmbeddingParams, Tensor, Tensor> {
  /** Scores every id for each vector: [..., width] -> logits [..., vocabulary]. */
  project(params: EmbeddingParams, hidden: Tensor): Tensor;
}

/**
 * Looks up a vector for each id. `project` multiplies with the same table transposed (a tied output).
 *
 * Shapes: ids u32 or i32 [...] -> [..., width]. An id past the table gets its last row.
 *
 * @returns A layer that can also project back.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example Ids in, logits out
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { embedding, key, tensor } from "@switchyard/switchyard";
 *
 * const layer = embedding({ vocabulary: 256, width: 8 });
 * const params = layer.init(key(0));
 * const hidden = layer.apply(params, tensor([[72, 105, 33]], { dtype: "u32" }));
 * assertEquals(hidden.shape, [1, 3, 8]);
 * assertEquals(layer.project(params, hidden).shape, [1, 3, 256]);
 * ```
 *
 * Source: Press and Wolf 2017 for tying.
 */
export function embedding(options: EmbeddingOptions): EmbeddingLayer {
  expectOptions(
    "embedding",
    { vocabulary: positiveCount, width: positiveCount, deviation: positive.optional() },
    options,
  );
  const { vocabulary, width, deviation = 0.02 } = options;
  return {
    name: `embedding(${vocabulary}, ${width})`,
    init: (key: Key): EmbeddingParams => ({ weight: mul(normal(key, [vocabulary, width]), deviation) }),
    apply: (params: EmbeddingParams, ids: Tensor): Tensor => take(params.weight, ids),
    project: (params: EmbeddingParams, hidden: Tensor): Tensor => matmul(hidden, params.weight, { transposeB: true }),
  };
}
