/**
 * Multi-head causal self-attention with rotary positions, for whole sequences and token by token with a cache.
 *
 * Letters: B sequences, S their length, D width, H heads, C channels of a head, M room in a cache.
 *
 * @module
 */
import { iota } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { cachedAttention } from "../ops/attention.ts";
import { partsOf, rotaryAttention } from "../ops/attention_rotary.ts";
import { cast } from "../ops/cast.ts";
import { equal } from "../ops/compare.ts";
import { arange } from "../ops/creation.ts";
import { expectOptions, positive, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { where } from "../ops/select.ts";
import { pad } from "../ops/slice.ts";
import { reshape, swapAxes, unsqueeze } from "../ops/view.ts";
import type { Layer } from "./layer.ts";
import { linear, type LinearParams } from "./linear.ts";
import { flag, nonNegative } from "./options.ts";
import { rotary, rotaryTables } from "./rotary.ts";

/** Options of {@linkcode causalSelfAttention}. */
export interface CausalSelfAttentionOptions {
  /** Size of the last axis of input and output. */
  readonly width: number;
  /** Number of heads. */
  readonly heads: number;
  /** Channels of a head, an even number; width / heads by default. */
  readonly headWidth?: number;
  /** About how many times slower the slowest channels turn with the position than the fastest; 10000 by default. */
  readonly rotaryBase?: number;
  /** Whether the projections add a bias, false by default. */
  readonly bias?: boolean;
  /** Variance of an initial query, key or value whose inputs have variance 1; 1 by default. */
  readonly scale?: number;
  /** The same for the output; 1 by default. */
  readonly outputScale?: number;
}

/** Parameters of {@linkcode causalSelfAttention}. */
export interface CausalSelfAttentionParams {
  /** One projection [D, 3·H·C] to queries, keys and values, in this order; head by head inside each. */
  readonly qkv: LinearParams;
  /** Projection of the heads' results, [H·C, D]. */
  readonly output: LinearParams;
}

/** Keys and values of the tokens so far, rotated already. */
export interface AttentionCache {
  /** [B, H, M, C]. */
  readonly keys: Tensor;
  /** [B, H, M, C]. */
  readonly values: Tensor;
}

/** A result and the cache that goes with it. */
export interface CachedOutput {
  /** Like the input. */
  readonly hidden: Tensor;
  /** Keys and values up to and including the input's tokens. */
  readonly cache: AttentionCache;
}

/** Attention that can also run token by token. Both ways give the same numbers up to rounding. */
export interface CausalSelfAttentionLayer extends Layer<CausalSelfAttentionParams, Tensor, Tensor> {
  /**
   * Applies the layer to [B, S, D] and keeps keys and values in a new cache with room for `room` tokens.
   *
   * @throws {ShapeError} If the sequence does not fit.
   */
  prefill(params: CausalSelfAttentionParams, x: Tensor, room: number): CachedOutput;
  /**
   * Applies the layer to one new token of each sequence, [B, D], which takes place `positions[b]`, u32[B], of the
   * cache. Shapes do not depend on the position. A token past the end of the cache is not kept and not seen.
   */
  decode(params: CausalSelfAttentionParams, x: Tensor, cache: AttentionCache, positions: Tensor): CachedOutput;
}

/** Each [..., S, H, C]. */
interface Heads {
  readonly queries: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
}

function expectRoom(x: Tensor, room: number): void {
  if (x.shape.length === 3 && x.shape[1]! <= room) return;
  throw new ShapeError("shape/cache", {
    summary: x.shape.length === 3
      ? `Cannot keep ${x.shape[1]} tokens: the cache has room for ${room}`
      : `Cannot fill a cache from ${formatAval(x)}: it should be [batch, sequence, width]`,
    facts: [["x", formatAval(x)]],
    fix: x.shape.length === 3 ? "ask for a larger cache or pass fewer tokens" : "add a batch axis of size 1",
    details: { shape: x.shape, room },
  });
}

/**
 * Lets every position gather from itself and earlier ones, by several heads.
 *
 * Shapes: [..., S, D] -> [..., S, D]. Queries and keys turn with their position (rotary, pairs i and i + C/2). Scores and
 * softmax are computed in f32 for every float type. A later token changes nothing before it.
 *
 * @returns A layer with `prefill` and `decode` for generation.
 * @throws {ConfigError} If an option is invalid, or headWidth is left out and width / heads is not a whole even number.
 *
 * @example Two heads
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { causalSelfAttention, key, ones } from "@switchyard/switchyard";
 *
 * const attention = causalSelfAttention({ width: 8, heads: 2 });
 * const params = attention.init(key(0));
 * assertEquals(attention.apply(params, ones([3, 5, 8])).shape, [3, 5, 8]);
 * ```
 *
 * Source: Vaswani et al. 2017; Su et al. 2021 for rotary positions.
 */
export function causalSelfAttention(options: CausalSelfAttentionOptions): CausalSelfAttentionLayer {
  expectOptions(
    "causalSelfAttention",
    {
      width: positiveCount,
      heads: positiveCount,
      headWidth: positiveCount.optional(),
      rotaryBase: positive.optional(),
      bias: flag.optional(),
      scale: nonNegative.optional(),
      outputScale: nonNegative.optional(),
    },
    options,
    () => {
      if (options.headWidth !== undefined) {
        return options.headWidth % 2 === 0
          ? []
          : [["headWidth", options.headWidth, "must be even: channels turn in pairs"]];
      }
      const isEven = options.width % (2 * options.heads) === 0;
      return isEven ? [] : [["heads", options.heads, `must divide width, ${options.width}, into even parts`]];
    },
  );
  const { width, heads, rotaryBase = 10000, bias = false, scale = 1, outputScale = 1 } = options;
  const headWidth = options.headWidth ?? width / heads;
  const inner = heads * headWidth;
  const qkvLayer = linear({ inputs: width, outputs: 3 * inner, bias, scale });
  const outputLayer = linear({ inputs: inner, outputs: width, bias, scale: outputScale });

  /** Queries, keys and values of [..., S, D] beside each other: [..., S, 3, H, C]. */
  function project(params: CausalSelfAttentionParams, x: Tensor): Tensor {
    return reshape(qkvLayer.apply(params.qkv, x), [...x.shape.slice(0, -1), 3, heads, headWidth]);
  }

  /** The same taken apart, the first two rotated. */
  function rotated(joint: Tensor, positions: Tensor): Heads {
    const [queries, keys, values] = partsOf(joint);
    return {
      queries: rotary(queries, positions, { base: rotaryBase }),
      keys: rotary(keys, positions, { base: rotaryBase }),
      values,
    };
  }

  function attend(params: CausalSelfAttentionParams, joint: Tensor): Tensor {
    const tables = rotaryTables(arange(joint.shape.at(-4)!), headWidth / 2, { base: rotaryBase });
    const attended = rotaryAttention(joint, tables); // [..., S, H, C]
    return outputLayer.apply(params.output, reshape(attended, [...joint.shape.slice(0, -3), inner]));
  }

  return {
    name: `causalSelfAttention(${width}, ${heads} x ${headWidth})`,
    init(key: Key): CausalSelfAttentionParams {
      const [qkvKey, outputKey] = split(key);
      return { qkv: qkvLayer.init(qkvKey), output: outputLayer.init(outputKey) };
    },
    apply: (params: CausalSelfAttentionParams, x: Tensor): Tensor => attend(params, project(params, x)),
    prefill(params: CausalSelfAttentionParams, x: Tensor, room: number): CachedOutput {
      expectRoom(x, room);
      const joint = project(params, x);
      const { keys, values } = rotated(joint, arange(x.shape[1]!));
      const free = [0, room - x.shape[1]!] as const;
      const [keptKeys, keptValues] = [keys, values].map((part) => pad(swapAxes(part, 1, 2), [0, 0, free, 0]));
      return { hidden: attend(params, joint), cache: { keys: keptKeys!, values: keptValues! } }; // [B, H, M, C]
    },
    decode(params: CausalSelfAttentionParams, x: Tensor, cache: AttentionCache, positions: Tensor): CachedOutput {
      const batch = x.shape[0]!;
      const { queries, keys, values } = rotated(project(params, x), positions); // [B, H, C]
      const place = iota([1, 1, cache.keys.shape[2]!, 1], "u32", 2);
      const isNew = equal(place, reshape(cast(positions, "u32"), [batch, 1, 1, 1])); // [B, 1, M, 1]
      const kept: AttentionCache = {
        keys: where(isNew, unsqueeze(keys, 2), cache.keys),
        values: where(isNew, unsqueeze(values, 2), cache.values),
      };
      const attended = cachedAttention(queries, kept.keys, kept.values, positions); // [B, H, C]
      return { hidden: outputLayer.apply(params.output, reshape(attended, [batch, inner])), cache: kept };
    },
  };
}
