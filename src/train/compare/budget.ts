/**
 * From a budget to the steps of each variant.
 *
 * A variant may pass each batch through the model more than once, as a consistency loss does. At equal compute it then
 * takes as many times fewer steps, and sees as many times less text; otherwise it takes the same steps and costs more.
 *
 * @module
 */
import type { TrainConfig } from "../config.ts";
import type { Budget, Matching } from "./comparison.ts";

/**
 * Counts how often a training step passes its batch through the model.
 *
 * @param config The configuration.
 * @returns 2 with a consistency loss of any factor, which compares two passes, otherwise 1.
 */
export function passesOf(config: TrainConfig): number {
  // A factor of 0 still makes both passes: it is the control that costs as much.
  return config.consistency === null ? 1 : 2;
}

/** What the number of steps depends on. */
export interface StepsOptions {
  /** What is spent on a run. */
  readonly budget: Budget;
  /** What is equal between variants. */
  readonly match: Matching;
  /** Passes of a batch in a step. */
  readonly passes: number;
  /** Bytes in a batch. */
  readonly batchBytes: number;
}

/**
 * Finds the steps of a variant.
 *
 * @param options What they depend on.
 * @returns At least 1, or null where the time decides.
 */
export function stepsOf({ budget, match, passes, batchBytes }: StepsOptions): number | null {
  if (budget.kind === "seconds") return null;
  const steps = budget.kind === "steps" ? budget.amount : budget.amount / batchBytes;
  return Math.max(1, Math.round(match === "compute" ? steps / passes : steps));
}

/** What the arithmetic of a byte depends on. */
export type FlopOptions = Pick<TrainConfig, "width" | "layers" | "seq"> & {
  /** Parameters that one byte uses. */
  readonly activeParameters: number;
};

/**
 * Estimates the floating-point operations of a forward pass for one byte: a product and a sum for each active
 * parameter, and attention over half a window on average. Norms, activations and routing are left out.
 *
 * @param options The sizes.
 * @returns Operations a byte.
 */
export function forwardFlop({ activeParameters, width, layers, seq }: FlopOptions): number {
  return 2 * activeParameters + 2 * seq * width * layers;
}

/** A backward pass costs twice a forward pass. */
const TRAINING_OVER_FORWARD = 3;

/**
 * Estimates the floating-point operations of training.
 *
 * @param forward Operations of a forward pass for one byte.
 * @param run Bytes that the run has seen, and passes of each.
 * @returns Operations.
 */
export function trainingFlop(forward: number, run: { readonly bytes: number; readonly passes: number }): number {
  return TRAINING_OVER_FORWARD * forward * run.bytes * run.passes;
}
