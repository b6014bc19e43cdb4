/**
 * A run's state as checkpoint files: parameters in `model.safetensors`, everything else that training goes on from in
 * `optimizer.safetensors` and `run.json`.
 *
 * @module
 */
import { z } from "zod";
import { CheckpointError, type GradientTransform, key, split, trainState } from "../../mod.ts";
import { hasCheckpoints, readCheckpoint, type StoredCheckpoint, writeCheckpoint } from "./checkpoint.ts";
import type { TrainConfig } from "./config.ts";
import { formatSavedConfig } from "./config_file.ts";
import type { Model, ModelParams } from "./model.ts";
import type { RunState } from "./objective.ts";
import { lossScaleFor } from "./precision.ts";
import { decodeTree, encodeTrees } from "./tree_files.ts";

/** A run between two steps. */
export interface RunPoint {
  /** The state on the device. */
  readonly state: RunState;
  /** Steps done. */
  readonly step: number;
  /** Wall-clock seconds of training so far, those of earlier processes included. */
  readonly seconds: number;
}

const MODEL = "model";
const OPTIMIZER = "optimizer";
const RUN_FILE = "run.json";

const runSchema = z.object({ seconds: z.number().nonnegative() });

/**
 * The state before the first step. Nothing is computed yet.
 *
 * @param config Its seed decides everything that is drawn, its precision whether the loss is scaled.
 * @param model The model.
 * @param optimizer The optimizer.
 * @returns Step 0.
 */
export function startRun(config: TrainConfig, model: Model, optimizer: GradientTransform): RunPoint {
  const [modelKey, runKey] = split(key(config.seed));
  const lossScale = lossScaleFor(config.precision);
  const state = trainState({
    params: model.init(modelKey),
    optimizer,
    key: runKey,
    ...(lossScale === undefined ? {} : { lossScale }),
  });
  return { state, step: 0, seconds: 0 };
}

/**
 * Writes a checkpoint of a run and returns once it is on the disk.
 *
 * @param directory The run's folder.
 * @param config The configuration, kept with the model.
 * @param point The run.
 * @returns The checkpoint's folder.
 */
export async function saveRun(
  directory: string,
  config: TrainConfig,
  { state, step, seconds }: RunPoint,
): Promise<string> {
  const { params, ...rest } = state;
  const metadata = { format: "switchyard", step: String(step), config: formatSavedConfig(config) };
  const files = new Map(await encodeTrees({ [MODEL]: params, [OPTIMIZER]: rest }, metadata));
  files.set(RUN_FILE, new TextEncoder().encode(`${JSON.stringify({ seconds })}\n`));
  return await writeCheckpoint(directory, { step, files });
}

/**
 * Reads the newest whole checkpoint of a run; every bit of its state is as it was written.
 *
 * @param directory The run's folder.
 * @param start The run's state before the first step, for structure and shapes.
 * @returns The run, or `start` where the run was killed before its first checkpoint.
 * @throws {CheckpointError} If no checkpoint is whole, or it is of another model.
 */
export async function restoreRun(directory: string, start: RunPoint): Promise<RunPoint> {
  if (!await hasCheckpoints(directory)) return start;
  const checkpoint = await readCheckpoint(directory);
  const { params, ...rest } = start.state;
  const state = {
    params: decodeFile(checkpoint, MODEL, params),
    ...decodeFile(checkpoint, OPTIMIZER, rest),
  };
  return { state, step: checkpoint.step, seconds: readSeconds(checkpoint) };
}

/** A trained model as a run left it. */
export interface TrainedModel {
  /** The parameters, on the host until they are used. */
  readonly params: ModelParams;
  /** Steps of training behind them. */
  readonly step: number;
}

/**
 * Reads the parameters of a run's newest whole checkpoint.
 *
 * @param directory The run's folder.
 * @param model The run's model.
 * @returns Its parameters and step.
 * @throws {CheckpointError} If there is no whole checkpoint, or it is of another model.
 */
export async function loadTrained(directory: string, model: Model): Promise<TrainedModel> {
  const checkpoint = await readCheckpoint(directory);
  return { params: decodeFile(checkpoint, MODEL, model.init(key(0))), step: checkpoint.step };
}

function decodeFile<T>({ files, path }: StoredCheckpoint, tree: string, like: T): T {
  const file = `${tree}.safetensors`;
  return decodeTree(fileOf(files, file, path), { like, name: `${path}/${file}` });
}

function readSeconds({ files, path }: StoredCheckpoint): number {
  const text = new TextDecoder().decode(fileOf(files, RUN_FILE, path));
  try {
    return runSchema.parse(JSON.parse(text)).seconds;
  } catch {
    throw incomplete(path, `${RUN_FILE} is not what a run writes`);
  }
}

function fileOf(files: ReadonlyMap<string, Uint8Array>, name: string, path: string): Uint8Array {
  const bytes = files.get(name);
  if (bytes === undefined) throw incomplete(path, `it has no ${name}`);
  return bytes;
}

function incomplete(path: string, reason: string): CheckpointError {
  return new CheckpointError("checkpoint/files", {
    summary: `Cannot use the checkpoint ${path}: ${reason}`,
    fix: "use a folder that this program wrote",
    details: { path },
  });
}
