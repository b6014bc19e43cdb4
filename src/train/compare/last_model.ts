/**
 * What stays of a run that is over: its model. Optimizer states are three quarters of a checkpoint, and nothing goes on
 * from them.
 *
 * @module
 */
import { readCheckpoint, writeCheckpoint } from "../checkpoint.ts";

const MODEL_FILE = "model.safetensors";

/**
 * Reduces the checkpoints of a run to the newest model. It can be sampled and measured as before, but not resumed.
 *
 * @param directory The run's folder.
 * @throws {CheckpointError} If there is no whole checkpoint.
 */
export async function keepLastModel(directory: string): Promise<void> {
  const { step, files } = await readCheckpoint(directory);
  const model = files.get(MODEL_FILE);
  if (model === undefined) return;
  const kept = await writeCheckpoint(directory, { step, files: new Map([[MODEL_FILE, model]]) });
  const parent = `${directory}/checkpoints`;
  for await (const { name } of Deno.readDir(parent)) {
    if (!kept.endsWith(`/${name}`)) await Deno.remove(`${parent}/${name}`, { recursive: true });
  }
  await Deno.remove(`${directory}/optimizer.safetensors`).catch(() => {});
}
