/**
 * A decoder-only transformer language model: token ids to logits, with dense or routed bodies, and generation with a cache
 * whose shapes never change.
 *
 * Letters: B sequences, S their length, D width, V vocabulary, M room in the cache.
 *
 * @module
 */
import { checkpoint } from "../core/custom.ts";
import { ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, sub } from "../ops/binary.ts";
import { cast } from "../ops/cast.ts";
import { less } from "../ops/compare.ts";
import { arange, full } from "../ops/creation.ts";
import { takeAlong } from "../ops/gather.ts";
import { belowOne, expectOptions, oneOf, positive, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { broadcastTo, reshape, unsqueeze } from "../ops/view.ts";
import { expectCausal, type NonCausal } from "../routing/causality.ts";
import type { DispatchPlan } from "../routing/plan_types.ts";
import { type AttentionCache, causalSelfAttention } from "./causal_self_attention.ts";
import { dropoutLayer } from "./dropout.ts";
import { embedding, type EmbeddingParams } from "./embedding.ts";
import type { Layer, LayerContext } from "./layer.ts";
import type { MoeInput } from "./moe.ts";
import { type NormKind, normLayer, type NormParams } from "./norm_kind.ts";
import { callback, flag, nonNegative } from "./options.ts";
import {
  type BlockBody,
  type BlockOutput,
  type CachedBlockOutput,
  transformerBlock,
  type TransformerBlockLayer,
  type TransformerBlockParams,
} from "./transformer_block.ts";

/** Parameters of a body, or of any of several. */
export type BodyParams<B> = B extends { init(key: Key): infer P } ? P : never;

/** Options of {@linkcode transformerLm}. */
export interface TransformerLmOptions<B extends BlockBody<unknown>> {
  /** Number of token ids, 256 (bytes) by default. */
  readonly vocabulary?: number;
  /** Width of the hidden states. */
  readonly width: number;
  /** Number of blocks. */
  readonly layers: number;
  /** Attention heads. */
  readonly heads: number;
  /** Makes the body of block `layer`, 0..layers-1: `feedForward`, `moe` or a layer like them, of the model's width. */
  readonly body: (layer: number) => B;
  /**
   * What becomes of a body whose router lets a token depend on later ones: it is `"refused"` (the default), or used and
   * `"warned"` about, for experiments whose losses are known to be too good.
   */
  readonly nonCausal?: NonCausal;
  /** Channels of a head, width / heads by default. */
  readonly headWidth?: number;
  /** About how many times slower the slowest channels turn with the position than the fastest; 10000 by default. */
  readonly rotaryBase?: number;
  /** Which norm is before each attention, each body and the logits; `"rmsNorm"` by default. */
  readonly norm?: NormKind;
  /** Added under the norms' root; by default 1e-6 for rmsNorm and 1e-5 for layerNorm. */
  readonly epsilon?: number;
  /** Whether attention adds biases, false by default. */
  readonly bias?: boolean;
  /** Share dropped of the embeddings and of each attention's and body's result while training; 0 by default. */
  readonly dropout?: number;
  /** Standard deviation of the initial embeddings, 0.02 by default. */
  readonly deviation?: number;
  /**
   * Variance of an initial output of attention whose inputs have variance 1. By default 1 / (2 · layers), which keeps the
   * residual sum near its start; give bodies the same.
   */
  readonly outputScale?: number;
  /**
   * Whether gradients of `apply` compute each block's activations again instead of keeping them, with
   * {@linkcode checkpoint}: of a block only its input is kept, for about a third more work. Values, plans and gradients
   * are the same up to rounding. False by default.
   */
  readonly remat?: boolean;
}

/** Parameters of {@linkcode transformerLm}. */
export interface TransformerLmParams<P> {
  /** Token embeddings, which are also the output projection. */
  readonly embedding: EmbeddingParams;
  /** The blocks'. */
  readonly blocks: readonly TransformerBlockParams<P>[];
  /** The norm before the logits. */
  readonly norm: NormParams;
}

/** Input of {@linkcode transformerLm}. */
export interface TransformerLmInput {
  /** Token ids, u32 or i32 [B, S]. */
  readonly ids: Tensor;
  /** Which tokens are real, bool [B, S]: padding after a sequence is routed nowhere. All are by default. */
  readonly mask?: Tensor;
}

/** Output of {@linkcode transformerLm}. */
export interface TransformerLmOutput {
  /** Scores of the next token, [B, S, V]. */
  readonly logits: Tensor;
  /** One plan for each block; null where the body is dense. */
  readonly plans: readonly (DispatchPlan | null)[];
}

/** What generation carries from token to token: a tree whose shapes never change. */
export interface DecodeState {
  /** Keys and values of each block, [B, H, M, C]. */
  readonly caches: readonly AttentionCache[];
  /** Tokens of each sequence in the caches, u32[B]: the position of the next one. */
  readonly positions: Tensor;
  /** What stateful routers carry to the next token; absent if none does. */
  readonly carry?: unknown;
}

/** Prompts for {@linkcode TransformerLmLayer.prefill}. */
export interface PrefillInput {
  /** Token ids, u32 or i32 [B, S]; prompts of different lengths are padded at their end. */
  readonly ids: Tensor;
  /** Tokens of each prompt, u32 or i32 [B], at least 1; S by default. */
  readonly lengths?: Tensor;
}

/** What one step of generation returns. */
export interface DecodeOutput {
  /** Scores of the token after the last one, [B, V]. */
  readonly logits: Tensor;
  /** State for the next step. */
  readonly state: DecodeState;
  /** One plan for each block; null where the body is dense. */
  readonly plans: readonly (DispatchPlan | null)[];
}

/**
 * A language model that can also generate. Generation gives the logits of `apply` up to rounding if every router is causal
 * and drops nothing.
 */
export interface TransformerLmLayer<P> extends Layer<TransformerLmParams<P>, TransformerLmInput, TransformerLmOutput> {
  /** The blocks, in order. */
  readonly blocks: readonly TransformerBlockLayer<P>[];
  /**
   * Reads prompts and makes a cache with room for `room` tokens of each sequence, prompt included.
   *
   * @throws {ShapeError} If the prompts do not fit.
   */
  prefill(params: TransformerLmParams<P>, prompt: PrefillInput, room: number): DecodeOutput;
  /**
   * Reads one more token of each sequence, ids u32 or i32 [B]. Under `jit` one program serves all positions. Positions up
   * to the room are the caller's to count: a token past it is not kept.
   */
  decodeStep(params: TransformerLmParams<P>, ids: Tensor, state: DecodeState): DecodeOutput;
}

/** Refuses a body whose router sees later tokens, or warns of it. */
function causalBody<P>(body: BlockBody<P>, nonCausal: NonCausal): BlockBody<P> {
  if ("router" in body) expectCausal("transformerLm", { name: body.name, causal: body.router.causal }, nonCausal);
  return body;
}

function expectIds(ids: Tensor, rank: number): void {
  if (ids.shape.length === rank) return;
  throw new ShapeError("shape/ids", {
    summary: `Cannot read ids ${formatAval(ids)}: they should be ${rank === 2 ? "[batch, sequence]" : "[batch]"}`,
    facts: [["op", "transformerLm"]],
    fix: rank === 2 ? "reshape one sequence to [1, length]" : "pass one id for each sequence",
    details: { shape: ids.shape },
  });
}

/**
 * Predicts the next token at every position: embeddings, blocks, a norm, and the embeddings again as output projection.
 *
 * Shapes: ids [B, S] -> logits [B, S, V]. Positions are rotary, so any length works. Parameters may be cast to half
 * precision leaf by leaf; norms, softmax and routing compute in f32 all the same.
 *
 * @returns A layer whose output holds the logits and each block's plan, with `prefill` and `decodeStep` for generation.
 * @throws {ConfigError} If an option is invalid, or the router of a body is not causal.
 *
 * @example A mixture of experts in every other block
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { feedForward, key, moe, tensor, topKRouter, transformerLm } from "@switchyard/switchyard";
 *
 * const model = transformerLm({
 *   width: 8,
 *   layers: 2,
 *   heads: 2,
 *   body: (layer) =>
 *     layer % 2 === 0
 *       ? feedForward({ width: 8 })
 *       : moe({ router: topKRouter({ width: 8, experts: 4, k: 1 }), width: 8 }),
 * });
 * const ids = tensor([[72, 105, 33]], { dtype: "u32" });
 * const { logits, plans } = model.apply(model.init(key(0)), { ids });
 * assertEquals(logits.shape, [1, 3, 256]);
 * assertEquals(plans.map((plan) => plan?.experts ?? 0), [0, 4]);
 * ```
 */
export function transformerLm<B extends BlockBody<unknown>>(
  options: TransformerLmOptions<B>,
): TransformerLmLayer<BodyParams<B>> {
  type P = BodyParams<B>;
  expectOptions("transformerLm", {
    vocabulary: positiveCount.optional(),
    width: positiveCount,
    layers: positiveCount,
    heads: positiveCount,
    body: callback,
    nonCausal: oneOf("refused", "warned").optional(),
    headWidth: positiveCount.optional(),
    rotaryBase: positive.optional(),
    norm: oneOf("rmsNorm", "layerNorm").optional(),
    epsilon: nonNegative.optional(),
    bias: flag.optional(),
    dropout: belowOne.optional(),
    deviation: positive.optional(),
    outputScale: nonNegative.optional(),
    remat: flag.optional(),
  }, options);
  const { vocabulary = 256, width, layers, heads, headWidth, rotaryBase, epsilon } = options;
  const {
    nonCausal = "refused",
    norm = "rmsNorm",
    bias = false,
    dropout = 0,
    deviation = 0.02,
    outputScale = 1 / (2 * layers),
    remat = false,
  } = options;
  const tokens = embedding({ vocabulary, width, deviation });
  const attention = causalSelfAttention({
    width,
    heads,
    bias,
    outputScale,
    ...(headWidth === undefined ? {} : { headWidth }),
    ...(rotaryBase === undefined ? {} : { rotaryBase }),
  });
  const blocks = Array.from({ length: layers }, (_, layer) =>
    transformerBlock({
      width,
      attention,
      body: causalBody(options.body(layer) as BlockBody<P>, nonCausal),
      norm,
      dropout,
      ...(epsilon === undefined ? {} : { epsilon }),
    }));
  const finalNorm = normLayer(norm, { width, epsilon });
  const dropped = dropoutLayer({ rate: dropout });

  /** Runs the blocks one after another; what a routed body carries goes to the next block. */
  function runBlocks<O extends BlockOutput>(
    input: MoeInput,
    run: (block: TransformerBlockLayer<P>, x: MoeInput, layer: number) => O,
  ): { readonly hidden: Tensor; readonly outputs: readonly O[]; readonly carry?: unknown } {
    const outputs: O[] = [];
    let x = input;
    for (const [layer, block] of blocks.entries()) {
      const output = run(block, x, layer);
      outputs.push(output);
      x = { ...x, hidden: output.hidden, carry: output.plan?.carry ?? x.carry };
    }
    return { hidden: x.hidden, outputs, ...(x.carry === undefined ? {} : { carry: x.carry }) };
  }

  /** Logits [B, V] of hidden states [B, D], and the state after `positions` tokens. */
  function decoded(
    params: TransformerLmParams<P>,
    last: Tensor,
    outputs: readonly CachedBlockOutput[],
    state: Omit<DecodeState, "caches">,
  ): DecodeOutput {
    return {
      logits: tokens.project(params.embedding, finalNorm.apply(params.norm, last)),
      state: { ...state, caches: outputs.map(({ cache }) => cache) },
      plans: outputs.map(({ plan }) => plan),
    };
  }

  return {
    name: `transformerLm(${vocabulary}, ${layers} x ${width})`,
    blocks,
    init(key: Key): TransformerLmParams<P> {
      const [embeddingKey, blockKey, normKey] = split(key, 3);
      const blockKeys: readonly Key[] = split(blockKey, layers);
      return {
        embedding: tokens.init(embeddingKey),
        blocks: blocks.map((block, layer) => block.init(blockKeys[layer]!)),
        norm: finalNorm.init(normKey),
      };
    },
    apply(
      params: TransformerLmParams<P>,
      { ids, mask }: TransformerLmInput,
      { key, train = false }: LayerContext = {},
    ): TransformerLmOutput {
      expectIds(ids, 2);
      const keys: readonly Key[] = train && key !== undefined ? split(key, layers + 1) : [];
      const contextOf = (part: number): LayerContext => keys.length === 0 ? { train } : { train, key: keys[part]! };
      const embedded = dropped.apply({}, tokens.apply(params.embedding, ids), contextOf(layers)); // [B, S, D]
      const input: MoeInput = { hidden: embedded, ids: cast(ids, "u32"), ...(mask === undefined ? {} : { mask }) };
      const { hidden, outputs } = runBlocks(input, (block, x, layer) => {
        const apply = remat ? checkpoint(block.apply) : block.apply;
        return apply(params.blocks[layer]!, x, contextOf(layer));
      });
      return {
        logits: tokens.project(params.embedding, finalNorm.apply(params.norm, hidden)), // [B, S, V]
        plans: outputs.map(({ plan }) => plan),
      };
    },
    prefill(params: TransformerLmParams<P>, { ids, lengths }: PrefillInput, room: number): DecodeOutput {
      expectIds(ids, 2);
      const [batch, length] = ids.shape as [number, number];
      const counts = lengths === undefined ? full([batch], length, { dtype: "u32" }) : cast(lengths, "u32"); // [B]
      const mask = less(broadcastTo(arange(length), [batch, length]), unsqueeze(counts, 1)); // [B, S]
      const { hidden, outputs, ...carried } = runBlocks(
        {
          hidden: tokens.apply(params.embedding, ids),
          ids: cast(ids, "u32"),
          ...(lengths === undefined ? {} : { mask }),
        },
        (block, x, layer) => block.prefill(params.blocks[layer]!, x, room),
      );
      const end = reshape(sub(counts, 1), [batch, 1, 1]);
      const last = reshape(takeAlong(hidden, end, { axis: 1 }), [batch, width]);
      return decoded(params, last, outputs, { positions: counts, ...carried });
    },
    decodeStep(params: TransformerLmParams<P>, ids: Tensor, state: DecodeState): DecodeOutput {
      const { caches, positions, carry } = state;
      expectIds(ids, 1);
      const { hidden, outputs, ...carried } = runBlocks(
        { hidden: tokens.apply(params.embedding, ids), ids: cast(ids, "u32"), carry }, // [B, D]
        (block, x, layer) => block.decode(params.blocks[layer]!, { ...x, positions }, caches[layer]!),
      );
      return decoded(params, hidden, outputs, { positions: add(positions, 1), ...carried });
    },
  };
}
