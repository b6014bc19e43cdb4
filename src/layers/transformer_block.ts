/**
 * One block of a transformer: attention and a body, each behind a norm and beside a residual path.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add } from "../ops/binary.ts";
import { belowOne, expectOptions, oneOf, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { reshape, unsqueeze } from "../ops/view.ts";
import type { DispatchPlan } from "../routing/plan_types.ts";
import type { AttentionCache, CausalSelfAttentionLayer, CausalSelfAttentionParams } from "./causal_self_attention.ts";
import { dropoutLayer } from "./dropout.ts";
import type { Layer, LayerContext } from "./layer.ts";
import type { MoeInput, MoeOutput } from "./moe.ts";
import { type NormKind, normLayer, type NormParams } from "./norm_kind.ts";
import { layerPart, nonNegative } from "./options.ts";

/** A dense body such as `feedForward`. */
export type DenseBody<P> = Layer<P, Tensor, Tensor>;

/** A routed body such as `moe`: known by its router, it sees ids, positions and masks and returns a plan. */
export interface RoutedBody<P> extends Layer<P, MoeInput, MoeOutput> {
  /** Marks the body as routed. */
  readonly router: { readonly causal: boolean };
}

/** What a block does after attention. */
export type BlockBody<P> = DenseBody<P> | RoutedBody<P>;

/** Options of {@linkcode transformerBlock}. */
export interface TransformerBlockOptions<P> {
  /** Size of the last axis. */
  readonly width: number;
  /** Attention of that width, from `causalSelfAttention`. */
  readonly attention: CausalSelfAttentionLayer;
  /** Body of that width: `feedForward`, `moe` or a layer like them. */
  readonly body: BlockBody<P>;
  /** `"rmsNorm"` by default. */
  readonly norm?: NormKind;
  /** Added under the norms' root; by default 1e-6 for rmsNorm and 1e-5 for layerNorm. */
  readonly epsilon?: number;
  /** Share of the attention's and the body's results that is dropped while training; 0 by default. */
  readonly dropout?: number;
}

/** Parameters of {@linkcode transformerBlock}. */
export interface TransformerBlockParams<P> {
  /** Norm before attention. */
  readonly attentionNorm: NormParams;
  /** Attention. */
  readonly attention: CausalSelfAttentionParams;
  /** Norm before the body. */
  readonly bodyNorm: NormParams;
  /** Body. */
  readonly body: P;
}

/** What a block returns. */
export interface BlockOutput {
  /** Hidden states like the input's. */
  readonly hidden: Tensor;
  /** The body's plan; null for a dense body. */
  readonly plan: DispatchPlan | null;
}

/** What a block returns while it fills or uses a cache. */
export interface CachedBlockOutput extends BlockOutput {
  /** Keys and values up to and including the input's tokens. */
  readonly cache: AttentionCache;
}

/** A block that can also run token by token. */
export interface TransformerBlockLayer<P> extends Layer<TransformerBlockParams<P>, MoeInput, BlockOutput> {
  /** Applies the block to [B, S, D] and keeps keys and values in a new cache with room for `room` tokens. */
  prefill(params: TransformerBlockParams<P>, x: MoeInput, room: number): CachedBlockOutput;
  /** Applies the block to one new token of each sequence: hidden [B, D], ids and positions [B]. */
  decode(
    params: TransformerBlockParams<P>,
    x: MoeInput & { readonly positions: Tensor },
    cache: AttentionCache,
  ): CachedBlockOutput;
}

/** Adds a sequence axis of size 1 to what belongs to one token of each sequence. */
function asSequences({ hidden, ids, positions, mask, carry }: MoeInput): MoeInput {
  return {
    hidden: unsqueeze(hidden, 1), // [B, 1, D]
    ...(ids === undefined ? {} : { ids: unsqueeze(ids, 1) }),
    ...(positions === undefined ? {} : { positions: unsqueeze(positions, 1) }),
    ...(mask === undefined ? {} : { mask: unsqueeze(mask, 1) }),
    carry,
  };
}

