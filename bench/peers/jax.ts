/**
 * jax-js: every task as its users would write it, under `jit` or eager.
 *
 * Arrays are counted by hand there: an op consumes its arguments, and `.ref` keeps one for another use.
 *
 * @module
 */
import type { Library, Prepared } from "./library.ts";
import { jaxMixture } from "./jax_mixture.ts";
import { jaxLoss } from "./jax_models.ts";
import type { Jax, JaxArray } from "./jax_types.ts";
import { type HostArray, type HostArrays, isTraining, type Outputs, type PureTask, type TrainTask } from "./task.ts";

/** Not a literal in an import: only who asks for peers needs the package. */
const PACKAGE = "npm:@jax-js/jax@0.1.25";

/**
 * Loads the library.
 *
 * @throws {Error} If the backend cannot be started.
 */
export async function loadJax(backend: string): Promise<Library> {
  const jax: Jax = await import(PACKAGE);
  const available = await jax.init(backend);
  if (!available.includes(backend)) throw new Error(`jax-js has no backend ${backend} here`);
  jax.defaultDevice(backend);
  return {
    prepare(task: PureTask | TrainTask, inputs: HostArrays, form: string): Prepared {
      const arrays = Object.fromEntries(
        Object.entries(inputs).map(([name, array]) => [name, upload(jax, array)] as const),
      );
      if (isTraining(task)) return prepareTraining(jax, task, arrays, form);
      return preparePure(jax, task, arrays, form);
    },
  };
}

function upload(jax: Jax, { shape, dtype, data }: HostArray): JaxArray {
  return jax.numpy.array(data, { shape: [...shape], dtype: dtype === "f32" ? "float32" : "int32" });
}

type Arrays = Readonly<Record<string, JaxArray>>;

/** A task without state: a function of its inputs, and the names of its results. */
function preparePure(jax: Jax, task: PureTask, inputs: Arrays, form: string): Prepared {
  const { names, apply } = functionOf(jax, task, inputs, form);
  const compiled = form.startsWith("eager") ? apply : jax.jit(apply);
  const operands = Object.values(inputs);
  let kept: JaxArray[] = [];
  async function settle(): Promise<void> {
    // The operand is there long since, but waiting for it waits for the device too.
    await jax.blockUntilReady([...kept, operands[0]!]);
    for (const array of kept) array.dispose();
    kept = [];
  }
  function submit(): readonly JaxArray[] {
    return compiled(...operands.map((operand) => operand.ref));
  }
  const reads = task.kind === "adds" && task.read;
  return {
    // Results are kept until they are there: an op whose result is dropped before may never run.
    call: reads ? async () => void await submit()[0]!.data() : () => void kept.push(...submit()),
    settle,
    async outputs(): Promise<Outputs> {
      const results = submit();
      const data = await Promise.all(results.map((result) => result.data()));
      return Object.fromEntries(names.map((name, i) => [name, data[i]!]));
    },
  };
}

interface PureFunction {
  readonly names: readonly string[];
  /** Takes the inputs in their order and consumes them. */
  apply(...inputs: JaxArray[]): JaxArray[];
}

function functionOf(jax: Jax, task: PureTask, inputs: Arrays, form: string): PureFunction {
  const { numpy: np, nn } = jax;
  switch (task.kind) {
    case "matmul": {
      const { transposeA, transposeB } = task;
      return {
        names: ["product"],
        apply: (a, b) => [
          np.matmul(transposeA ? np.matrixTranspose(a!) : a!, transposeB ? np.matrixTranspose(b!) : b!),
        ],
      };
    }
    case "chain":
      return {
        names: ["y"],
        apply: (x) => [nn.gelu(x!.ref.mul(1.5).add(0.25), { approximate: true }).mul(x!).sub(0.5)],
      };
    case "softmax":
      return { names: ["y"], apply: (x) => [nn.softmax(x!, -1)] };
    case "layerNorm":
      return { names: ["y"], apply: (x, scale, bias) => [nn.standardize(x!, -1).mul(scale!).add(bias!)] };
    case "sum":
      return { names: ["total"], apply: (x) => [np.sum(x!)] };
    case "adds":
      return {
        names: ["y"],
        apply(x, step) {
          let y = x!;
          for (let i = 0; i < task.count; i++) y = y.add(step!.ref);
          step!.dispose();
          return [y];
        },
      };
    case "moe":
      return jaxMixture(jax, task, Object.keys(inputs), form);
  }
}

