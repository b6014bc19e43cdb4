/**
 * What a block does after attention, for each router of the program. At equal `expertWidth · topk` a byte costs the same
 * in all of them, up to the gates.
 *
 * @module
 */
import {
  baseRouter,
  type BlockBody,
  deepseekRouter,
  type DenseBody,
  expertChoiceRouter,
  feedForward,
  idLookup,
  lshLookup,
  memoryLayer,
  type MemoryLookup,
  moe,
  type MoeOptions,
  multiHash,
  multiHashRouter,
  noisyTopKRouter,
  productKeyMemory,
  reluRouter,
  type Router,
  sigmaExpertScales,
  sigmaRouter,
  type SigmaScore,
  sinkhornRouter,
  smear,
  softmaxLookup,
  softMoe,
  switchRouter,
  type SwitchRouterOptions,
  thorRouter,
  topKFeedForward,
  topKRouter,
} from "../../mod.ts";
import { buildHashRouter, type TableSource } from "./hash_tables.ts";
import { PRODUCT_KEY_HEADS, productKeySizes } from "./product_key_sizes.ts";
import type { RouterName } from "./routers.ts";
import type { VariantOptions } from "./variants.ts";

/** What a body depends on: sizes, and the options of its router. */
export interface BodyOptions extends VariantOptions {
  /** Number of token ids. */
  readonly vocabulary: number;
  /** Model width. */
  readonly width: number;
  /** Layers of the model. */
  readonly layers: number;
  /** Experts in the layer; 1 where there are none. */
  readonly experts: number;
  /** Experts (or segments) that a token visits. */
  readonly topk: number;
  /** Hidden width of one expert, or of the one dense layer. */
  readonly expertWidth: number;
}

type Builder = (options: BodyOptions, source: TableSource | null) => BlockBody<object>;

/** Rows of a memory that are not found by id. */
export const MEMORY_ROWS = 256;

const SIGMA_SCORES: Readonly<Record<string, SigmaScore>> = {
  "softmax-before": "softmax",
  "softmax-after": "softmaxSelected",
};

const BUILDERS: Readonly<Record<RouterName, Builder>> = {
  dense: denseBody,
  switch: (options) => {
    const { width, experts, priority } = options;
    const own = priority === null ? {} : { priority };
    return mixture(options, switchRouter({ width, experts, ...gateOf(options), ...own }));
  },
  topk: (options) => {
    const { score, priority } = options;
    return mixture(
      options,
      topKRouter({
        ...choiceOf(options),
        ...gateOf(options),
        weights: "normalized",
        score: score === "sigmoid" ? score : "softmax",
        // Bytes before choices: a later byte's first choice must not displace an earlier one's second.
        capacityOrder: priority === "probability" ? "priority" : "tokenMajor",
      }),
    );
  },
  hash: (options, source) => mixture(options, buildHashRouter(options, source)),
  multihash: (options) => {
    const { experts, vocabulary, topk: segments, expertWidth } = options;
    const router = multiHashRouter({ experts, segments, vocabulary });
    return multiHash({ ...layerOf(options), inner: expertWidth * segments, router, activation: "gelu" });
  },
  thor: (options) => {
    const { experts, draw, inference, consistency } = options;
    return mixture(
      options,
      thorRouter({
        experts,
        passes: consistency === null ? 1 : 2,
        ...(draw === null ? {} : { draw }),
        ...(inference === null ? {} : { inference }),
      }),
    );
  },
  sigma: (options) => {
    const { width, experts, layers, expertWidth: inner, score, expertDropout } = options;
    const router = sigmaRouter({
      ...choiceOf(options),
      layers,
      score: SIGMA_SCORES[score ?? ""] ?? "sigmoid",
      expertDropout: expertDropout ?? 0,
    });
    const scales = sigmaExpertScales({ experts, layers });
    return moe({ router, width, inner, activation: "relu", ...scales, ...expertsOf(options) });
  },
  "topk-activation": (options) =>
    topKFeedForward({ ...layerOf(options), k: options.k ?? Math.ceil(options.expertWidth / 4) }),
  pkm: (options) => {
    const { width, layers, expertWidth, k, score } = options;
    return productKeyMemory({
      width,
      layers,
      ...productKeySizes(expertWidth, k),
      heads: PRODUCT_KEY_HEADS,
      query: "hidden",
      score: score === "softmax" ? score : "relu",
    });
  },
  memory: memoryBody,
  // What is between the layers makes the difference, see `alternatingLm`.
  altup: denseBody,
  base: (options) => mixture(options, baseRouter({ width: options.width, experts: options.experts })),
  sinkhorn: (options) => mixture(options, sinkhornRouter({ width: options.width, experts: options.experts })),
  "expert-choice": (options) =>
    mixture(options, expertChoiceRouter({ width: options.width, experts: options.experts, capacityFactor: 1 })),
  "noisy-topk": (options) => mixture(options, noisyTopKRouter(choiceOf(options))),
  deepseek: (options) => mixture(options, deepseekRouter(choiceOf(options))),
  "soft-moe": (options) => softMoe({ ...layerOf(options), experts: options.experts }),
  smear: (options) => smear({ ...layerOf(options), experts: options.experts }),
  relu: (options) => mixture(options, reluRouter(choiceOf(options))),
};