/**
 * Adds to the hidden states what attention makes of their norm, then what the body makes of the norm of that.
 *
 * Shapes: hidden [..., S, D] -> [..., S, D]; ids, positions and mask, if given, reach a routed body.
 *
 * @returns A layer with `prefill` and `decode` for generation.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example A dense block
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { causalSelfAttention, feedForward, key, ones, transformerBlock } from "@switchyard/switchyard";
 *
 * const block = transformerBlock({
 *   width: 8,
 *   attention: causalSelfAttention({ width: 8, heads: 2 }),
 *   body: feedForward({ width: 8 }),
 * });
 * const { hidden, plan } = block.apply(block.init(key(0)), { hidden: ones([2, 5, 8]) });
 * assertEquals([hidden.shape, plan], [[2, 5, 8], null]);
 * ```
 *
 * Source: Xiong et al. 2020 for norms before the sublayers.
 */
export function transformerBlock<P>(options: TransformerBlockOptions<P>): TransformerBlockLayer<P> {
  expectOptions("transformerBlock", {
    width: positiveCount,
    attention: layerPart,
    body: layerPart,
    norm: oneOf("rmsNorm", "layerNorm").optional(),
    epsilon: nonNegative.optional(),
    dropout: belowOne.optional(),
  }, options);
  const { width, attention, body, norm = "rmsNorm", epsilon, dropout = 0 } = options;
  const normed = normLayer(norm, { width, epsilon });
  const dropped = dropoutLayer({ rate: dropout });

  function applyBody(params: P, x: MoeInput, context: LayerContext): BlockOutput {
    return "router" in body
      ? body.apply(params, x, context)
      : { hidden: body.apply(params, x.hidden, context), plan: null };
  }

  /** The block after attention; `attended` has the shape of the input's hidden states. */
  function finish(
    params: TransformerBlockParams<P>,
    x: MoeInput,
    attended: Tensor,
    { train = false, key }: LayerContext,
  ): BlockOutput {
    const [attendedKey, bodyKey, treatedKey] = train && key !== undefined ? split(key, 3) : [];
    const contextOf = (own: Key | undefined): LayerContext => own === undefined ? { train } : { train, key: own };
    const middle = add(x.hidden, dropped.apply({}, attended, contextOf(attendedKey)));
    const inside: MoeInput = { ...x, hidden: normed.apply(params.bodyNorm, middle) };
    const { hidden, plan } = applyBody(params.body, inside, contextOf(bodyKey));
    return { hidden: add(middle, dropped.apply({}, hidden, contextOf(treatedKey))), plan };
  }

  return {
    name: `transformerBlock(${normed.name}, ${attention.name}, ${body.name})`,
    init(key: Key): TransformerBlockParams<P> {
      const [attentionKey, bodyKey, attentionNormKey, bodyNormKey] = split(key, 4);
      return {
        attentionNorm: normed.init(attentionNormKey),
        attention: attention.init(attentionKey),
        bodyNorm: normed.init(bodyNormKey),
        body: body.init(bodyKey),
      };
    },
    apply(params: TransformerBlockParams<P>, x: MoeInput, context: LayerContext = {}): BlockOutput {
      const attended = attention.apply(params.attention, normed.apply(params.attentionNorm, x.hidden));
      return finish(params, x, attended, context);
    },
    prefill(params: TransformerBlockParams<P>, x: MoeInput, room: number): CachedBlockOutput {
      const { hidden, cache } = attention.prefill(
        params.attention,
        normed.apply(params.attentionNorm, x.hidden),
        room,
      );
      return { ...finish(params, x, hidden, {}), cache };
    },
    decode(
      params: TransformerBlockParams<P>,
      x: MoeInput & { readonly positions: Tensor },
      cache: AttentionCache,
    ): CachedBlockOutput {
      const start = normed.apply(params.attentionNorm, x.hidden);
      const attended = attention.decode(params.attention, start, cache, x.positions);
      const { hidden, plan } = finish(params, asSequences(x), unsqueeze(attended.hidden, 1), {});
      return { hidden: reshape(hidden, x.hidden.shape), plan, cache: attended.cache };
    },
  };
}
