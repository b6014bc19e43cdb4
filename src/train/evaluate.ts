/**
 * Measuring a model on held-out text.
 *
 * @module
 */
import { add, crossEntropy, jit, scalar, type Tensor, tensor } from "../../mod.ts";
import { validationBatches, type ValidationOptions } from "./batches.ts";
import type { Model, ModelParams } from "./model.ts";
import { inputsAndTargets } from "./objective.ts";

/** Returns the loss of parameters on the same windows each time, in bits per byte. */
export type Evaluator = (params: ModelParams) => Promise<number>;

/** Which windows to measure on, and how many at once. */
export interface EvaluationOptions extends ValidationOptions {
  /** Parts of a batch taken one after another, where they divide it; 1 by default. */
  readonly microBatches?: number;
}

/**
 * Prepares to measure a model on fixed windows of a text, as many as `maxBatches` allows, spread over all of it.
 *
 * Evaluators of the same model share their compiled program where their batches have the same shape.
 *
 * @param model The model.
 * @returns A function from a text and window sizes to an evaluator.
 */
export function evaluatorOf(model: Model): (text: Uint8Array, options: EvaluationOptions) => Evaluator {
  const addLoss = jit(function addValidationLoss(params: ModelParams, ids: Tensor, total: Tensor): Tensor {
    const [inputs, targets] = inputsAndTargets(ids);
    return add(total, crossEntropy(model.apply(params, { ids: inputs }).logits, targets));
  });
  return (text, options) => {
    const { microBatches = 1 } = options;
    const batches = validationBatches(text, options).flatMap(({ tokens, rows, length }) => {
      const parts = rows % microBatches === 0 ? microBatches : 1;
      const size = tokens.length / parts;
      return Array.from(
        { length: parts },
        (_, part) =>
          tensor(tokens.slice(part * size, (part + 1) * size), { shape: [rows / parts, length], dtype: "u32" }),
      );
    });
    return async (params) => {
      const total = batches.reduce((sum, ids) => addLoss(params, ids, sum), scalar(0));
      return await total.item() / batches.length / Math.LN2;
    };
  };
}
