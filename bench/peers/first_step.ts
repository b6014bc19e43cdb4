/**
 * A process that loads a peer, takes one training step and prints its loss: `first_step.ts LIBRARY BACKEND TASK`.
 *
 * @module
 */
import { MLP_SIZES, mlpData } from "../training_data.ts";
import { LOADERS } from "./libraries.ts";
import type { TrainTask } from "./task.ts";

// Standard output carries the loss alone.
const print = console.log;
console.log = console.error;

const [library, backend, task] = Deno.args as [string, string, string];
const { parameters, batch } = mlpData(MLP_SIZES);
const loaded = await LOADERS[library]!(backend);
const prepared = await loaded.prepare(JSON.parse(task) as TrainTask, { ...parameters, ...batch }, "jit");
const { losses } = await prepared.outputs();
print(losses![0]);
