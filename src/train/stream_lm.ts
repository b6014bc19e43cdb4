/**
 * A language model of given blocks, whose stream of hidden states may be wider than its embedding.
 *
 * @module
 */
import {
  add,
  arange,
  type AttentionCache,
  broadcastTo,
  type CachedBlockOutput,
  cast,
  checkpoint,
  type DecodeOutput,
  type DecodeState,
  embedding,
  full,
  type Key,
  less,
  type MoeInput,
  type PrefillInput,
  reshape,
  rmsNormLayer,
  split,
  sub,
  takeAlong,
  type Tensor,
  type TransformerBlockLayer,
  type TransformerLmInput,
  type TransformerLmLayer,
  type TransformerLmOutput,
  type TransformerLmParams,
  unsqueeze,
} from "../../mod.ts";

/** Options of {@linkcode streamLm}. */
export interface StreamLmOptions {
  /** Name of the model. */
  readonly name: string;
  /** Number of token ids. */
  readonly vocabulary: number;
  /** Width of the embedding, which is also the output projection. */
  readonly width: number;
  /** Whether gradients compute the blocks' activations again instead of keeping them. */
  readonly remat: boolean;
  /** The blocks, without routers. */
  readonly blocks: readonly TransformerBlockLayer<object>[];
  /** Makes the stream of embeddings: [..., width] -> [..., stream]. */
  readonly widen: (embedded: Tensor) => Tensor;
  /** Makes of the stream what the output projection reads: [..., stream] -> [..., width]. */
  readonly narrow: (stream: Tensor) => Tensor;
}

/**
 * Builds a language model like `transformerLm` from blocks that are made already.
 *
 * @param options The blocks, and what is before and after them.
 * @returns The model.
 */
export function streamLm(options: StreamLmOptions): TransformerLmLayer<object> {
  const { name, vocabulary, width, remat, blocks, widen, narrow } = options;
  type Params = TransformerLmParams<object>;
  const tokens = embedding({ vocabulary, width });
  const finalNorm = rmsNormLayer({ width });
  const plans = blocks.map(() => null);

  function project(params: Params, stream: Tensor): Tensor {
    return tokens.project(params.embedding, finalNorm.apply(params.norm, narrow(stream)));
  }

  /** Runs the blocks one after another and keeps their caches. */
  function runCached(
    params: Params,
    ids: Tensor,
    run: (block: TransformerBlockLayer<object>, hidden: Tensor, layer: number) => CachedBlockOutput,
  ): { readonly stream: Tensor; readonly caches: readonly AttentionCache[] } {
    const caches: AttentionCache[] = [];
    let stream = widen(tokens.apply(params.embedding, ids));
    for (const [layer, block] of blocks.entries()) {
      const { hidden, cache } = run(block, stream, layer);
      caches.push(cache);
      stream = hidden;
    }
    return { stream, caches };
  }

  return {
    name,
    blocks,
    init(key: Key): Params {
      const [embeddingKey, blockKey, normKey] = split(key, 3);
      const blockKeys: readonly Key[] = split(blockKey, blocks.length);
      return {
        embedding: tokens.init(embeddingKey),
        blocks: blocks.map((block, layer) => block.init(blockKeys[layer]!)),
        norm: finalNorm.init(normKey),
      };
    },
    apply(params: Params, { ids }: TransformerLmInput): TransformerLmOutput {
      const stream = blocks.reduce((hidden, block, layer) => {
        const run = (own: Params["blocks"][number], hidden: Tensor): Tensor => block.apply(own, { hidden }).hidden;
        return (remat ? checkpoint(run) : run)(params.blocks[layer]!, hidden);
      }, widen(tokens.apply(params.embedding, ids)));
      return { logits: project(params, stream), plans };
    },
    prefill(params: Params, { ids, lengths }: PrefillInput, room: number): DecodeOutput {
      const [batch, length] = ids.shape as [number, number];
      const positions = lengths === undefined ? full([batch], length, { dtype: "u32" }) : cast(lengths, "u32"); // [B]
      const mask = less(broadcastTo(arange(length), [batch, length]), unsqueeze(positions, 1)); // [B, S]
      const { stream, caches } = runCached(params, ids, (block, hidden, layer) => {
        const x: MoeInput = { hidden, mask };
        return block.prefill(params.blocks[layer]!, x, room);
      });
      // Padding comes after the prompts, so nothing before it has seen it.
      const last = takeAlong(stream, reshape(sub(positions, 1), [batch, 1, 1]), { axis: 1 });
      return {
        logits: project(params, reshape(last, [batch, stream.shape[2]!])),
        state: { caches, positions },
        plans,
      };
    },
    decodeStep(params: Params, ids: Tensor, { caches: before, positions }: DecodeState): DecodeOutput {
      const { stream, caches } = runCached(
        params,
        ids,
        (block, hidden, layer) => block.decode(params.blocks[layer]!, { hidden, positions }, before[layer]!),
      );
      return { logits: project(params, stream), state: { caches, positions: add(positions, 1) }, plans };
    },
  };
}
