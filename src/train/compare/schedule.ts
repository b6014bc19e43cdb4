/**
 * The order of a comparison's runs: all variants with one seed, then all with the next. An interrupted comparison is then
 * a whole one with fewer seeds. Within a seed, a run comes after the one that it needs.
 *
 * @module
 */
import type { TrainConfig } from "../config.ts";
import { type Comparison, runFolder, type Variant } from "./comparison.ts";

/** One run of a comparison. */
export interface PlannedRun {
  /** What is trained. */
  readonly variant: Variant;
  /** With which seed. */
  readonly seed: number;
  /** The run's folder. */
  readonly directory: string;
  /** Folder of the run that must be over before, or null. */
  readonly after: string | null;
  /** The configuration of a new run. */
  readonly config: TrainConfig;
}

/**
 * Lists the runs in their order.
 *
 * @param comparison What is compared.
 * @param out The comparison's folder.
 * @returns A run for each variant and seed.
 */
export function scheduleRuns({ variants, seeds }: Comparison, out: string): readonly PlannedRun[] {
  const ordered = [...variants].sort((a, b) => Number(a.needs !== null) - Number(b.needs !== null));
  return Array.from({ length: seeds }, (_, seed) => ordered.map((variant) => planRun(variant, { seed, out }))).flat();
}

function planRun(variant: Variant, { seed, out }: { readonly seed: number; readonly out: string }): PlannedRun {
  const directory = runFolder(out, variant.name, seed);
  const after = variant.needs === null ? null : runFolder(out, variant.needs, seed);
  const table = after === null ? {} : { tableFrom: after };
  return {
    variant,
    seed,
    directory,
    after,
    config: { ...variant.config, ...table, seed, out: directory, resume: null, quiet: false, json: true },
  };
}
