/**
 * A whole comparison: from what was asked for to trained variants and their report.
 *
 * @module
 */
import type { ComparisonRequest } from "./comparison.ts";
import { openComparison } from "./folder.ts";
import { planComparison } from "./plan.ts";
import { readRecord } from "./records.ts";
import { type RunnerOptions, trainRuns } from "./runner.ts";
import { scheduleRuns } from "./schedule.ts";
import { writeComparisonReport } from "./write_report.ts";

/** Where a comparison happens, who trains and who listens. */
export interface RunComparisonOptions extends RunnerOptions {
  /** The comparison's folder. */
  readonly out: string;
  /** The command that asks for it, for the report. */
  readonly command: string;
}

/**
 * Trains what a comparison lacks and writes its report, also when it is interrupted, with what there is by then.
 *
 * All variants are trained with one seed before any is trained with the next.
 *
 * @param request What to compare.
 * @param options Where, and who trains and listens.
 * @returns Whether all runs are over, or the signal came first.
 * @throws {ConfigError} If a variant is invalid, or the folder holds a comparison with other options; nothing is written.
 */
export async function runComparison(
  request: ComparisonRequest,
  options: RunComparisonOptions,
): Promise<"over" | "interrupted"> {
  const { out, command, onEvent } = options;
  const comparison = await openComparison(out, planComparison(request), command);
  const runs = scheduleRuns(comparison, out);
  const records = await Promise.all(runs.map(({ directory }) => readRecord(directory)));
  onEvent({
    event: "comparison",
    out,
    variants: comparison.variants.map(({ name }) => name),
    seeds: comparison.seeds,
    runs: runs.length,
    over: records.filter((record) => record !== undefined).length,
  });
  const end = await trainRuns(runs, options);
  onEvent({ event: "report", files: await writeComparisonReport(out, new Date()) });
  return end;
}
