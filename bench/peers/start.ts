/**
 * The start of a peer: from nothing to the loss of its first step, in a process of its own.
 *
 * @module
 */
import { firstLoss } from "../start_process.ts";
import type { Prepared } from "./library.ts";
import type { Outputs, StartTask } from "./task.ts";

/** Makes the start of a library a task whose calls each run a process. */
export function prepareStart({ warm, step }: StartTask, library: string, backend: string): Prepared {
  const script = new URL("./first_step.ts", import.meta.url);
  const run = () => firstLoss(script, [library, backend, JSON.stringify(step)], { warm });
  return {
    call: async () => void await run(),
    settle: () => Promise.resolve(),
    outputs: async (): Promise<Outputs> => ({ losses: Float32Array.of(await run()) }),
  };
}
