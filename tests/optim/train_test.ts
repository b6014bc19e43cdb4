import { assert, assertEquals, assertRejects } from "@std/assert";
import { ConfigError, NonFiniteError } from "../../src/core/errors.ts";
import { oracleRuntime } from "../../src/core/oracle_runtime.ts";
import { realizeTree } from "../../src/core/realize.ts";
import { currentRuntime, installRuntime, type Runtime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, mul, sub } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { mean } from "../../src/ops/reduce.ts";
import { log, square } from "../../src/ops/unary.ts";
import {
  adam,
  type MetricsRow,
  sgd,
  train,
  type TrainOptions,
  type TrainState,
  trainState,
  trainStep,
} from "../../src/optim/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { everywhere } from "./problem.ts";

interface Batch {
  readonly x: Tensor;
}

type State = TrainState<Tensor>;
interface LossMetrics {
  readonly loss: Tensor;
}

const optimizer = sgd({ learningRate: 0.25 });

/** A step whose loss is the squared distance of the parameter from the mean of the batch. */
function makeStep(): (state: State, batch: Batch) => readonly [State, LossMetrics] {
  return trainStep({ loss: (w: Tensor, { x }: Batch) => square(sub(w, mean(x))), optimizer });
}

function start(): State {
  return trainState({ params: tensor(0), optimizer, key: key(0) });
}

function* hostBatches(count: number): Generator<Batch> {
  for (let i = 0; i < count; i++) yield { x: tensor(Float32Array.of(i, i + 2)) };
}

/** Where the parameter goes: half the way to i + 1 at each step. */
function expectedAfter(steps: number): number {
  let w = 0;
  for (let i = 0; i < steps; i++) w += (i + 1 - w) / 2;
  return w;
}

everywhere("train() feeds host batches and reads metrics every few steps, in order", async () => {
  const calls: MetricsRow<LossMetrics>[][] = [];
  const state = await train(makeStep(), start(), hostBatches(7), {
    metricsEvery: 3,
    onMetrics: (rows) => void calls.push([...rows]),
  });
  assertClose([await state.params.item()], [expectedAfter(7)], { relative: 1e-6, absolute: 0 }, "w");
  assertEquals(calls.map((rows) => rows.map(({ step }) => step)), [[1, 2, 3], [4, 5, 6], [7]]);
  const losses = calls.flat().map(({ metrics }) => metrics.loss[0]!);
  const expected = losses.map((_, i) => (i + 1 - expectedAfter(i)) ** 2);
  assertClose(losses, expected, { relative: 1e-5, absolute: 1e-6 }, "losses");
  assertEquals(await state.step.item(), 7);
});

everywhere("train() takes batches that are on the device, and asynchronous ones", async () => {
  async function* batches(): AsyncGenerator<Batch> {
    for (const [i, batch] of [...hostBatches(4)].entries()) {
      await Promise.resolve();
      yield i % 2 === 0 ? { x: add(batch.x, 0) } : batch;
    }
  }
  const state = await train(makeStep(), start(), batches());
  assertClose([await state.params.item()], [expectedAfter(4)], { relative: 1e-6, absolute: 0 }, "w");
});

everywhere("train() leaves the tensors of batches as they are", async () => {
  const kept = [...hostBatches(3)];
  const onDevice = realizeTree({ x: add(tensor([5, 7]), 0) });
  await train(makeStep(), start(), [...kept, onDevice, ...kept]);
  assertEquals(await Promise.all(kept.map(async ({ x }) => [...await x.data()])), [[0, 2], [1, 3], [2, 4]]);
  assertEquals([...await onDevice.x.data()], [5, 7]);
});

everywhere("train() continues where a state left off", async () => {
  const steps: number[] = [];
  const options: TrainOptions<State, LossMetrics> = {
    onMetrics: (rows) => void steps.push(...rows.map(({ step }) => step)),
  };
  const step = makeStep();
  const half = await train(step, start(), hostBatches(2), options);
  await train(step, half, hostBatches(2), options);
  assertEquals(steps, [1, 2, 3, 4]);
});

everywhere("train() stops after `steps` batches and takes no more of them", async () => {
  let taken = 0;
  function* endless(): Generator<Batch> {
    for (;; taken++) yield { x: tensor([1, 1]) };
  }
  const state = await train(makeStep(), start(), endless(), { steps: 4 });
  assertEquals([await state.step.item(), taken], [4, 3]);
  const same = await train(makeStep(), state, endless(), { steps: 0 });
  assertEquals([same, taken], [state, 3]);
});

