/**
 * The numbers of the three presets, in one table. What a preset means is tuned here and nowhere else.
 *
 * @module
 */
import type { RouterName } from "./routers.ts";

export type { RouterName };

/** Name of a preset. */
export type PresetName = "tiny" | "small" | "base";

/** What a preset decides. Every field is also a flag and a key of the configuration file. */
export interface Preset {
  /** How tokens find their experts. */
  readonly router: RouterName;
  /** Experts in each mixture layer; where the router is `multihash`, those that each segment chooses from. */
  readonly experts: number;
  /**
   * Experts that each token visits where the router takes more than one; on average where it is `relu`, and segments where
   * it is `multihash`.
   */
  readonly topk: number;
  /** Model width. */
  readonly width: number;
  /** Transformer blocks. */
  readonly layers: number;
  /** Attention heads. */
  readonly heads: number;
  /**
   * Hidden width of one expert, or of the one dense layer where there are none. A preset's is for tokens that
   * visit one expert; where they visit more, it is shared out among them.
   */
  readonly expertWidth: number;
  /** Bytes in a training window. */
  readonly seq: number;
  /** Windows in a batch. */
  readonly batch: number;
  /** Training steps. */
  readonly steps: number;
  /** Peak learning rate. */
  readonly lr: number;
  /** Steps between evaluations. */
  readonly evalEvery: number;
  /** Steps between checkpoints. */
  readonly checkpointEvery: number;
}

/**
 * The presets: `tiny` for a software adapter and minutes, `small` for half an hour, `base` for a hardware adapter.
 *
 * Bytes hash well: at equal compute a table over the byte beats a learned gate by far in runs this short (README).
 */
export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  tiny: {
    router: "hash",
    experts: 8,
    topk: 2,
    width: 128,
    layers: 2,
    heads: 4,
    expertWidth: 256,
    seq: 128,
    batch: 8,
    steps: 1200,
    lr: 3e-3,
    evalEvery: 150,
    checkpointEvery: 300,
  },
  small: {
    router: "hash",
    experts: 8,
    topk: 2,
    width: 192,
    layers: 4,
    heads: 6,
    expertWidth: 384,
    seq: 192,
    batch: 8,
    steps: 1800,
    lr: 2e-3,
    evalEvery: 200,
    checkpointEvery: 200,
  },
  base: {
    router: "switch",
    experts: 32,
    topk: 2,
    width: 512,
    layers: 8,
    heads: 8,
    expertWidth: 1024,
    seq: 512,
    batch: 32,
    steps: 20000,
    lr: 6e-4,
    evalEvery: 500,
    checkpointEvery: 1000,
  },
};
