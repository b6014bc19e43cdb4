/**
 * Training what is not trained yet, one run after another.
 *
 * @module
 */
import { SwitchyardError } from "../../../mod.ts";
import { hasCheckpoints } from "../checkpoint.ts";
import type { TrainConfig } from "../config.ts";
import { readSavedConfig } from "../config_file.ts";
import type { EndEvent, RunEvent, StartEvent } from "../events.ts";
import type { ComparisonEvent } from "./events.ts";
import { keepLastModel } from "./last_model.ts";
import { reasonOf } from "./reason.ts";
import { type FinishedRun, keepRecord, readRecord } from "./records.ts";
import type { PlannedRun } from "./schedule.ts";

/** How the process of a run ended: by itself, at the signal, with an error of the library, or without a word. */
export type ProcessEnd =
  | { readonly kind: "over" | "interrupted" }
  | { readonly kind: "failed" | "crashed"; readonly reason: string };

/** Who hears of a run, and who may stop it. */
export interface ExecuteHooks {
  /** Gets what the run tells. */
  readonly onEvent: (event: RunEvent) => void;
  /** Asks the run to save and stop. */
  readonly signal: AbortSignal;
}

/** Trains one run, or goes on with it, and hands on what it tells. */
export type Execute = (config: TrainConfig, hooks: ExecuteHooks) => Promise<ProcessEnd>;

/** Who trains and who listens. */
export interface RunnerOptions {
  /** Trains one run. */
  readonly execute: Execute;
  /** Gets what the runs tell. */
  readonly onEvent: (event: ComparisonEvent) => void;
  /** Saves the run at hand and stops. */
  readonly signal: AbortSignal;
}

/** Times that a run is started before it counts as failed. */
const ATTEMPTS = 3;

/**
 * Trains the runs that are not over, in their order. Runs that are over are left alone; others go on from their last
 * checkpoint. A run that fails is recorded with its reason.
 *
 * @param runs The runs, in an order in which no run comes before the one that it needs.
 * @param options Who trains and who listens.
 * @returns Whether all are over or the signal came first.
 */
export async function trainRuns(
  runs: readonly PlannedRun[],
  { execute, onEvent, signal }: RunnerOptions,
): Promise<"over" | "interrupted"> {
  for (const [index, run] of runs.entries()) {
    if (await readRecord(run.directory) !== undefined) continue;
    if (signal.aborted) return "interrupted";
    const name = { variant: run.variant.name, seed: run.seed };
    onEvent({ event: "run", ...name, number: index + 1, runs: runs.length });
    const end = await trainRun(run, { execute, onEvent, signal });
    if (end.kind === "interrupted") return "interrupted";
    if (end.kind !== "failed") continue;
    await keepRecord(run.directory, { status: "failed", reason: end.reason });
    onEvent({ event: "failed", ...name, reason: end.reason });
  }
  return "over";
}

async function trainRun(run: PlannedRun, { execute, onEvent, signal }: RunnerOptions): Promise<ProcessEnd> {
  const name = { variant: run.variant.name, seed: run.seed };
  if (run.after !== null && (await readRecord(run.after))?.status !== "done") {
    return { kind: "failed", reason: `it needs the run of ${run.variant.needs} with the same seed, which failed` };
  }
  for (let attempt = 1;; attempt++) {
    let start: StartEvent | undefined;
    let last: EndEvent | undefined;
    let process: ProcessEnd;
    try {
      process = await execute(await configOf(run), {
        signal,
        onEvent: (event) => {
          if (event.event === "start") start = event;
          if (event.event === "end") last = event;
          onEvent({ ...name, ...event });
        },
      });
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      return { kind: "failed", reason: reasonOf(error) };
    }
    // A driver that fails while the process ends does not undo a run whose files are written.
    if (start !== undefined && last !== undefined) {
      // Training checks the loss of each step; what the last step made of the parameters shows here only.
      if (!Number.isFinite(last.validationBitsPerByte)) {
        return { kind: "failed", reason: "its last loss is not a number" };
      }
      await keepRecord(run.directory, recordOf(start, last));
      await keepLastModel(run.directory);
      return { kind: "over" };
    }
    if (process.kind === "interrupted" || process.kind === "failed") return process;
    if (signal.aborted) return { kind: "interrupted" };
    const reason = process.kind === "crashed" ? process.reason : "the process ended before the run did";
    if (attempt === ATTEMPTS) return { kind: "failed", reason: `${reason} (${ATTEMPTS} times)` };
    onEvent({ event: "crashed", ...name, reason });
  }
}

/** The configuration to start a process with: that of a new run, or of the one that is begun. */
async function configOf({ directory, config }: PlannedRun): Promise<TrainConfig> {
  if (!await hasCheckpoints(directory)) {
    // A run that was killed before its first checkpoint begins anew in its folder.
    return { ...config, resume: directory };
  }
  // Where the time decided about the steps, it did so once and for all.
  const saved = await readSavedConfig(directory);
  return { ...config, steps: saved.steps, seconds: null, resume: directory };
}

function recordOf({ adapter, corpus, parameters, activeParameters }: StartEvent, end: EndEvent): FinishedRun {
  const { step, bytesSeen, seconds, validationBitsPerByte, gzipBitsPerByte } = end;
  return {
    status: "done",
    adapter,
    corpus,
    parameters,
    activeParameters,
    step,
    bytesSeen,
    seconds,
    validationBitsPerByte,
    gzipBitsPerByte,
  };
}