everywhere("train() stops at a signal with the state so far", async () => {
  const controller = new AbortController();
  const state = await train(makeStep(), start(), hostBatches(100), {
    metricsEvery: 5,
    onMetrics: () => controller.abort(),
    signal: controller.signal,
  });
  assertEquals(await state.step.item(), 5);
});

everywhere("train() shows the state between steps and at the end, once each", async () => {
  const seen: [number, number][] = [];
  await train(makeStep(), start(), hostBatches(5), {
    stateEvery: 2,
    onState: async ({ params }, step) => void seen.push([step, Math.round(await params.item() * 100)]),
  });
  assertEquals(seen, [2, 4, 5].map((step) => [step, Math.round(expectedAfter(step) * 100)]));
  const once: number[] = [];
  await train(makeStep(), start(), hostBatches(4), { stateEvery: 2, onState: (_, step) => void once.push(step) });
  assertEquals(once, [2, 4]);
});

everywhere("train() runs a step that is not jitted", async () => {
  const step = (state: State, { x }: Batch) => {
    const error = sub(state.params, mean(x));
    const next = { ...state, params: sub(state.params, mul(error, 0.5)), step: add(state.step, 1) };
    return [next, { loss: square(error) }] as const;
  };
  const state = await train(step, start(), hostBatches(6));
  assertClose([await state.params.item()], [expectedAfter(6)], { relative: 1e-6, absolute: 0 }, "w");
});

Deno.test("train() uploads once, overwrites the same input and reads once for many steps", async () => {
  const counts = { upload: 0, overwrite: 0, read: 0 };
  const oracle = oracleRuntime();
  const counting: Runtime = {
    ...oracle,
    upload: (tensor, data) => (counts.upload++, oracle.upload(tensor, data)),
    overwrite: (storage, tensor, data) => (counts.overwrite++, oracle.overwrite(storage, tensor, data)),
    read: (requests) => (counts.read++, oracle.read(requests)),
  };
  const previous = installRuntime(counting);
  try {
    const state = realizeTree(start());
    await train(makeStep(), state, hostBatches(1), { metricsEvery: 10 });
    const before = { ...counts };
    await train(makeStep(), start(), hostBatches(20), { metricsEvery: 10 });
    // Parameters, key, step and the first batch are uploaded; nineteen batches follow; two reads and the last.
    assertEquals(counts.overwrite - before.overwrite, 19);
    assertEquals(counts.read - before.read, 3);
    assert(counts.upload - before.upload <= 4, `${counts.upload - before.upload} uploads`);
  } finally {
    installRuntime(previous);
  }
});

gpuTest("train() allocates nothing in a steady state", async () => {
  const big = adam({ learningRate: 0.01 });
  const step = trainStep({ loss: (w: Tensor, { x }: Batch) => mean(square(sub(w, mean(x)))), optimizer: big });
  const allocations: number[] = [];
  await train(
    step,
    trainState({ params: tensor(new Float32Array(5000)), optimizer: big, key: key(0) }),
    hostBatches(60),
    {
      metricsEvery: 10,
      onMetrics: () => void allocations.push(currentRuntime("count").memory().allocations),
    },
  );
  assertEquals(new Set(allocations.slice(1)).size, 1, `allocations grew: ${allocations.join(", ")}`);
});

everywhere("train() reports what a checked step found at the next read", async () => {
  const step = trainStep({ loss: (w: Tensor, { x }: Batch) => mean(log(mul(w, x))), optimizer, check: "finite" });
  await assertRejects(() => train(step, start(), hostBatches(2)), NonFiniteError, "Non-finite value in trainStep");
});

Deno.test("train() lists every invalid option", async () => {
  const error = await assertRejects(
    () => train(makeStep(), start(), [], { steps: -1, metricsEvery: 0, onMetrics: 5 as never, signal: {} as never }),
    ConfigError,
  );
  assertEquals(
    error.message,
    `Cannot build train: 4 options are invalid
  steps         -1  must be a whole number from 0 up
  metricsEvery  0   must be a whole number from 1 up
  onMetrics     5   must be a function
  signal        {}  must be an AbortSignal`,
  );
});
