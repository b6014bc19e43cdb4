/**
 * Product-key memory: a layer with a large table of values, of which each position reads a few rows.
 *
 * Letters: T tokens, D width, H heads, n half keys, h size of a half key, K rows a head reads.
 *
 * @module
 */
import { castTo, transposeTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { relu } from "../ops/activations.ts";
import { mul } from "../ops/binary.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions, oneOf, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { normal, uniform } from "../ops/samplers.ts";
import { sliceAxis } from "../ops/slice.ts";
import { softmax } from "../ops/softmax.ts";
import { reshape, squeeze } from "../ops/view.ts";
import { type FoundRows, valueRows } from "../routing/memory_lookup.ts";
import { searchProductKeys } from "../routing/product_keys.ts";
import type { Layer, LayerContext } from "./layer.ts";
import {
  applyQuery,
  initQuery,
  type ProductKeyQueryParams,
  type QueryNorm,
  type QuerySpec,
  type QueryStatistics,
} from "./product_key_query.ts";

/** Options of {@linkcode productKeyMemory}. */
export interface ProductKeyMemoryOptions {
  /** Size of the last axis of input and output, D. */
  readonly width: number;
  /** Half keys of a head, n: the memory has n² values. */
  readonly halfKeys: number;
  /** Heads, which have keys of their own and share the values; 4 by default. */
  readonly heads?: number;
  /** Values a head reads, 1..n; 32 by default. */
  readonly k?: number;
  /**
   * `"projected"` (the default): each head projects the hidden state. `"hidden"`: its two halves are the query of every
   * head.
   */
  readonly query?: "projected" | "hidden";
  /** Size of a projected query, even; 128 by default. */
  readonly queryWidth?: number;
  /** How queries are normalized; `"layerNorm"` by default for projected ones, `"none"` for hidden states. */
  readonly norm?: QueryNorm;
  /** `"softmax"` (the default): the values read compete. `"relu"`: each is weighed by its own score. */
  readonly score?: "softmax" | "relu";
  /** For softmax: over the values of a head, so that weights of a position sum to H (the default), or of all heads. */
  readonly normalization?: "head" | "joint";
  /**
   * Layers of the model. With it keys and values start normal with deviations √(2 / layers) / √D and √(2 / layers) / n;
   * without, keys are uniform within ±1/√h and values normal with deviation 1 / √D.
   */
  readonly layers?: number;
}

/** Parameters of {@linkcode productKeyMemory}. */
export interface ProductKeyMemoryParams {
  /** What makes queries; empty for hidden states without a norm. */
  readonly query: ProductKeyQueryParams;
  /** Half keys, f32[H, 2, n, h]. */
  readonly keys: Tensor;
  /** Values, [n · n, D]: the one to train with `lazyAdam`. */
  readonly values: Tensor;
}

/** What positions read. */
export interface ProductKeyLookup extends Pick<FoundRows, "rows" | "weights"> {
  /** Statistics of the batch's queries, for `advanceQueryStatistics`; null unless it was normalized by them. */
  readonly statistics: QueryStatistics | null;
}

/** A memory that also tells what is read. */
export interface ProductKeyMemoryLayer extends Layer<ProductKeyMemoryParams, Tensor, Tensor> {
  /** Whether a position's output depends on no other position while training. */
  readonly causal: boolean;
  /** Finds what positions read: hidden [..., D] -> rows and weights [T, H · K], where T counts all positions. */
  lookUp(params: ProductKeyMemoryParams, hidden: Tensor, context?: LayerContext): ProductKeyLookup;
}

/**
 * Reads, for each position and head, the K values whose keys match its query best, and adds them up by weight.
 *
 * Shapes: [..., D] -> [..., D]. Value n · i + j has the half keys i and j; its score is the sum of two products of half
 * queries and half keys, in f32. The search is exact (`searchProductKeys`). Which values are read is constant for
 * derivatives: queries and keys learn through the weights, values through what is read. Nothing is random, and only
 * batch normalization differs between training and not.
 *
 * `"batchNorm"` is the published norm. It lets a position see others while training, so that the layer is not causal
 * then, and outside training it needs running statistics: `lookUp` returns those of a batch, the caller advances the
 * parameters with `advanceQueryStatistics`. A transformer block does not do so; `"layerNorm"` needs no such care.
 *
 * @returns A layer that blocks take like `feedForward`.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Two heads read three of 25 values each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, ones, productKeyMemory } from "@switchyard/switchyard";
 *
 * await init();
 * const layer = productKeyMemory({ width: 8, halfKeys: 5, heads: 2, k: 3, queryWidth: 4 });
 * const params = layer.init(key(0));
 * assertEquals([params.keys.shape, params.values.shape], [[2, 2, 5, 2], [25, 8]]);
 * assertEquals(layer.lookUp(params, ones([2, 7, 8])).rows.shape, [14, 6]);
 * assertEquals(layer.apply(params, ones([2, 7, 8])).shape, [2, 7, 8]);
 * ```
 *
 * Source: Lample et al. 2019; Csordás et al. 2023 for relu, hidden states as queries, and the start by layers.
 */
export function productKeyMemory(options: ProductKeyMemoryOptions): ProductKeyMemoryLayer {
  expectOptions(
    "productKeyMemory",
    {
      width: positiveCount,
      halfKeys: positiveCount,
      heads: positiveCount.optional(),
      k: positiveCount.optional(),
      query: oneOf("projected", "hidden").optional(),
      queryWidth: positiveCount.optional(),
      norm: oneOf("layerNorm", "batchNorm", "none").optional(),
      score: oneOf("softmax", "relu").optional(),
      normalization: oneOf("head", "joint").optional(),
      layers: positiveCount.optional(),
    },
    options,
    () => memoryProblems(options),
  );
  const { width, halfKeys, heads = 4, k = 32, query = "projected", queryWidth = 128, layers } = options;
  const { score = "softmax", normalization = "head" } = options;
  const half = (query === "hidden" ? width : queryWidth) / 2;
  const spec: QuerySpec = {
    width,
    heads: query === "hidden" ? 1 : heads,
    half,
    query,
    norm: options.norm ?? (query === "hidden" ? "none" : "layerNorm"),
  };
  const isBatch = spec.norm === "batchNorm";

  function initKeys(key: Key): Tensor {
    const shape = [heads, 2, halfKeys, half];
    const bound = 1 / Math.sqrt(half);
    if (layers === undefined) return uniform(key, shape, { min: -bound, max: bound });
    return mul(normal(key, shape), Math.sqrt(2 / (layers * width)));
  }

  function initValues(key: Key): Tensor {
    const deviation = layers === undefined ? 1 / Math.sqrt(width) : Math.sqrt(2 / layers) / halfKeys;
    return mul(normal(key, [halfKeys * halfKeys, width]), deviation);
  }

  function weigh(scores: Tensor, count: number): Tensor {
    if (score === "relu") return reshape(relu(scores), [count, heads * k]);
    if (normalization === "joint") return softmax(reshape(scores, [count, heads * k]));
    return reshape(softmax(scores), [count, heads * k]);
  }

  function lookUp(
    params: ProductKeyMemoryParams,
    hidden: Tensor,
    { train = false }: LayerContext = {},
  ): ProductKeyLookup {
    const count = sizeOf(hidden.shape.slice(0, -1));
    const { queries, statistics } = applyQuery(params.query, reshape(hidden, [count, width]), spec, train);
    const halves = matmul(transposeTo(queries, [1, 2, 0, 3]), transposeTo(castTo(params.keys, "f32"), [0, 1, 3, 2])); // [H, 2, T, n]
    const [first, second] = [0, 1].map((part) => {
      const scores = squeeze(sliceAxis(halves, 1, { start: part, stop: part + 1 }), { axis: 1 });
      return transposeTo(scores, [1, 0, 2]); // [T, H, n]
    }) as [Tensor, Tensor];
    const { scores, rows } = searchProductKeys(first, second, k); // [T, H, K]
    return { rows: reshape(rows, [count, heads * k]), weights: weigh(scores, count), statistics };
  }

  return {
    name: `productKeyMemory(${width}, ${heads} x ${k} of ${halfKeys}², ${score}${isBatch ? ", batchNorm" : ""})`,
    causal: !isBatch,
    init(key: Key): ProductKeyMemoryParams {
      const [queryKey, keysKey, valuesKey] = split(key, 3);
      return { query: initQuery(queryKey, spec), keys: initKeys(keysKey), values: initValues(valuesKey) };
    },
    lookUp,
    apply(params: ProductKeyMemoryParams, x: Tensor, context: LayerContext = {}): Tensor {
      const read = valueRows(params.values, lookUp(params, x, context)); // [T, D]
      return reshape(castTo(read, x.dtype), x.shape);
    },
  };
}

function memoryProblems(options: ProductKeyMemoryOptions): readonly OptionProblem[] {
  const { width, halfKeys, k = 32, query = "projected", queryWidth = 128, score, normalization } = options;
  const problems: OptionProblem[] = [];
  if (k > halfKeys) problems.push(["k", k, `must be a whole number in 1..${halfKeys} (halfKeys is ${halfKeys})`]);
  if (query === "hidden") {
    if (width % 2 !== 0) problems.push(["width", width, 'must be even where query is "hidden"']);
    if (options.queryWidth !== undefined) {
      problems.push(["queryWidth", queryWidth, 'must be left out where query is "hidden": it is the width']);
    }
  } else if (queryWidth % 2 !== 0) problems.push(["queryWidth", queryWidth, "must be even"]);
  if (score === "relu" && normalization !== undefined) {
    problems.push(["normalization", normalization, 'must be left out where score is "relu"']);
  }
  return problems;
}
