/**
 * Queries of a product-key memory: from hidden states to a normalized pair of half queries for each head.
 *
 * Letters: T tokens, D width, H heads, h size of a half query.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul, sub } from "../ops/binary.ts";
import { ones, zeros } from "../ops/creation.ts";
import { matmul } from "../ops/matmul.ts";
import { layerNorm } from "../ops/norm.ts";
import { expectOptions, fraction } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { mean, variance } from "../ops/reduce.ts";
import { uniform } from "../ops/samplers.ts";
import { rsqrt } from "../ops/unary.ts";
import { reshape } from "../ops/view.ts";
import type { LayerNormParams } from "./layer_norm.ts";
import type { LinearParams } from "./linear.ts";

/**
 * How queries are normalized: each half query by itself, each feature over the tokens of the batch (while training;
 * by running statistics outside), or not at all.
 */
export type QueryNorm = "layerNorm" | "batchNorm" | "none";

/** Mean and variance of each feature of the queries. */
export interface QueryStatistics {
  /** f32[H, 2, h]. */
  readonly mean: Tensor;
  /** f32[H, 2, h]. */
  readonly variance: Tensor;
}

/** Parameters of batch normalization, by feature: f32[H, 2, h] each. */
export interface BatchNormParams extends LayerNormParams {
  /** Running statistics, without a gradient: {@linkcode advanceQueryStatistics} moves them. */
  readonly running: QueryStatistics;
}

/** Parameters that make queries. */
export interface ProductKeyQueryParams {
  /** Projection, [D, H · 2 · h]; absent where the halves of the hidden state are the queries of all heads. */
  readonly projection?: LinearParams;
  /** `layerNorm`: scale and bias f32[h], for every half query. `batchNorm`: those of each feature. */
  readonly norm?: LayerNormParams | BatchNormParams;
}

/** Sizes and kinds of queries. */
export interface QuerySpec {
  /** D. */
  readonly width: number;
  /** Heads with queries of their own, H; 1 if the halves of the hidden state are the queries. */
  readonly heads: number;
  /** h. */
  readonly half: number;
  /** Where queries come from. */
  readonly query: "projected" | "hidden";
  /** How they are normalized. */
  readonly norm: QueryNorm;
}

const EPSILON = 1e-5;

/** Draws the parameters: a projection uniform within ±1/√D, norms that change nothing but the scale. */
export function initQuery(key: Key, { width, heads, half, query, norm }: QuerySpec): ProductKeyQueryParams {
  const [weightKey, biasKey] = split(key);
  const bound = 1 / Math.sqrt(width);
  const range = { min: -bound, max: bound };
  const features = [heads, 2, half];
  const size = heads * 2 * half;
  const isBatch = norm === "batchNorm";
  const affine = isBatch ? features : [half];
  const running = isBatch ? { running: { mean: zeros(features), variance: ones(features) } } : {};
  return {
    ...(query === "hidden" ? {} : {
      projection: { weight: uniform(weightKey, [width, size], range), bias: uniform(biasKey, [size], range) },
    }),
    ...(norm === "none" ? {} : { norm: { scale: ones(affine), bias: zeros(affine), ...running } }),
  };
}

/** Queries and, where a batch was normalized, its statistics. */
export interface Queries {
  /** f32[T, H, 2, h]. */
  readonly queries: Tensor;
  /** Of the batch; null unless it was normalized by them. */
  readonly statistics: QueryStatistics | null;
}

/** Makes the queries of hidden states [T, D]. */
export function applyQuery(
  { projection, norm }: ProductKeyQueryParams,
  hidden: Tensor,
  { heads, half }: QuerySpec,
  train: boolean,
): Queries {
  const wide = castTo(hidden, "f32");
  const flat = projection === undefined
    ? wide
    : add(matmul(wide, castTo(projection.weight, "f32")), castTo(projection.bias!, "f32"));
  const raw = reshape(flat, [hidden.shape[0]!, heads, 2, half]);
  if (norm === undefined) return { queries: raw, statistics: null };
  if (!("running" in norm)) return { queries: layerNorm(raw, { ...norm, epsilon: EPSILON }), statistics: null };
  const statistics = train ? { mean: mean(raw, { axis: 0 }), variance: variance(raw, { axis: 0 }) } : norm.running;
  const standard = mul(sub(raw, statistics.mean), rsqrt(add(statistics.variance, EPSILON)));
  return { queries: add(mul(standard, norm.scale), norm.bias), statistics: train ? statistics : null };
}

/**
 * Moves the running statistics of batch-normalized queries towards those of a batch, for `trainStep`'s `advance`.
 *
 * The running variance follows the population's variance of the batch, the one that queries are divided by. Keep these
 * leaves out of the optimizer with `freeze`: they have no gradient, but weight decay would move them.
 *
 * @param momentum Weight of the batch, 0 to 1; 0.1 by default.
 * @returns The next running statistics.
 * @throws {ConfigError} If `momentum` is not from 0 to 1.
 */
export function advanceQueryStatistics(
  running: QueryStatistics,
  batch: QueryStatistics,
  { momentum = 0.1 }: { readonly momentum?: number } = {},
): QueryStatistics {
  expectOptions("advanceQueryStatistics", { momentum: fraction }, { momentum });
  function towards(from: Tensor, to: Tensor): Tensor {
    return add(mul(from, 1 - momentum), mul(to, momentum));
  }
  return { mean: towards(running.mean, batch.mean), variance: towards(running.variance, batch.variance) };
}
