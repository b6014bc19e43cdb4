/**
 * A whole run: from a configuration to a trained model, its measurements and its report.
 *
 * @module
 */
import { type DeviceInfo, notice, type Profile } from "../../mod.ts";
import { gzipBitsPerByte } from "./baselines.ts";
import { hasCheckpoints } from "./checkpoint.ts";
import type { TrainConfig } from "./config.ts";
import { CONFIG_FILE } from "./config_file.ts";
import { type Corpus, expectLongEnough, loadCorpus } from "./data.ts";
import { writeWhole } from "./durable.ts";
import { type Evaluator, evaluatorOf } from "./evaluate.ts";
import type { RunEvent } from "./events.ts";
import { generateText } from "./generate.ts";
import { runLoop } from "./loop.ts";
import { METRICS_FILE, type MetricsRow, openMetrics, readMetrics } from "./metrics.ts";
import type { TableSource } from "./hash_tables.ts";
import { buildModel, countParameters, type Model, type ParameterCount } from "./model.ts";
import { buildOptimizer, buildStep, type RunStep } from "./objective.ts";
import { planSteps } from "./plan_steps.ts";
import { expectStepFits, plannedBytes } from "./planned_memory.ts";
import { roundedOnce } from "./precision.ts";
import { prepareTrace, writeTrace } from "./profiled_step.ts";
import { renderReport } from "./report.ts";
import { keepConfig, nameFolder, openFolder } from "./run_folder.ts";
import { restoreRun, type RunPoint, saveRun, startRun } from "./run_files.ts";
import { loadTableSource } from "./table_source.ts";

/** Where a run happens and who listens. */
export interface RunOptions {
  /** The device, as `init` described it. */
  readonly device: DeviceInfo;
  /** Gets what the run tells. */
  readonly onEvent: (event: RunEvent) => void;
  /** Hears of each step when it is submitted. */
  readonly onStep?: (step: number) => void;
  /** Ends the run after the step at hand, saved. Never by default. */
  readonly signal?: AbortSignal;
  /** Seconds since the start of the process, which `seconds` of the configuration limits. */
  readonly clock?: () => number;
}

/** How a run ended: all steps taken, no time left, or the signal. */
export type RunEnd = "steps" | "seconds" | "interrupted";

/** A run with everything that is made from its configuration. */
interface Run {
  readonly config: TrainConfig;
  readonly out: string;
  readonly corpus: Corpus;
  readonly model: Model;
  readonly step: RunStep;
  readonly count: ParameterCount;
  readonly plannedBytes: number;
  readonly isTimeUp: () => boolean;
}

/** Batches of an evaluation on the way and of the last one. */
const EVALUATION_BATCHES = 16;
const FINAL_EVALUATION_BATCHES = 64;
const SAMPLE_BYTES = 400;
const SAMPLE_TEMPERATURE = 0.8;
const PROMPT_BYTES = 48;
/** Steps between reads of metrics: a read takes about as long as ten steps of a small model on a fast adapter. */
const METRICS_EVERY = { software: 10, hardware: 50 } as const;

/**
 * Trains a model as configured, or goes on with a run, and writes everything into the run's folder.
 *
 * With `seconds`, a new run first measures its speed and takes no more steps than fit, so that the learning rate still
 * comes down at the end; the last evaluation and the report come on top.
 *
 * @param config The configuration.
 * @param options Where, and who listens.
 * @returns How it ended. An interrupted run has a checkpoint and no report.
 * @throws {DataError} If the text cannot be used.
 * @throws {ConfigError} If the folder holds another run, or the profile cannot be written.
 * @throws {OutOfMemoryError} If a step needs more memory than there may be; the folder is left as it is.
 * @throws {CheckpointError} If the run to resume cannot be read, or that whose embeddings a table is made from.
 * @throws {NonFiniteError} If the loss is not a number.
 */
export async function runTraining(config: TrainConfig, options: RunOptions): Promise<RunEnd> {
  const corpus = await loadCorpus(config.data);
  expectLongEnough(corpus, config.seq);
  const isRestored = config.resume !== null && await hasCheckpoints(config.resume);
  const source: TableSource | null = isRestored ? "checkpoint" : await loadTableSource(config, corpus.train);
  const out = config.out ?? nameFolder(config.router, new Date());
  const { clock = processSeconds, signal = new AbortController().signal, onEvent, device } = options;
  const begun = begin(config, buildModel(config, source), source);
  if (config.profile !== null) await prepareTrace(config.profile);
  await openFolder(out, config.resume);
  await keepConfig(out, config);

  const { model } = begun;
  const isTimeUp = (): boolean => config.seconds !== null && clock() >= config.seconds;
  const prepared = await prepare({ config, out, corpus, isTimeUp }, begun, clock);
  const { run, start } = prepared;
  onEvent({
    event: "start",
    out,
    adapter: device.adapter,
    model: model.name,
    ...run.count,
    corpus: describeCorpus(corpus),
    step: start.step,
    steps: run.config.steps,
    plannedBytes: run.plannedBytes,
  });

  const { heldOut } = corpus;
  const evaluator = evaluatorOf(model);
  const evaluationOf = (maxBatches: number): Evaluator => evaluator(heldOut, { ...run.config, maxBatches });
  await using metrics = await openMetrics(out, { afterStep: start.step });
  async function keepRow(row: MetricsRow): Promise<void> {
    await metrics.append(row);
    onEvent({ event: "metrics", ...row });
  }
  const { profile: trace } = config;
  let isTraced = false;
  async function keepTrace(step: number, profile: Profile<unknown>): Promise<void> {
    onEvent(await writeTrace(trace!, step, profile));
    isTraced = true;
  }
  const end = await runLoop(start, {
    config: run.config,
    text: corpus.train,
    step: run.step,
    evaluate: evaluationOf(EVALUATION_BATCHES),
    metricsEvery: METRICS_EVERY[device.software ? "software" : "hardware"],
    signal,
    isTimeUp,
    onRow: keepRow,
    onCheckpoint: async (point) => {
      onEvent({ event: "checkpoint", step: point.step, path: await saveRun(out, run.config, point) });
    },
    ...(options.onStep === undefined ? {} : { onStep: options.onStep }),
    ...(trace === null ? {} : { onProfile: keepTrace }),
  });
  if (trace !== null && !isTraced) notice("no step was profiled: the run ended before");
  if (signal.aborted) {
    onEvent({ event: "interrupted", step: end.step, out });
    return "interrupted";
  }
  const validationBitsPerByte = await evaluationOf(FINAL_EVALUATION_BATCHES)(end.state.params);
  await keepRow({ step: end.step, validationBitsPerByte });
  return await finish(run, { point: end, validationBitsPerByte }, options);
}

