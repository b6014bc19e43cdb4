/**
 * What a comparison is: variants of one model, a budget that all of them get, and seeds.
 *
 * @module
 */
import type { TrainConfig } from "../config.ts";

/**
 * What is equal between variants: `compute`, the active arithmetic of a whole run; `tokens`, the text that is passed
 * through; `params`, text and the number of parameters.
 */
export type Matching = "compute" | "tokens" | "params";

/** What is spent on each run: training steps, bytes of training text, or seconds. */
export interface Budget {
  /** The unit. */
  readonly kind: "steps" | "tokens" | "seconds";
  /** How many; above 0. */
  readonly amount: number;
}

/** A variant as it was asked for. */
export interface VariantSpec {
  /** What the report calls it; also the name of its folder. */
  readonly name: string;
  /** Which variants share a chart; the router's name where it is absent. */
  readonly group?: string;
  /** A sentence for the report. */
  readonly note?: string;
  /** Options by name as in a configuration file; `router` is one of them. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** A variant with everything settled but the seed. */
export interface Variant {
  /** What the report calls it; also the name of its folder. */
  readonly name: string;
  /** Which variants share a chart. */
  readonly group: string;
  /** A sentence for the report, or null. */
  readonly note: string | null;
  /** Times that a training step passes its batch through the model. */
  readonly passes: number;
  /** Name of the variant whose run of the same seed must be over before, or null. */
  readonly needs: string | null;
  /** Its configuration; `seed`, `out` and `resume` are those of no run. */
  readonly config: TrainConfig;
}

/** A comparison as it was asked for, checked but not yet resolved. */
export interface ComparisonRequest {
  /** Heading of the report, or null. */
  readonly title: string | null;
  /** At least one. */
  readonly variants: readonly VariantSpec[];
  /** Options that all variants share, by name. */
  readonly common: Readonly<Record<string, unknown>>;
  /** What is spent on a run. */
  readonly budget: Budget;
  /** What is equal between variants. */
  readonly match: Matching;
  /** Number of seeds; they are 0, 1, … */
  readonly seeds: number;
}

/** A comparison with everything settled. */
export interface Comparison {
  /** Heading of the report, or null. */
  readonly title: string | null;
  /** In the order of the report's load pictures; names differ. */
  readonly variants: readonly Variant[];
  /** What is spent on a run. */
  readonly budget: Budget;
  /** What is equal between variants. */
  readonly match: Matching;
  /** Number of seeds; they are 0, 1, … */
  readonly seeds: number;
}

/**
 * Names the folder of a run.
 *
 * @param out The comparison's folder.
 * @param variant The variant's name.
 * @param seed The seed.
 * @returns A path below `out`.
 */
export function runFolder(out: string, variant: string, seed: number): string {
  return `${out}/${variant}/seed-${seed}`;
}

/**
 * Finds the variant that others are held against: the first plain dense one, otherwise the first.
 *
 * @param variants At least one.
 * @returns One of them.
 */
export function referenceOf(variants: readonly Variant[]): Variant {
  return variants.find(({ config, passes }) => config.router === "dense" && passes === 1) ?? variants[0]!;
}
