/**
 * Writes checkpoints in a loop until it is killed, and prints each step once its checkpoint is on the disk.
 * Arguments: the run's folder and the first step.
 */
import { writeCheckpoint } from "../../../src/train/checkpoint.ts";

const [directory, first] = Deno.args;
for (let step = Number(first);; step++) {
  // Every file's content names its step, so that a reader can tell a mixture of two checkpoints.
  const part = (size: number): Uint8Array => new Uint8Array(size).fill(step % 251);
  const files = new Map([["model.safetensors", part(70_001)], ["optimizer.safetensors", part(140_003)], [
    "state.json",
    new TextEncoder().encode(JSON.stringify({ step })),
  ]]);
  await writeCheckpoint(directory!, { step, files });
  await Deno.stdout.write(new TextEncoder().encode(`${step}\n`));
}
