/**
 * The training loop of a run: steps in stretches, and between them what is measured, evaluated and saved.
 *
 * A stretch ends wherever something is due at a multiple of steps counted from the beginning of the run, so that a
 * resumed run evaluates and saves at the same steps as one that never stopped.
 *
 * @module
 */
import { type MetricsRow as StepRow, NonFiniteError, type Profile, profile, read, tensor, train } from "../../mod.ts";
import { trainingBatch } from "./batches.ts";
import type { TrainConfig } from "./config.ts";
import type { Evaluator } from "./evaluate.ts";
import type { MetricsRow } from "./metrics.ts";
import type { Batch, RunMetrics, RunState, RunStep } from "./objective.ts";
import { LEAST_LOSS_SCALE } from "./precision.ts";
import { stepToProfile } from "./profiled_step.ts";
import type { RunPoint } from "./run_files.ts";

/** What a run is trained with, and who is told about it. */
export interface LoopOptions {
  /** The configuration. */
  readonly config: TrainConfig;
  /** The text to draw batches from. */
  readonly text: Uint8Array;
  /** The jitted step. */
  readonly step: RunStep;
  /** Measures validation loss every `evalEvery` steps, except at the very end, which is left to the caller. */
  readonly evaluate: Evaluator;
  /** Steps between reads of metrics, which wait for the device. */
  readonly metricsEvery: number;
  /** Ends training after the step at hand. */
  readonly signal: AbortSignal;
  /** Says whether training has taken all the time it may; asked before every step. */
  readonly isTimeUp: () => boolean;
  /** Gets each row of metrics. The loop waits for it. */
  readonly onRow: (row: MetricsRow) => void | Promise<void>;
  /** Saves the run, every `checkpointEvery` steps and at the end. The loop waits for it. */
  readonly onCheckpoint: (point: RunPoint) => void | Promise<void>;
  /** Hears of each step when it is submitted. */
  readonly onStep?: (step: number) => void;
  /** Gets the profile of one step, the fourth of this process or the last one; without it none is profiled. */
  readonly onProfile?: (step: number, profile: Profile<unknown>) => void | Promise<void>;
}

/** Milliseconds of steps after which timers and signals get a turn. */
const BREATH_MS = 50;

/**
 * Trains from a point of a run until its last step, the end of its time or the signal.
 *
 * @param start Where to begin; its state is taken over.
 * @param options What to train with.
 * @returns Where training ended, saved already.
 * @throws {NonFiniteError} If the loss is not a number, unless the step was skipped for it; the last checkpoint is from
 * before.
 */
export async function runLoop(start: RunPoint, options: LoopOptions): Promise<RunPoint> {
  const { config, signal } = options;
  let point = start;
  let savedStep = start.step;
  const profiled = options.onProfile === undefined ? null : stepToProfile(start.step, config.steps);
  const isOver = (): boolean => point.step >= config.steps || signal.aborted || options.isTimeUp();
  while (!isOver()) {
    const { next, rows, stepsPerSecond } = await runStretch(point, options, profiled);
    point = next;
    if (rows.length === 0) break;
    expectFinite(rows);
    const began = performance.now();
    const isEvaluated = point.step % config.evalEvery === 0 && !isOver();
    const validation = isEvaluated ? { validationBitsPerByte: await options.evaluate(point.state.params) } : {};
    point = { ...point, seconds: point.seconds + (performance.now() - began) / 1000 };
    await options.onRow({ ...summarize(rows, config, stepsPerSecond), seconds: point.seconds, ...validation });
    if (point.step % config.checkpointEvery === 0) {
      await options.onCheckpoint(point);
      savedStep = point.step;
    }
  }
  if (point.step !== savedStep) await options.onCheckpoint(point);
  return point;
}

interface Stretch {
  readonly next: RunPoint;
  readonly rows: readonly StepRow<RunMetrics>[];
  /** The speed of the steps alone, without one that was profiled. */
  readonly stepsPerSecond: number;
}

/** Trains until the next step at which something is due. Of `profiled` steps done, the next one is profiled. */
async function runStretch(
  { state, step, seconds }: RunPoint,
  options: LoopOptions,
  profiled: number | null,
): Promise<Stretch> {
  const { config, metricsEvery, signal, isTimeUp } = options;
  const due = [metricsEvery, config.evalEvery, config.checkpointEvery].map((n) => (Math.floor(step / n) + 1) * n);
  const until = Math.min(config.steps, ...due);
  const rows: StepRow<RunMetrics>[] = [];
  async function trained(from: RunState, part: { readonly from: number; readonly until: number }): Promise<RunState> {
    return await train(options.step, from, batches(part, options), {
      // One read, at the end of the part.
      metricsEvery: part.until - part.from + 1,
      onMetrics: (read) => void rows.push(...read),
      signal,
    });
  }

  const began = performance.now();
  const isProfiled = profiled !== null && profiled >= step && profiled < until;
  let next = await trained(state, { from: step, until: isProfiled ? profiled : until });
  let aside = 0;
  if (isProfiled && step + rows.length === profiled && !signal.aborted && !isTimeUp()) {
    const from = performance.now();
    next = await profileStep({ state: next, step: profiled }, options, rows);
    aside = performance.now() - from;
    next = await trained(next, { from: profiled + 1, until });
  }
  const elapsed = performance.now() - began;
  const [counted, ms] = rows.length > 1 && aside > 0 ? [rows.length - 1, elapsed - aside] : [rows.length, elapsed];
  return {
    next: { state: next, step: step + rows.length, seconds: seconds + elapsed / 1000 },
    rows,
    stepsPerSecond: counted * 1000 / ms,
  };
}

