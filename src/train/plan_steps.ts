/**
 * How many steps fit into a given time. It is settled before the first step and kept in the run's configuration: the
 * learning rate then depends on the configuration and the step alone, and a resumed run goes on with the same rates.
 *
 * @module
 */
import { tensor, train } from "../../mod.ts";
import { trainingBatch } from "./batches.ts";
import type { TrainConfig } from "./config.ts";
import type { Batch, RunStep } from "./objective.ts";
import type { RunPoint } from "./run_files.ts";

/** What to measure with. */
export interface PlanOptions {
  /** The configuration. */
  readonly config: TrainConfig;
  /** The text to draw batches from. */
  readonly text: Uint8Array;
  /** The jitted step. */
  readonly step: RunStep;
  /** Batches of one evaluation. */
  readonly evaluationBatches: number;
  /** Seconds since the start of the process. */
  readonly clock: () => number;
}

const LEAST_SECONDS = 0.5;
/** A batch that is only evaluated has no backward pass, which is two thirds of the work. */
const EVALUATION_COST = 1 / 3;
/** The rest is left for a machine that gets slower. */
const USABLE_SHARE = 0.95;

/**
 * Takes a few steps that are thrown away, and counts how many of their kind end before the configured seconds.
 *
 * @param start A run to take the steps with; its state is used up.
 * @param options What to measure with.
 * @returns A number of steps, at least 1 and at most the configured ones.
 */
export async function planSteps(start: RunPoint, options: PlanOptions): Promise<number> {
  const { config, evaluationBatches, clock } = options;
  const { seconds, steps, evalEvery } = config;
  if (seconds === null) return steps;
  let { state } = start;
  async function timed(count: number): Promise<number> {
    const began = clock();
    // The loop reads the last step's metrics before it returns, so the device is done.
    state = await train(options.step, state, batches(options, count));
    return clock() - began;
  }

  await timed(1); // compiles
  let count = 1;
  let elapsed = await timed(count);
  while (elapsed < LEAST_SECONDS && count < steps) {
    count *= 2;
    elapsed = await timed(count);
  }
  const secondsPerStep = elapsed / count * (1 + EVALUATION_COST * evaluationBatches / evalEvery);
  const fitting = Math.floor((seconds - clock()) / secondsPerStep * USABLE_SHARE);
  return Math.max(1, Math.min(steps, fitting));
}

function* batches({ config, text }: PlanOptions, count: number): Generator<Batch, void, void> {
  const { seed, batch, seq } = config;
  for (let step = 0; step < count; step++) {
    const { tokens, rows, length } = trainingBatch(text, { seed, step, batch, seq });
    yield { ids: tensor(tokens, { shape: [rows, length], dtype: "u32" }) };
  }
}
