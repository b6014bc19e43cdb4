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
  hashRouter,
  idLookup,
  memoryLayer,
  moe,
  multiHash,
  multiHashRouter,
  noisyTopKRouter,
  productKeyMemory,
  reluRouter,
  type Router,
  sigmaExpertScales,
  sigmaRouter,
  sinkhornRouter,
  smear,
  softMoe,
  switchRouter,
  thorRouter,
  topKFeedForward,
  topKRouter,
} from "../../mod.ts";
import type { RouterName } from "./routers.ts";

/** What a body depends on. */
export interface BodySizes {
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

/** Leaves of a body of which a token uses a share. */
export interface SharedLeaves {
  /** Which, by path. */
  readonly leaves: RegExp;
  /** The share. */
  readonly share: number;
}

type Builder = (sizes: BodySizes) => BlockBody<object>;

const PRODUCT_KEY_HEADS = 4;

const BUILDERS: Readonly<Record<RouterName, Builder>> = {
  dense: denseBody,
  // Nothing is dropped: `execute` takes experts of any load at the price of an even one, and without a capacity the
  // prediction of a byte depends on the bytes before it alone, in a batch as in generation.
  switch: (sizes) => {
    const { width, experts } = sizes;
    return mixture(sizes, switchRouter({ width, experts, capacityFactor: Infinity, evalCapacityFactor: Infinity }));
  },
  topk: (sizes) => mixture(sizes, topKRouter({ ...choiceOf(sizes), weights: "normalized" })),
  hash: (sizes) => mixture(sizes, hashRouter({ experts: sizes.experts, vocabulary: sizes.vocabulary })),
  multihash: (sizes) => {
    const { experts, vocabulary, topk: segments, expertWidth } = sizes;
    const router = multiHashRouter({ experts, segments, vocabulary });
    return multiHash({ ...layerOf(sizes), inner: expertWidth * segments, router, activation: "gelu" });
  },
  thor: (sizes) => mixture(sizes, thorRouter({ experts: sizes.experts })),
  sigma: (sizes) => {
    const { width, experts, layers, expertWidth: inner } = sizes;
    const router = sigmaRouter({ ...choiceOf(sizes), layers });
    return moe({ router, width, inner, activation: "relu", ...sigmaExpertScales({ experts, layers }) });
  },
  "topk-activation": (sizes) => topKFeedForward({ ...layerOf(sizes), k: Math.ceil(sizes.expertWidth / 4) }),
  pkm: (sizes) => {
    const { width, layers } = sizes;
    const { halfKeys, k } = productKeySizes(sizes);
    return productKeyMemory({ width, layers, halfKeys, k, heads: PRODUCT_KEY_HEADS, query: "hidden", score: "relu" });
  },
  memory: (sizes) => {
    const { width, vocabulary } = sizes;
    return memoryLayer({ width, lookup: idLookup({ rows: vocabulary }), layer: denseBody(sizes) });
  },
  // What is between the layers makes the difference, see `alternatingLm`.
  altup: denseBody,
  base: (sizes) => mixture(sizes, baseRouter({ width: sizes.width, experts: sizes.experts })),
  sinkhorn: (sizes) => mixture(sizes, sinkhornRouter({ width: sizes.width, experts: sizes.experts })),
  "expert-choice": (sizes) =>
    mixture(sizes, expertChoiceRouter({ width: sizes.width, experts: sizes.experts, capacityFactor: 1 })),
  "noisy-topk": (sizes) => mixture(sizes, noisyTopKRouter(choiceOf(sizes))),
  deepseek: (sizes) => mixture(sizes, deepseekRouter(choiceOf(sizes))),
  "soft-moe": (sizes) => softMoe({ ...layerOf(sizes), experts: sizes.experts }),
  smear: (sizes) => smear({ ...layerOf(sizes), experts: sizes.experts }),
  relu: (sizes) => mixture(sizes, reluRouter(choiceOf(sizes))),
};

/**
 * Builds the body of a router.
 *
 * @param router Its name.
 * @param sizes The sizes.
 * @returns A body for a transformer block; its `router.causal` is false where it sees later tokens.
 * @throws {ConfigError} If the router cannot have these sizes.
 */
export function buildBody(router: RouterName, sizes: BodySizes): BlockBody<object> {
  return BUILDERS[router](sizes);
}

/** Builds the one dense layer of a body without experts. */
export function denseBody(sizes: BodySizes): DenseBody<object> {
  return feedForward(layerOf(sizes));
}

/**
 * Tells which leaves of a body a token uses in part only, and what part (on average, where the router decides).
 *
 * @param router The body's router.
 * @param sizes The sizes.
 */
export function sharedLeaves(router: RouterName, sizes: BodySizes): SharedLeaves {
  const { vocabulary, experts, topk } = sizes;
  switch (router) {
    case "multihash":
      return { leaves: /\.body\.(up|down)\./, share: 1 / experts };
    case "memory":
      return { leaves: /\.body\.rows$/, share: 1 / vocabulary };
    case "pkm": {
      const { halfKeys, k } = productKeySizes(sizes);
      return { leaves: /\.body\.values$/, share: Math.min(1, PRODUCT_KEY_HEADS * k / halfKeys ** 2) };
    }
    default:
      return { leaves: /\.experts\./, share: topk / experts };
  }
}

/** What a dense layer takes: the residual sum of all layers starts at the size of one, as attention has it by default. */
function layerOf({ width, expertWidth, layers }: BodySizes): {
  readonly width: number;
  readonly inner: number;
  readonly outputScale: number;
} {
  return { width, inner: expertWidth, outputScale: 1 / (2 * layers) };
}

function choiceOf({ width, experts, topk }: BodySizes): {
  readonly width: number;
  readonly experts: number;
  readonly k: number;
} {
  return { width, experts, k: topk };
}

function mixture<R extends object>(sizes: BodySizes, router: Router<R>): BlockBody<object> {
  return moe({ ...layerOf(sizes), router });
}

/**
 * Sizes of a product-key memory that costs what a dense layer does. Each of H heads scores its 2 · n half keys of half the
 * width and adds up k values, so D · H · (n + k) products take the place of 2 · D · F.
 */
function productKeySizes({ expertWidth }: BodySizes): { readonly halfKeys: number; readonly k: number } {
  const ofHead = Math.max(2, Math.floor(2 * expertWidth / PRODUCT_KEY_HEADS));
  const k = Math.max(1, Math.floor(ofHead / 8));
  return { halfKeys: ofHead - k, k };
}
