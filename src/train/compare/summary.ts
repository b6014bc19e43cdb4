/**
 * One row for each variant of a comparison: means and spreads over its seeds.
 *
 * @module
 */
import { type Comparison, referenceOf, type Variant } from "./comparison.ts";
import type { ComparisonResults, RunResult } from "./run_results.ts";
import { medianOf, pairedDifference, type Spread, spreadOf } from "./statistics.ts";

/** What the runs of one variant came to. Numbers are means over seeds where nothing else is said. */
export interface VariantSummary {
  /** The variant. */
  readonly variant: Variant;
  /** Loss on held-out text, in bits per byte. */
  readonly validation: Spread;
  /** Its difference from the reference with the same seed. */
  readonly difference: Spread;
  /** Parameters of the model. */
  readonly parameters: number;
  /** Parameters that one byte uses. */
  readonly activeParameters: number;
  /** Estimated operations of a forward pass for one byte. */
  readonly forwardFlop: number;
  /** Estimated operations of the whole training. */
  readonly trainingFlop: number;
  /** Training steps. */
  readonly steps: number;
  /** Bytes of training text. */
  readonly bytes: number;
  /** Median over seeds of the median speed of a run. */
  readonly bytesPerSecond: number;
  /** Share of the assignments that found no room; NaN without experts. */
  readonly dropped: number;
  /** Load of the fullest expert over the mean load; NaN without experts. */
  readonly maxLoad: number;
  /** Standard deviation of the experts' loads over the mean load; NaN without experts. */
  readonly loadVariation: number;
}

/**
 * Sums up the runs of each variant.
 *
 * @param comparison What is compared.
 * @param results What was measured.
 * @returns The variants that have a finished run, the lowest mean loss first.
 */
export function summarize(comparison: Comparison, { finished }: ComparisonResults): readonly VariantSummary[] {
  const reference = lossesOf(finished, referenceOf(comparison.variants));
  return comparison.variants
    .map((variant) => summarizeVariant(variant, finished.filter((run) => run.variant === variant.name), reference))
    .filter(({ validation }) => validation.count > 0)
    .sort((a, b) => a.validation.mean - b.validation.mean);
}

function summarizeVariant(
  variant: Variant,
  runs: readonly RunResult[],
  reference: ReadonlyMap<number, number>,
): VariantSummary {
  const losses = lossesOf(runs, variant);
  const mean = (pick: (run: RunResult) => number): number => spreadOf(runs.map(pick)).mean;
  return {
    variant,
    validation: spreadOf([...losses.values()]),
    difference: pairedDifference(losses, reference),
    parameters: mean(({ parameters }) => parameters),
    activeParameters: mean(({ activeParameters }) => activeParameters),
    forwardFlop: mean((run) => run.forwardFlop),
    trainingFlop: mean((run) => run.trainingFlop),
    steps: mean(({ step }) => step),
    bytes: mean(({ bytesSeen }) => bytesSeen),
    bytesPerSecond: medianOf(runs.map(({ bytesPerSecond }) => bytesPerSecond)),
    dropped: mean(({ dropped }) => dropped),
    maxLoad: mean(({ maxLoad }) => maxLoad),
    loadVariation: mean(({ loadVariation }) => loadVariation),
  };
}

/** Losses by seed. */
function lossesOf(runs: readonly RunResult[], { name }: Variant): ReadonlyMap<number, number> {
  return new Map(runs.flatMap((run) => run.variant === name ? [[run.seed, run.validationBitsPerByte] as const] : []));
}