/**
 * Builds the body of a router.
 *
 * @param router Its name.
 * @param options Its sizes and the options that it has.
 * @param source What the table of router `hash` is made from; null where it needs nothing.
 * @returns A body for a transformer block; its `router.causal` is false where it sees later tokens.
 * @throws {ConfigError} If the router cannot have these options.
 */
export function buildBody(
  router: RouterName,
  options: BodyOptions,
  source: TableSource | null = null,
): BlockBody<object> {
  return BUILDERS[router](options, source);
}

/** Builds the one dense layer of a body without experts. */
export function denseBody(options: BodyOptions): DenseBody<object> {
  return feedForward(layerOf(options));
}

function memoryBody(options: BodyOptions): BlockBody<object> {
  const { width, vocabulary, lookup, rows, k } = options;
  const sizes = { width, rows: rows ?? MEMORY_ROWS };
  switch (lookup) {
    case "lsh":
      return withMemory(options, lshLookup(sizes));
    case "cross-polytope":
      return withMemory(options, lshLookup({ ...sizes, family: "crossPolytope" }));
    case "softmax":
      return withMemory(options, softmaxLookup({ ...sizes, ...(k === null ? {} : { k }) }));
    default:
      return withMemory(options, idLookup({ rows: vocabulary }));
  }
}

function withMemory<R extends object>(options: BodyOptions, lookup: MemoryLookup<R>): BlockBody<object> {
  const { width, consume, rank } = options;
  return memoryLayer({
    width,
    lookup,
    layer: denseBody(options),
    use: consume ?? "add",
    ...(rank === null ? {} : { rank }),
  });
}

/** What a dense layer takes: the residual sum of all layers starts at the size of one, as attention has it by default. */
function layerOf({ width, expertWidth, layers }: BodyOptions): {
  readonly width: number;
  readonly inner: number;
  readonly outputScale: number;
} {
  return { width, inner: expertWidth, outputScale: 1 / (2 * layers) };
}

function choiceOf({ width, experts, topk }: BodyOptions): {
  readonly width: number;
  readonly experts: number;
  readonly k: number;
} {
  return { width, experts, k: topk };
}

function mixture<R extends object>(options: BodyOptions, router: Router<R>): BlockBody<object> {
  return moe({ ...layerOf(options), ...expertsOf(options), router });
}

/** What is done to the experts' values, where something is. */
function expertsOf(
  { expertDtype, innerDropout }: BodyOptions,
): Pick<MoeOptions<unknown>, "expertDtype" | "innerDropout"> {
  return { ...(expertDtype === null ? {} : { expertDtype }), ...(innerDropout === null ? {} : { innerDropout }) };
}

/**
 * The options of a gate that may disturb its input and limit its experts. Without a capacity nothing is dropped: `execute`
 * takes experts of any load at the price of an even one, and the prediction of a byte depends on the bytes before it
 * alone, in a batch as in generation.
 */
function gateOf({ capacity, evalCapacity, ...options }: BodyOptions): {
  readonly capacityFactor: number;
  readonly evalCapacityFactor: number;
} & Partial<Pick<SwitchRouterOptions, "minCapacity" | "retries" | "jitter" | "inputDropout" | "selection">> {
  const { minCapacity, retries, jitter, inputDropout, selection } = options;
  return {
    capacityFactor: capacity ?? Infinity,
    evalCapacityFactor: evalCapacity ?? Infinity,
    ...(minCapacity === null ? {} : { minCapacity }),
    ...(retries === null ? {} : { retries }),
    ...(jitter === null ? {} : { jitter }),
    ...(inputDropout === null ? {} : { inputDropout }),
    ...(selection === null ? {} : { selection }),
  };
}
