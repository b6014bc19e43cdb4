/**
 * A training step that every library takes: how it is built here, checked, and handed to peers.
 *
 * @module
 */
import {
  adam,
  adamw,
  type GradientTransform,
  key,
  memory,
  own,
  realize,
  settle,
  sgd,
  type Tensor,
  tensor,
  trainState,
  trainStep,
} from "../mod.ts";
import type { Built, Work } from "./harness.ts";
import type { HostArray, HostArrays, TrainTask } from "./peers/task.ts";
import type { TrainingData } from "./training_data.ts";
import { expectClose, WrongResultError } from "./verify.ts";

/** Tensors by name. */
export type Named = Readonly<Record<string, Tensor>>;

/** A model with its data and how it is trained. */
export interface SmallTraining {
  /** Which model it is to the peers. */
  readonly kind: TrainTask["kind"];
  /** How parameters move. */
  readonly optimizer: TrainTask["optimizer"];
  /** Attention heads; 0 where there are none. */
  readonly heads: number;
  /** The mean cross-entropy. */
  loss(params: Named, batch: Named): Tensor;
  /** Real data. */
  readonly data: TrainingData;
  /** Data of the same form, small enough for float64 on the host. */
  readonly smallData: TrainingData;
  /** Terms in the longest sum, for the tolerance. */
  readonly terms: number;
  /** Steps that must create no GPU buffer once two were taken. */
  readonly steadySteps: number;
  /** Useful work of one step. */
  readonly work: Work;
}

const LEARNING_RATE = { sgd: 0.1, adam: 1e-3, adamw: 1e-3 };
const WEIGHT_DECAY = 0.01;

/** Enough for two updates, and for moments that are not the first gradient alone. */
const CHECKED_STEPS = 3;

function optimizerOf(optimizer: TrainTask["optimizer"]): GradientTransform {
  const learningRate = LEARNING_RATE[optimizer];
  if (optimizer === "sgd") return sgd({ learningRate });
  return optimizer === "adam" ? adam({ learningRate }) : adamw({ learningRate, weightDecay: WEIGHT_DECAY });
}

function upload(arrays: HostArrays): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(arrays).map(([name, { shape, dtype, data }]: [string, HostArray]) =>
      [name, tensor(data, { shape, dtype })] as const
    ),
  );
}

/** A run that is stepped by hand. */
export interface TrainingRun {
  /** Takes a step and returns its loss. */
  step(): Tensor;
  /** All tensors the run holds now. */
  held(): unknown;
}

/** Uploads parameters and data, the real ones unless others are given, and makes the step. */
export function startTraining(
  { loss, optimizer, data }: SmallTraining,
  { parameters, batch }: TrainingData = data,
): TrainingRun {
  const given = realize(upload(batch));
  const transform = optimizerOf(optimizer);
  const step = trainStep({ loss, optimizer: transform });
  let state = realize(trainState({ params: upload(parameters) as Named, optimizer: transform, key: key(0) }));
  return {
    step() {
      const [next, metrics] = step(state, given);
      state = next;
      return metrics.loss;
    },
    held: () => ({ state, given }),
  };
}

/** The losses of the first steps. */
export async function firstLosses(
  training: SmallTraining,
  data: TrainingData,
  steps: number = CHECKED_STEPS,
): Promise<Float32Array> {
  const run = startTraining(training, data);
  const losses = new Float32Array(steps);
  for (let i = 0; i < steps; i++) {
    const loss = run.step();
    losses[i] = await loss.item();
    loss.dispose();
  }
  own(run.held())[Symbol.dispose]();
  return losses;
}

/** Takes steps without a read and checks that all live in the buffers of the first two. */
async function expectSteady(run: TrainingRun, steps: number): Promise<void> {
  for (let i = 0; i < 2; i++) run.step().dispose();
  await settle();
  const before = memory().allocations;
  for (let i = 0; i < steps; i++) {
    run.step().dispose();
    // Steps that pile up would measure the queue.
    if (i % 10 === 9) await settle();
  }
  const created = memory().allocations - before;
  if (created > 0) throw new WrongResultError(`${steps} steps created ${created} GPU buffers, expected none`);
}

/** The same training for other libraries. */
export function trainTask(
  { kind, optimizer, heads, data }: SmallTraining,
  counts: Pick<TrainTask, "stepsPerRead" | "checkedSteps">,
): TrainTask {
  return {
    kind,
    optimizer,
    learningRate: LEARNING_RATE[optimizer],
    weightDecay: WEIGHT_DECAY,
    heads,
    parameters: Object.keys(data.parameters),
    ...counts,
  };
}

/** Builds contenders that take some steps for each loss they read. */
export function buildTraining(training: SmallTraining, stepsPerRead: readonly number[]): Built {
  const { optimizer, data, smallData, terms, work, kind } = training;
  const run = startTraining(training);
  const contenders = stepsPerRead.map((steps) => ({
    name: steps === 1 ? "each loss read" : `${steps} steps a read`,
    work: {
      flop: work.flop * steps,
      bytes: work.bytes * steps,
      items: { name: "steps", count: steps },
    },
    waits: true,
    async run(): Promise<unknown> {
      for (let i = 1; i < steps; i++) run.step().dispose();
      const loss = run.step();
      await loss.item();
      return loss;
    },
  }));
  let expected: Float32Array | null = null;
  return {
    contenders,
    get inputs() {
      return run.held();
    },
    async verify() {
      // Loaded here only: what measures how long a process takes to start imports this module too.
      const { withOracle } = await import("../tests/support/runtimes.ts");
      const definition = await withOracle(() => firstLosses(training, smallData));
      expectClose(
        `losses of small ${kind} with ${optimizer}`,
        await firstLosses(training, smallData),
        definition,
        terms,
      );
      await expectSteady(run, training.steadySteps);
    },
    peers: contenders.map(({ name, waits }, i) => ({
      contender: name,
      task: trainTask(training, { stepsPerRead: stepsPerRead[i]!, checkedSteps: CHECKED_STEPS }),
      inputs: () => ({ ...data.parameters, ...data.batch }),
      async check({ losses }) {
        // At full size float64 would take minutes; this library's own losses follow from what was checked.
        expected ??= await firstLosses(training, data);
        expectClose(`losses of ${kind} with ${optimizer}`, losses!, expected, terms);
      },
      waits,
    })),
  };
}