/** Takes a step like any other, kernel by kernel; its results are those of an ordinary one. */
async function profileStep(
  { state, step }: Pick<RunPoint, "state" | "step">,
  { config, text, onStep, onProfile, step: take }: LoopOptions,
  rows: StepRow<RunMetrics>[],
): Promise<RunState> {
  onStep?.(step + 1);
  const batch = batchOf(text, step, config);
  const report = await profile(() => take(state, batch));
  const [next, metrics] = report.result;
  rows.push({ step: step + 1, metrics: await read(metrics) });
  await onProfile?.(step + 1, report);
  return next;
}

function batchOf(text: Uint8Array, step: number, { seed, batch, seq }: TrainConfig): Batch {
  const { tokens, rows, length } = trainingBatch(text, { seed, step, batch, seq });
  return { ids: tensor(tokens, { shape: [rows, length], dtype: "u32" }) };
}

/** The batches of a stretch, as long as there is time. */
async function* batches(
  { from, until }: { readonly from: number; readonly until: number },
  { config, text, isTimeUp, onStep }: LoopOptions,
): AsyncGenerator<Batch, void, void> {
  let lastBreath = performance.now();
  for (let step = from; step < until; step++) {
    // Submitting work never yields, so without this a signal or a progress bar would wait for the next read.
    if (performance.now() - lastBreath > BREATH_MS) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      lastBreath = performance.now();
    }
    if (isTimeUp()) return;
    onStep?.(step + 1);
    yield batchOf(text, step, config);
  }
}

/** Whether a step changed nothing, because its scaled gradients were not finite. */
function isSkipped({ metrics: { lossScale } }: StepRow<RunMetrics>): boolean {
  return lossScale !== undefined && lossScale.skipped[0] !== 0;
}

/** Skipped steps are part of training as long as a smaller factor of the loss can help. */
function isHopeless(row: StepRow<RunMetrics>): boolean {
  if (isSkipped(row)) return row.metrics.lossScale!.scale[0]! <= LEAST_LOSS_SCALE;
  return !Number.isFinite(row.metrics.loss[0]);
}

function expectFinite(rows: readonly StepRow<RunMetrics>[]): void {
  const at = rows.findIndex(isHopeless);
  if (at < 0) return;
  const { step, metrics } = rows[at]!;
  const before = rows[at - 1]?.metrics.loss[0];
  throw new NonFiniteError("train/non-finite", {
    summary: isSkipped(rows[at]!)
      ? `Cannot go on training: the gradients at step ${step} are not finite, however little the loss is scaled`
      : `Cannot go on training: the loss at step ${step} is ${metrics.loss[0]}`,
    facts: [
      ...(before === undefined ? [] : [["step before", `loss ${before}`] as const]),
      ["learning rate", String(metrics.learningRate[0])],
      ["gradient norm", String(metrics.gradientNorm[0])],
      ...(metrics.lossScale === undefined ? [] : [["loss scale", String(metrics.lossScale.scale[0])] as const]),
    ],
    fix: "use a smaller --lr; the run's last checkpoint is from before and can be resumed",
    details: { step },
  });
}

/** One row for the steps of a stretch: means of the losses, sums of the loads, the last of the rest. */
function summarize(rows: readonly StepRow<RunMetrics>[], config: TrainConfig, stepsPerSecond: number): MetricsRow {
  const { step } = rows.at(-1)!;
  const kept = rows.filter((row) => !isSkipped(row));
  // The losses of skipped steps may not be numbers; where all were skipped there are no others.
  const measured = kept.length === 0 ? rows : kept;
  const { metrics: last } = measured.at(-1)!;
  const mean = (pick: (metrics: StepRow<RunMetrics>["metrics"]) => number): number =>
    measured.reduce((sum, { metrics }) => sum + pick(metrics), 0) / measured.length;
  const bytes = config.batch * config.seq;
  return {
    step,
    trainBitsPerByte: mean(({ crossEntropy }) => crossEntropy[0]!) / Math.LN2,
    loss: mean(({ loss }) => loss[0]!),
    ...(last.divergence === undefined ? {} : { divergence: mean(({ divergence }) => divergence?.[0] ?? NaN) }),
    learningRate: last.learningRate[0]!,
    gradientNorm: last.gradientNorm[0]!,
    ...(last.lossScale === undefined
      ? {}
      : { lossScale: last.lossScale.scale[0]!, skippedSteps: rows.length - kept.length }),
    bytesSeen: step * bytes,
    bytesPerSecond: stepsPerSecond * bytes,
    ...summarizeRouting(rows, config),
  };
}

function summarizeRouting(
  rows: readonly StepRow<RunMetrics>[],
  { layers, experts }: TrainConfig,
): Pick<MetricsRow, "load" | "dropped"> {
  const routings = rows.flatMap(({ metrics: { routing } }) => routing === undefined ? [] : [routing]);
  if (routings.length === 0) return {};
  const counts = Array.from({ length: layers }, (_, layer) =>
    Array.from(
      { length: experts },
      (_, expert) => routings.reduce((sum, { load }) => sum + load[layer * experts + expert]!, 0),
    ));
  const totals = counts.map((layer) => layer.reduce((sum, count) => sum + count, 0));
  return {
    load: counts.map((layer, i) => layer.map((count) => count / Math.max(1, totals[i]!))),
    dropped: totals.map((total, layer) =>
      routings.reduce((sum, { dropped }) => sum + dropped[layer]!, 0) / Math.max(1, total)
    ),
  };
}
