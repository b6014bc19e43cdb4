/**
 * What was measured in each run of a comparison, from the files in the runs' folders.
 *
 * @module
 */
import type { LoadSample } from "../load_picture.ts";
import { type MetricsRow, readMetrics } from "../metrics.ts";
import { forwardFlop, trainingFlop } from "./budget.ts";
import { type Comparison, runFolder, type Variant } from "./comparison.ts";
import { type FinishedRun, readRecord } from "./records.ts";
import { medianOf, spreadOf } from "./statistics.ts";

/** What routing did in the last quarter of a run, as means over layers; NaN where there are no experts. */
export interface RoutingResult {
  /** Share of the assignments that found no room. */
  readonly dropped: number;
  /** Load of the fullest expert over the mean load. */
  readonly maxLoad: number;
  /** Standard deviation of the experts' loads over the mean load. */
  readonly loadVariation: number;
}

/** A run that took all its steps or all its time, and what was measured. */
export interface RunResult extends FinishedRun, RoutingResult {
  /** The variant's name. */
  readonly variant: string;
  /** The seed. */
  readonly seed: number;
  /** Median speed between two rows of metrics. */
  readonly bytesPerSecond: number;
  /** Estimated operations of a forward pass for one byte. */
  readonly forwardFlop: number;
  /** Estimated operations of the whole training. */
  readonly trainingFlop: number;
  /** Validation loss in bits per byte after so many bytes of training text. */
  readonly curve: readonly (readonly [bytes: number, bitsPerByte: number])[];
}

/** A run without a result. */
export interface MissingRun {
  /** The variant's name. */
  readonly variant: string;
  /** The seed. */
  readonly seed: number;
  /** Why it failed, or null where it is not over yet. */
  readonly reason: string | null;
}

/** All runs of a comparison. */
export interface ComparisonResults {
  /** Those that are over, by variant and then by seed. */
  readonly finished: readonly RunResult[];
  /** The others. */
  readonly missing: readonly MissingRun[];
  /** Loads over training by layer, of the first finished run of each variant that has experts. */
  readonly loads: ReadonlyMap<string, readonly (readonly LoadSample[])[]>;
}

/** How much of a run counts for its load, from the end. */
const SETTLED_SHARE = 0.25;

/**
 * Reads the results of a comparison.
 *
 * @param comparison What is compared.
 * @param out Its folder.
 * @returns What there is so far.
 * @throws {CheckpointError} If a file of a run is broken.
 */
export async function readResults(comparison: Comparison, out: string): Promise<ComparisonResults> {
  const finished: RunResult[] = [];
  const missing: MissingRun[] = [];
  const loads = new Map<string, readonly (readonly LoadSample[])[]>();
  for (const variant of comparison.variants) {
    for (let seed = 0; seed < comparison.seeds; seed++) {
      const directory = runFolder(out, variant.name, seed);
      const record = await readRecord(directory);
      if (record?.status !== "done") {
        missing.push({ variant: variant.name, seed, reason: record?.reason ?? null });
        continue;
      }
      const rows = await readMetrics(directory);
      finished.push(resultOf(variant, { seed, record, rows }));
      const samples = loadSamples(rows);
      if (samples.length > 0 && !loads.has(variant.name)) loads.set(variant.name, samples);
    }
  }
  return { finished, missing, loads };
}

interface RunFiles {
  readonly seed: number;
  readonly record: FinishedRun;
  readonly rows: readonly MetricsRow[];
}

function resultOf({ name, passes, config }: Variant, { seed, record, rows }: RunFiles): RunResult {
  const { activeParameters, bytesSeen: bytes } = record;
  const forward = forwardFlop({ ...config, activeParameters });
  const batchBytes = config.batch * config.seq;
  return {
    variant: name,
    seed,
    ...record,
    ...routingOf(rows),
    bytesPerSecond: medianOf(
      rows.flatMap(({ bytesPerSecond }) => bytesPerSecond === undefined ? [] : [bytesPerSecond]),
    ),
    forwardFlop: forward,
    trainingFlop: trainingFlop(forward, { bytes, passes }),
    curve: rows.flatMap(({ step, validationBitsPerByte: loss }) =>
      loss === undefined || !Number.isFinite(loss) ? [] : [[step * batchBytes, loss] as const]
    ),
  };
}

/**
 * Measures what routing did at the end of a run.
 *
 * @param rows The run's metrics.
 * @returns Means over the last quarter of the rows that have a load, and over layers.
 */
export function routingOf(rows: readonly MetricsRow[]): RoutingResult {
  const measured = rows.filter(({ load }) => load !== undefined && load.length > 0);
  const settled = measured.slice(-Math.max(1, Math.ceil(measured.length * SETTLED_SHARE)));
  const layers = (settled[0]?.load ?? []).map((_, layer) => {
    const loads = settled.map(({ load }) => load![layer]!);
    const shares = loads[0]!.map((_, expert) => spreadOf(loads.map((share) => share[expert]!)).mean);
    const even = 1 / shares.length;
    return {
      dropped: spreadOf(settled.map(({ dropped }) => dropped?.[layer] ?? 0)).mean,
      maxLoad: Math.max(...shares) / even,
      // The spread of all experts, not of a sample of them.
      loadVariation: Math.sqrt(spreadOf(shares.map((share) => (share / even - 1) ** 2)).mean),
    };
  });
  return {
    dropped: spreadOf(layers.map(({ dropped }) => dropped)).mean,
    maxLoad: spreadOf(layers.map(({ maxLoad }) => maxLoad)).mean,
    loadVariation: spreadOf(layers.map(({ loadVariation }) => loadVariation)).mean,
  };
}

/** The loads over training, by layer; none where there are no experts. */
function loadSamples(rows: readonly MetricsRow[]): readonly (readonly LoadSample[])[] {
  const layers = rows.find(({ load }) => load !== undefined)?.load?.length ?? 0;
  return Array.from(
    { length: layers },
    (_, layer) =>
      rows.flatMap(({ step, load }) => {
        const shares = load?.[layer];
        return shares === undefined || shares.length === 0 ? [] : [{ step, shares }];
      }),
  );
}
