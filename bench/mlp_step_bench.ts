/**
 * How long does a training step of a small multilayer perceptron take, where launching work costs more than the work?
 *
 * @module
 */
import type { DeviceInfo } from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Question } from "./harness.ts";
import { mlpTraining } from "./mlp.ts";
import { buildTraining } from "./small_training.ts";
import { MLP_SIZES } from "./training_data.ts";

/** The question for `deno task bench`. */
export const mlpStepQuestion: Question = {
  name: "mlp_step",
  asks: "How long does a training step take where launching work costs more than the work?",
  workloads: (_device: DeviceInfo) =>
    (["sgd", "adam"] as const).map((optimizer) => ({
      name: optimizer,
      shapes: `x f32[${MLP_SIZES.batch},${MLP_SIZES.widths[0]}], layers ${MLP_SIZES.widths.join(" -> ")}`,
      build: () => buildTraining(mlpTraining(optimizer), [1, 10]),
    })),
};

await registerBenches(mlpStepQuestion, import.meta);
