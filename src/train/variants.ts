/**
 * The options that only some routers of the program have, and which routers those are.
 *
 * Everywhere `null` means that the option was not given: the router does what its own documentation calls the default.
 *
 * @module
 */
import { choice, folder, integer, type Option, share, upTo } from "./option_kinds.ts";
import { ROUTER_NAMES, type RouterName } from "./routers.ts";

/** How the table of router `hash` is made; the last five say what is hashed in place of the byte. */
export type TableName =
  | "random"
  | "hashed"
  | "balanced"
  | "clustered"
  | "dispersed"
  | "previous"
  | "bigram"
  | "position"
  | "next";

/** How a score or a weight is computed; each router has its own choice of these. */
export type ScoreName = "softmax" | "sigmoid" | "relu" | "softmax-before" | "softmax-after";

/** How a memory finds rows. */
export type LookupName = "id" | "lsh" | "cross-polytope" | "softmax";

/** Which form of Alternating Updates a model has. */
export type AltUpForm = "recycled" | "full" | "sequence";

/** Options of single routers; each is also a flag and a key of the configuration file. */
export interface VariantOptions {
  /**
   * `hash`: experts by byte at `random` (the default), by an integer hash that no seed changes (`hashed`), such that all
   * get equally much of the text (`balanced`), with like bytes together (`clustered`) or apart (`dispersed`); or by the
   * `previous` byte, it and this one (`bigram`), the `position`, or the `next` byte, which is not causal.
   */
  readonly table: TableName | null;
  /** `hash` with a table that is `clustered` or `dispersed`: folder of a dense run, whose embeddings tell what is like. */
  readonly tableFrom: string | null;
  /** `switch`, `topk`: slots of an expert while training, in proportion to an even load; none by default. */
  readonly capacity: number | null;
  /** The same outside training; none by default, so that nothing is dropped where losses are compared or text is written. */
  readonly evalCapacity: number | null;
  /** Fewest slots of an expert in a sequence, where there is a capacity; 4 for `switch` and 1 for `topk` by default. */
  readonly minCapacity: number | null;
  /** Who is served first where slots are short: bytes in their order (`token`, the default), or by `probability`. */
  readonly priority: "token" | "probability" | null;
  /** How many more experts a byte tries where its best is full (no token left behind); 0 by default. Not causal. */
  readonly retries: number | null;
  /** `switch`, `topk`: how far the gate's input is jittered while training; 0.01 for `switch` and 0 for `topk`. */
  readonly jitter: number | null;
  /** `switch`, `topk`: share of its input that the gate does not see while training; 0 by default. */
  readonly inputDropout: number | null;
  /** `switch`, `topk`: experts while training: the `best` (the default), or `sampled` by probability. */
  readonly selection: "best" | "sampled" | null;
  /**
   * `topk`: `softmax` (the default) or `sigmoid`. `sigma`: `sigmoid` (the default), or softmax `softmax-before` or
   * `softmax-after` the best are chosen. `pkm`: `relu` (the default) or `softmax`.
   */
  readonly score: ScoreName | null;
  /** Factor of the loss that balances experts, in place of the published one; 0 is none. */
  readonly aux: number | null;
  /** Factor of the loss on large logits of the gate; 0 is none. */
  readonly zLoss: number | null;
  /** `sigma`: probability that a byte cannot have an expert while training; 0 by default. */
  readonly expertDropout: number | null;
  /** `thor`: how two passes draw, with `replacement` (the default) or `distinct` experts. */
  readonly draw: "replacement" | "distinct" | null;
  /** `thor` outside training: one expert by `token` or by `sentence` (a window; the default), or an `ensemble` of all. */
  readonly inference: "token" | "sentence" | "ensemble" | null;
  /** `thor`, `dense`: factor of the divergence of two passes over each batch; a step costs both. One pass by default. */
  readonly consistency: number | null;
  /** Share of embeddings and of each layer's results that is dropped while training; 0 by default. */
  readonly dropout: number | null;
  /** Type that experts compute in (selective precision); their weights are stored and trained as f32, the default. */
  readonly expertDtype: "f32" | "bf16" | "f16" | null;
  /** Share of the experts' inner values that is dropped while training (expert dropout of Switch); 0 by default. */
  readonly innerDropout: number | null;
  /**
   * `topk-activation`: inner values that are kept, a quarter by default. `pkm`: rows that a head reads. `memory` with
   * lookup `softmax`: rows that a byte reads, 1 by default.
   */
  readonly k: number | null;
  /** `memory`: how rows are found, by `id` (the default), `lsh`, `cross-polytope` or `softmax`. */
  readonly lookup: LookupName | null;
  /** `memory`: what is done with a row: it is added (`add`, the default), concatenated, or a small expert. */
  readonly consume: "add" | "concat" | "experts" | null;
  /** `memory`: rows, where they are not found by id; 256 by default. */
  readonly rows: number | null;
  /** `memory` that is consumed as experts: inner width of one, 16 by default. */
  readonly rank: number | null;
  /**
   * `altup`: a stream of several blocks between a narrow embedding and output (`recycled`, the default), the same with
   * embedding and output as wide as it is (`full`), or layers that compute only some positions (`sequence`).
   */
  readonly altup: AltUpForm | null;
  /** `altup`: which block a layer computes, each its own in turn (`alternating`, the default) or all the `same`. */
  readonly altupBlock: "alternating" | "same" | null;
  /** `altup`: blocks of the stream, 2 by default. */
  readonly streams: number | null;
  /** `altup` of form `sequence`: every how many positions one is computed, 2 by default. */
  readonly stride: number | null;
}

