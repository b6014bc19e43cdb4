/**
 * TensorFlow.js: every task as its users would write it. It has no jit; memory is freed by `tidy` and `dispose`.
 *
 * @module
 */
import type { Library, Prepared } from "./library.ts";
import { type HostArray, type HostArrays, isTraining, type Outputs, type PureTask, type TrainTask } from "./task.ts";
import { gelu, layerNorm, tfLoss, tfMixture, type TfNamed } from "./tfjs_models.ts";
import type { TensorFlow, TfTensor, TfVariable } from "./tfjs_types.ts";

/** Not literals in an import: only who asks for peers needs the packages. */
const VERSION = "4.22.0";
/** The whole of it: the core alone comes without gradients. */
const PACKAGE = `npm:@tensorflow/tfjs@${VERSION}`;

/**
 * Loads the library.
 *
 * @throws {Error} If the backend cannot be started.
 */
export async function loadTfjs(backend: string): Promise<Library> {
  const tf: TensorFlow = await import(PACKAGE);
  await import(`npm:@tensorflow/tfjs-backend-${backend}@${VERSION}`);
  if (!await tf.setBackend(backend)) throw new Error(`TensorFlow.js has no backend ${backend} here`);
  await tf.ready();
  return {
    prepare(task: PureTask | TrainTask, inputs: HostArrays): Prepared {
      const tensors = Object.fromEntries(
        Object.entries(inputs).map(([name, array]) => [name, upload(tf, array)] as const),
      );
      if (isTraining(task)) return prepareTraining(tf, task, tensors, inputs);
      return preparePure(tf, task, tensors);
    },
  };
}

function upload(tf: TensorFlow, { shape, dtype, data }: HostArray): TfTensor {
  return tf.tensor(data, [...shape], dtype === "f32" ? "float32" : "int32");
}

/** Waits until the device is idle; the wasm backend computes in the call itself. */
async function settle(tf: TensorFlow): Promise<void> {
  const backend = tf.backend();
  // It throws where nothing was recorded.
  if (backend.commandEncoder) {
    backend.endComputePassEncoder?.();
    backend.submitQueue?.();
  }
  await backend.device?.queue.onSubmittedWorkDone();
}

function preparePure(tf: TensorFlow, task: PureTask, inputs: TfNamed): Prepared {
  const { names, apply } = functionOf(tf, task, inputs);
  const reads = task.kind === "adds" && task.read;
  return {
    async call(): Promise<void> {
      const results = tf.tidy(apply);
      if (reads) await results[0]!.data();
      tf.dispose(results);
    },
    settle: () => settle(tf),
    async outputs(): Promise<Outputs> {
      const results = tf.tidy(apply);
      const data = await Promise.all(results.map((result) => result.data()));
      tf.dispose(results);
      return Object.fromEntries(names.map((name, i) => [name, data[i]!]));
    },
  };
}

interface PureFunction {
  readonly names: readonly string[];
  apply(): TfTensor[];
}

function functionOf(tf: TensorFlow, task: PureTask, inputs: TfNamed): PureFunction {
  switch (task.kind) {
    case "matmul":
      return {
        names: ["product"],
        apply: () => [tf.matMul(inputs.a!, inputs.b!, task.transposeA, task.transposeB)],
      };
    case "chain":
      return {
        names: ["y"],
        apply: () => [tf.sub(tf.mul(gelu(tf, tf.add(tf.mul(inputs.x!, 1.5), 0.25)), inputs.x!), 0.5)],
      };
    case "softmax":
      return { names: ["y"], apply: () => [tf.softmax(inputs.x!)] };
    case "layerNorm":
      return { names: ["y"], apply: () => [layerNorm(tf, inputs.x!, inputs.scale!, inputs.bias!)] };
    case "sum":
      return { names: ["total"], apply: () => [tf.sum(inputs.x!)] };
    case "adds":
      return {
        names: ["y"],
        apply() {
          let y = inputs.x!;
          for (let i = 0; i < task.count; i++) y = tf.add(y, inputs.step!);
          return [y];
        },
      };
    case "moe":
      return tfMixture(tf, task, inputs);
  }
}

function prepareTraining(tf: TensorFlow, task: TrainTask, tensors: TfNamed, inputs: HostArrays): Prepared {
  const { optimizer, learningRate, weightDecay, stepsPerRead, checkedSteps, parameters } = task;

  /** Fresh parameters and moments, and the step that moves them. */
  function start(): () => TfTensor {
    const variables = parameters.map((name): TfVariable => tf.variable(upload(tf, inputs[name]!)));
    const named = { ...tensors, ...Object.fromEntries(parameters.map((name, i) => [name, variables[i]!])) };
    const loss = tfLoss(tf, task, named);
    const mover = optimizer === "sgd" ? tf.train.sgd(learningRate) : tf.train.adam(learningRate, 0.9, 0.999, 1e-8);
    return () => {
      // There is no AdamW: what decays is noted before the step and taken off after it.
      const decay = optimizer === "adamw" ? variables.map((each) => tf.mul(each, learningRate * weightDecay)) : [];
      const value = mover.minimize(loss, true, variables);
      tf.tidy(() => decay.forEach((amount, i) => variables[i]!.assign(tf.sub(variables[i]!, amount))));
      tf.dispose(decay);
      return value;
    };
  }

  const step = start();
  return {
    async call(): Promise<void> {
      for (let i = 0; i < stepsPerRead; i++) {
        const value = step();
        if (i === stepsPerRead - 1) await value.data();
        value.dispose();
      }
    },
    settle: () => settle(tf),
    async outputs(): Promise<Outputs> {
      const fresh = start();
      const losses = new Float32Array(checkedSteps);
      for (let i = 0; i < checkedSteps; i++) {
        const value = fresh();
        losses[i] = (await value.data())[0]!;
        value.dispose();
      }
      return { losses };
    },
  };
}