/** What a step replaces. Adam's corrections are carried as powers of its decays, so that a step takes no new numbers. */
interface State {
  readonly parameters: readonly JaxArray[];
  readonly means: readonly JaxArray[];
  readonly variances: readonly JaxArray[];
  readonly powers: readonly JaxArray[];
}

function prepareTraining(jax: Jax, task: TrainTask, inputs: Arrays, form: string): Prepared {
  const { numpy: np } = jax;
  const { parameters, stepsPerRead, checkedSteps } = task;
  const loss = jaxLoss(jax, task);
  const moments = task.optimizer === "sgd" ? 0 : parameters.length;

  function start(): State {
    const zeros = () => parameters.slice(0, moments).map((name) => np.zerosLike(inputs[name]!.ref));
    return {
      parameters: parameters.map((name) => inputs[name]!.ref),
      means: zeros(),
      variances: zeros(),
      powers: moments === 0 ? [] : [np.array(1), np.array(1)],
    };
  }

  function step(state: State, batch: readonly JaxArray[]): [JaxArray, State] {
    const named = Object.fromEntries(loss.data.map((name, i) => [name, batch[i]!]));
    const [value, gradients] = jax.valueAndGrad((given: JaxArray[]) =>
      loss.apply(Object.fromEntries(parameters.map((name, i) => [name, given[i]!])), named)
    )(state.parameters.map((parameter) => parameter.ref));
    return [value, update(jax, task, state, gradients)];
  }
  const compiled = form === "eager" ? step : jax.jit(step);

  function advance(state: State): [JaxArray, State] {
    return compiled(state, loss.data.map((name) => inputs[name]!.ref));
  }
  let state = start();
  return {
    async call(): Promise<void> {
      for (let i = 0; i < stepsPerRead; i++) {
        const [value, next] = advance(state);
        state = next;
        if (i === stepsPerRead - 1) await value.data();
        else value.dispose();
      }
    },
    async settle(): Promise<void> {
      await jax.blockUntilReady(state.parameters);
    },
    async outputs(): Promise<Outputs> {
      const losses = new Float32Array(checkedSteps);
      let current = start();
      for (let i = 0; i < checkedSteps; i++) {
        const [value, next] = advance(current);
        current = next;
        losses[i] = (await value.data())[0]!;
      }
      return { losses };
    },
  };
}

function update(
  { numpy: np }: Jax,
  { optimizer, learningRate, weightDecay }: TrainTask,
  { parameters, means, variances, powers }: State,
  gradients: readonly JaxArray[],
): State {
  if (optimizer === "sgd") {
    return { parameters: parameters.map((p, i) => p.sub(gradients[i]!.mul(learningRate))), means, variances, powers };
  }
  const [meanPower, variancePower] = [powers[0]!.mul(0.9), powers[1]!.mul(0.999)];
  const nextMeans = means.map((mean, i) => mean.mul(0.9).add(gradients[i]!.ref.mul(0.1)));
  const nextVariances = variances.map((variance, i) =>
    variance.mul(0.999).add(gradients[i]!.ref.mul(gradients[i]!).mul(0.001))
  );
  const decay = optimizer === "adamw" ? learningRate * weightDecay : 0;
  const next = parameters.map((parameter, i) => {
    const mean = nextMeans[i]!.ref.div(meanPower.ref.mul(-1).add(1));
    const variance = nextVariances[i]!.ref.div(variancePower.ref.mul(-1).add(1));
    const moved = mean.div(np.sqrt(variance).add(1e-8)).mul(learningRate);
    return (decay === 0 ? parameter : parameter.mul(1 - decay)).sub(moved);
  });
  return { parameters: next, means: nextMeans, variances: nextVariances, powers: [meanPower, variancePower] };
}