/** Name of an option that only some routers have. */
export type VariantOptionName = keyof VariantOptions;

/** An option, and the routers that have it. */
export interface VariantOption extends Option {
  /** Whose it is. */
  readonly routers: readonly RouterName[];
  /** For options whose choices depend on the router: those of each. */
  readonly choices?: Readonly<Partial<Record<RouterName, readonly string[]>>>;
}

const GATED: readonly RouterName[] = ["switch", "topk"];
const BALANCED: readonly RouterName[] = ["switch", "topk", "sigma", "noisy-topk", "deepseek", "memory"];
const MIXTURES: readonly RouterName[] = [
  "switch",
  "topk",
  "hash",
  "thor",
  "sigma",
  "base",
  "sinkhorn",
  "expert-choice",
  "noisy-topk",
  "deepseek",
  "relu",
];

const SCORES: NonNullable<VariantOption["choices"]> = {
  topk: ["softmax", "sigmoid"],
  sigma: ["sigmoid", "softmax-before", "softmax-after"],
  pkm: ["relu", "softmax"],
};

/** The options by name, in the order of the help text. */
export const VARIANT_OPTIONS: Readonly<Record<VariantOptionName, VariantOption>> = {
  capacity: {
    ...upTo(1e6, "slots of an expert relative to an even load; no limit by default", "above"),
    routers: GATED,
  },
  evalCapacity: { ...upTo(1e6, "the same outside training", "above"), routers: GATED },
  minCapacity: { ...integer(1, 65536, "fewest slots of an expert in a window"), routers: GATED },
  priority: { ...choice(["token", "probability"], "who gets slots first: token or probability"), routers: GATED },
  retries: { ...integer(0, 1023, "further experts a byte tries where its best is full"), routers: GATED },
  jitter: { ...share("jitter of the gate's input"), routers: GATED },
  inputDropout: { ...share("dropout of the gate's input"), routers: GATED },
  selection: { ...choice(["best", "sampled"], "experts in training: best or sampled"), routers: GATED },
  aux: { ...upTo(1e6, "factor of the loss that balances experts; 0 is none"), routers: BALANCED },
  zLoss: {
    ...upTo(1e6, "factor of the loss on large logits; 0 is none"),
    routers: ["switch", "topk", "deepseek", "memory"],
  },
  score: {
    ...choice(
      ["softmax", "sigmoid", "relu", "softmax-before", "softmax-after"],
      "topk: softmax, sigmoid; sigma: sigmoid, softmax-before, softmax-after (top-k); pkm: relu, softmax",
    ),
    routers: ["topk", "sigma", "pkm"],
    choices: SCORES,
  },
  expertDropout: { ...share("probability that a byte cannot have an expert"), routers: ["sigma"] },
  expertDtype: {
    ...choice(["f32", "bf16", "f16"], "what experts compute in: f32, bf16 or f16"),
    routers: MIXTURES,
  },
  innerDropout: { ...share("dropout inside experts"), routers: MIXTURES },
  table: {
    ...choice(
      ["random", "hashed", "balanced", "clustered", "dispersed", "previous", "bigram", "position", "next"],
      "random, hashed, balanced, clustered, dispersed; by previous, bigram, position, next",
    ),
    routers: ["hash"],
  },
  tableFrom: { ...folder("folder of a dense run, for clustered and dispersed"), routers: ["hash"] },
  draw: { ...choice(["replacement", "distinct"], "experts of two passes: replacement or distinct"), routers: ["thor"] },
  inference: {
    ...choice(["token", "sentence", "ensemble"], "outside training by token, sentence or ensemble"),
    routers: ["thor"],
  },
  consistency: {
    ...upTo(1e6, "two passes over each batch, and the factor of their divergence"),
    routers: ["thor", "dense"],
  },
  dropout: { ...share("dropout of embeddings and results"), routers: ROUTER_NAMES.filter((name) => name !== "altup") },
  k: {
    ...integer(1, 65536, "values kept (topk-activation), rows a head (pkm) or a byte (memory) reads"),
    routers: ["topk-activation", "pkm", "memory"],
  },
  lookup: {
    ...choice(["id", "lsh", "cross-polytope", "softmax"], "rows by id, lsh, cross-polytope or softmax"),
    routers: ["memory"],
  },
  consume: {
    ...choice(["add", "concat", "experts"], "what becomes of a row: add, concat or experts"),
    routers: ["memory"],
  },
  rows: { ...integer(2, 2 ** 20, "rows of the memory, where not by id"), routers: ["memory"] },
  rank: { ...integer(1, 65536, "inner width of a row that is an expert"), routers: ["memory"] },
  altup: { ...choice(["recycled", "full", "sequence"], "recycled, full or sequence"), routers: ["altup"] },
  altupBlock: {
    ...choice(["alternating", "same"], "block that a layer computes: alternating or same"),
    routers: ["altup"],
  },
  streams: { ...integer(2, 64, "blocks of the stream"), routers: ["altup"] },
  stride: { ...integer(2, 65536, "positions for each one that sequence computes"), routers: ["altup"] },
};

/** Every such option's name. */
export const VARIANT_NAMES: readonly VariantOptionName[] = Object.keys(VARIANT_OPTIONS) as VariantOptionName[];

/** None of them given. */
export const NO_VARIANT: VariantOptions = Object.fromEntries(
  VARIANT_NAMES.map((name) => [name, null]),
) as unknown as VariantOptions;