/** What a run is made of before it has a folder. */
interface Begun {
  readonly model: Model;
  readonly step: RunStep;
  readonly fresh: RunPoint;
  readonly plannedBytes: number;
}

/** Makes the step, and makes sure that it fits into memory. */
function begin(config: TrainConfig, model: Model, source: TableSource | null): Begun {
  const optimizer = buildOptimizer(config);
  const step = buildStep(config, model, optimizer);
  const fresh = startRun(config, model, optimizer);
  const planned = plannedBytes(step, fresh.state, config);
  expectStepFits(config, planned, source);
  return { model, step, fresh, plannedBytes: planned };
}

/** Finds where to begin and how many steps to take. */
async function prepare(
  base: Pick<Run, "config" | "out" | "corpus" | "isTimeUp">,
  { model, step, fresh, plannedBytes }: Begun,
  clock: () => number,
): Promise<{ readonly run: Run; readonly start: RunPoint }> {
  const { config, out, corpus } = base;
  const run = { ...base, model, step, plannedBytes, count: countParameters(config, fresh.state.params) };
  if (config.resume !== null && await hasCheckpoints(config.resume)) {
    const start = await restoreRun(config.resume, fresh);
    // In another folder the run has no checkpoint yet, and must not begin anew there if it is killed.
    if (!await hasCheckpoints(out)) await saveRun(out, config, start);
    return { run, start };
  }
  if (config.seconds === null) return { run, start: fresh };

  const evaluationBatches = EVALUATION_BATCHES;
  const steps = await planSteps(fresh, { config, text: corpus.train, step, evaluationBatches, clock });
  const planned = { ...config, steps };
  await keepConfig(out, planned);
  const optimizer = buildOptimizer(planned);
  return {
    run: { ...run, config: planned, step: buildStep(planned, model, optimizer) },
    start: startRun(planned, model, optimizer),
  };
}

/** Writes a sample and the report, and tells the result. */
async function finish(
  { config, out, corpus, model, count, plannedBytes }: Run,
  { point, validationBitsPerByte }: { readonly point: RunPoint; readonly validationBitsPerByte: number },
  { device, onEvent }: RunOptions,
): Promise<RunEnd> {
  const prompt = firstWords(corpus.heldOut);
  let text = "";
  const parts = generateText(model, roundedOnce(point.state.params, config.precision), {
    prompt,
    tokens: SAMPLE_BYTES,
    temperature: SAMPLE_TEMPERATURE,
    seed: config.seed,
    window: config.seq,
  });
  for await (const part of parts) text += part;
  const sample = { prompt: new TextDecoder().decode(prompt), text };

  const rows = await readMetrics(out);
  const gzip = gzipBitsPerByte(corpus.heldOut);
  const bytesSeen = point.step * config.batch * config.seq;
  const page = renderReport({
    config,
    rows,
    baselines: [{ name: "gzip -9", bitsPerByte: gzip }],
    sample,
    adapter: device.software ? `${device.adapter}, a software adapter` : device.adapter,
    summary: {
      steps: point.step,
      validationBitsPerByte,
      bytesSeen,
      seconds: point.seconds,
      ...count,
      plannedBytes,
      corpus: describeCorpus(corpus),
    },
  });
  await writeWhole(`${out}/report.html`, page);
  const reason = point.step >= config.steps ? "steps" : "seconds";
  onEvent({
    event: "end",
    reason,
    step: point.step,
    bytesSeen,
    seconds: point.seconds,
    validationBitsPerByte,
    gzipBitsPerByte: gzip,
    prompt: sample.prompt,
    sample: text,
    files: ["report.html", "model.safetensors", "optimizer.safetensors", METRICS_FILE, CONFIG_FILE].map((file) =>
      `${out}/${file}`
    ),
  });
  return reason;
}

/** The beginning of a text up to the last space, to go on from. */
function firstWords(text: Uint8Array): Uint8Array {
  const space = text.subarray(0, PROMPT_BYTES).lastIndexOf(0x20);
  return text.slice(0, space > 0 ? space : Math.min(PROMPT_BYTES, text.length));
}

function describeCorpus({ name, split }: Corpus): string {
  return `${name}, ${split}`;
}

function processSeconds(): number {
  return performance.now() / 1000;
}
