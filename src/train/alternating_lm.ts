/**
 * The language model of the router `altup`: a stream of several blocks of the model's width, of which each layer computes
 * one. Embedding and output stay as narrow as those of other models (Recycled-AltUp), so a byte costs the same.
 *
 * @module
 */
import {
  add,
  altUp,
  type AltUpParams,
  type AttentionCache,
  type BlockOutput,
  type CachedBlockOutput,
  cast,
  causalSelfAttention,
  concat,
  type DecodeOutput,
  type DecodeState,
  type DenseBody,
  embedding,
  full,
  type Key,
  type Layer,
  type LayerContext,
  type MoeInput,
  type PrefillInput,
  reshape,
  rmsNormLayer,
  split,
  sub,
  sum,
  takeAlong,
  type Tensor,
  transformerBlock,
  type TransformerBlockLayer,
  type TransformerBlockParams,
  type TransformerLmInput,
  type TransformerLmLayer,
  type TransformerLmOutput,
  type TransformerLmParams,
} from "../../mod.ts";

/** Options of {@linkcode alternatingLm}. */
export interface AlternatingLmOptions {
  /** Number of token ids. */
  readonly vocabulary: number;
  /** Width of one block of the stream, and of the embedding. */
  readonly width: number;
  /** Number of layers. */
  readonly layers: number;
  /** Attention heads. */
  readonly heads: number;
  /** Makes the body of a layer. */
  readonly body: () => DenseBody<object>;
}

/** What a layer has in the place of its body's parameters: those, and the numbers that mix the blocks of the stream. */
export type AlternatingBodyParams = AltUpParams<object>;

/** Blocks of the stream. */
const BLOCKS = 2;

type LayerParams = TransformerBlockParams<AlternatingBodyParams>;

/** The parameters as `altUp` has them: a whole layer beside the numbers that mix. */
function unfolded({ body, ...rest }: LayerParams): AltUpParams<TransformerBlockParams<object>> {
  const { layer, ...mixing } = body;
  return { layer: { ...rest, body: layer }, ...mixing };
}

/** Lets a layer of the model compute block `index` of the stream, in all three ways in which it can run. */
function alternating(
  block: TransformerBlockLayer<object>,
  { width, index }: { readonly width: number; readonly index: number },
): TransformerBlockLayer<AlternatingBodyParams> {
  function around<X extends MoeInput, Y extends BlockOutput>(
    apply: (params: TransformerBlockParams<object>, x: X, context?: LayerContext) => Y,
  ): Layer<AltUpParams<TransformerBlockParams<object>>, X, Y> {
    const layer = { name: block.name, init: (key: Key) => block.init(key), apply };
    return altUp({ layer, width, blocks: BLOCKS, index });
  }

  const whole = around((params, x: MoeInput, context) => block.apply(params, x, context));
  return {
    name: whole.name,
    init(key: Key): LayerParams {
      const { layer: { body, ...rest }, ...mixing } = whole.init(key);
      return { ...rest, body: { layer: body, ...mixing } };
    },
    apply(params: LayerParams, x: MoeInput, context?: LayerContext): BlockOutput {
      return whole.apply(unfolded(params), x, context);
    },
    prefill(params: LayerParams, x: MoeInput, room: number): CachedBlockOutput {
      return around((inner, own: MoeInput) => block.prefill(inner, own, room)).apply(unfolded(params), x);
    },
    decode(
      params: LayerParams,
      x: MoeInput & { readonly positions: Tensor },
      cache: AttentionCache,
    ): CachedBlockOutput {
      return around((inner, own: typeof x) => block.decode(inner, own, cache)).apply(unfolded(params), x);
    },
  };
}

/**
 * Builds a language model like `transformerLm`, with twice the width between its layers and not in them.
 *
 * The embedding is copied into each block of the stream; layers take turns computing a block, and predict and correct
 * the others; in the end the blocks are added up.
 *
 * @param options The sizes and the dense body.
 * @returns The model.
 * @throws {ConfigError} If a size is invalid.
 */
