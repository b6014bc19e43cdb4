/**
 * A process that loads the library, takes one training step and prints its loss.
 *
 * @module
 */
import { init } from "../mod.ts";
import { mlpTraining } from "./mlp.ts";
import { startTraining } from "./small_training.ts";

await init();
console.log(await startTraining(mlpTraining("adam")).step().item());