export function alternatingLm(options: AlternatingLmOptions): TransformerLmLayer<AlternatingBodyParams> {
  const { vocabulary, width, layers, heads, body } = options;
  type Params = TransformerLmParams<AlternatingBodyParams>;
  const tokens = embedding({ vocabulary, width });
  const finalNorm = rmsNormLayer({ width });
  const attention = causalSelfAttention({ width, heads, outputScale: 1 / (2 * layers) });
  const blocks = Array.from(
    { length: layers },
    (_, index) => alternating(transformerBlock({ width, attention, body: body() }), { width, index }),
  );

  /** The stream before the first layer: ids [...] -> [..., K · D]. */
  function widened(params: Params, ids: Tensor): Tensor {
    const narrow = tokens.apply(params.embedding, ids);
    return concat(Array.from({ length: BLOCKS }, () => narrow), { axis: -1 });
  }

  /** The logits of what the last layer returns: [..., K · D] -> [..., V]. */
  function project(params: Params, stream: Tensor): Tensor {
    const narrow = sum(reshape(stream, [...stream.shape.slice(0, -1), BLOCKS, width]), { axis: -2 });
    return tokens.project(params.embedding, finalNorm.apply(params.norm, narrow));
  }

  /** Runs the layers one after another and keeps their caches. */
  function runCached(
    stream: Tensor,
    run: (block: TransformerBlockLayer<AlternatingBodyParams>, hidden: Tensor, layer: number) => CachedBlockOutput,
  ): { readonly stream: Tensor; readonly caches: readonly AttentionCache[] } {
    const caches: AttentionCache[] = [];
    for (const [layer, block] of blocks.entries()) {
      const { hidden, cache } = run(block, stream, layer);
      caches.push(cache);
      stream = hidden;
    }
    return { stream, caches };
  }

  const plans = blocks.map(() => null);
  return {
    name: `alternatingLm(${vocabulary}, ${layers} x ${BLOCKS} x ${width})`,
    blocks,
    init(key: Key): Params {
      const [embeddingKey, blockKey, normKey] = split(key, 3);
      const blockKeys: readonly Key[] = split(blockKey, layers);
      return {
        embedding: tokens.init(embeddingKey),
        blocks: blocks.map((block, layer) => block.init(blockKeys[layer]!)),
        norm: finalNorm.init(normKey),
      };
    },
    apply(params: Params, { ids }: TransformerLmInput): TransformerLmOutput {
      const stream = blocks.reduce(
        (hidden, block, layer) => block.apply(params.blocks[layer]!, { hidden }).hidden,
        widened(params, ids),
      );
      return { logits: project(params, stream), plans };
    },
    prefill(params: Params, { ids, lengths }: PrefillInput, room: number): DecodeOutput {
      const [batch, length] = ids.shape as [number, number];
      const positions = lengths === undefined ? full([batch], length, { dtype: "u32" }) : cast(lengths, "u32"); // [B]
      const { stream, caches } = runCached(
        widened(params, ids),
        (block, hidden, layer) => block.prefill(params.blocks[layer]!, { hidden }, room),
      );
      // Padding comes after the prompts, so nothing before it has seen it.
      const last = takeAlong(stream, reshape(sub(positions, 1), [batch, 1, 1]), { axis: 1 });
      return {
        logits: project(params, reshape(last, [batch, BLOCKS * width])),
        state: { caches, positions },
        plans,
      };
    },
    decodeStep(params: Params, ids: Tensor, { caches: before, positions }: DecodeState): DecodeOutput {
      const { stream, caches } = runCached(
        widened(params, ids),
        (block, hidden, layer) => block.decode(params.blocks[layer]!, { hidden, positions }, before[layer]!),
      );
      return { logits: project(params, stream), state: { caches, positions: add(positions, 1) }, plans };
    },
  };
}
