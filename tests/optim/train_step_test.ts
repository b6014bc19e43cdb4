import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError, DonatedError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import { flatten } from "../../src/core/tree.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, mul, sub } from "../../src/ops/binary.ts";
import { scalar, tensor } from "../../src/ops/creation.ts";
import { bits, key } from "../../src/ops/random.ts";
import { mean, sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import {
  adam,
  freeze,
  globalNorm,
  sgd,
  type TrainState,
  trainState,
  trainStep,
  type TrainStepOptions,
} from "../../src/optim/mod.ts";
import { assertClose } from "../support/tolerance.ts";
import { distance, everywhere, makeParams, type Params, SUBJECTS, wave } from "./problem.ts";

interface Batch {
  readonly x: Tensor;
  readonly y: Tensor;
}

function makeBatch(phase: number): Batch {
  return { x: wave([6, 4], phase), y: wave([6, 4], phase + 1) };
}

function squareError(w: Tensor, { x, y }: Batch): Tensor {
  return mean(square(sub(mul(x, w), y)));
}

for (const { name, make } of SUBJECTS) {
  everywhere(`trainStep() with ${name} replaces its state, traced once`, async () => {
    const optimizer = make();
    const step = trainStep({ loss: (params: Params, target: Params) => distance(params, target), optimizer });
    const target = makeParams(2);
    let state: TrainState<Params> = trainState({ params: makeParams(), optimizer, key: key(0) });
    const { structure } = flatten(state);
    const losses: Tensor[] = [];
    for (let i = 0; i < 12; i++) {
      const [next, { loss }] = step(state, target);
      state = next;
      losses.push(loss);
    }
    const values = (await read(losses)).map((loss) => loss[0]!);
    assert(values[11]! < values[0]!, `loss went from ${values[0]} to ${values[11]}`);
    assertEquals([step.traces, flatten(state).structure, await state.step.item()], [1, structure, 12]);
    assertEquals([...await state.params.table.data()], [3, 0, 7]);
  });
}

everywhere("trainStep() returns the metrics of loss and measure, and advances what is not trained", async () => {
  const optimizer = freeze(sgd({ learningRate: 0.5 }), (path) => path === ".bias");
  const step = trainStep({
    loss: (params: { w: Tensor; bias: Tensor }, batch: Batch) => {
      const value = squareError(params.w, batch);
      return [value, { rows: sum(batch.x, { axis: 1 }) }] as const;
    },
    optimizer,
    measure: ({ grads }) => ({ gradientNorm: globalNorm(grads) }),
    advance: (params, { rows }) => ({ ...params, bias: add(params.bias, mul(mean(rows), 0)) }),
  });
  const params = { w: tensor([0, 0, 0, 0]), bias: tensor(5) };
  const batch = { x: tensor([[1, 1, 1, 1]]), y: tensor([[2, 2, 2, 2]]) };
  const [state, metrics] = step(trainState({ params, optimizer, key: key(0) }), batch);
  const { loss, rows, gradientNorm } = await read(metrics);
  assertEquals([loss[0], [...rows], gradientNorm[0]], [4, [4], 2]);
  assertClose(await state.params.w.data(), [0.5, 0.5, 0.5, 0.5], { relative: 1e-6, absolute: 0 }, "w");
  assertEquals(await state.params.bias.item(), 5);
});

everywhere("trainStep() with micro-batches takes the step of the whole batch", async () => {
  const optimizer = adam({ learningRate: 0.1 });
  const found: ArrayLike<number>[] = [];
  for (const microBatches of [1, 3]) {
    const step = trainStep({ loss: squareError, optimizer, microBatches });
    let state = trainState({ params: wave([4], 2), optimizer, key: key(0) });
    for (let i = 0; i < 3; i++) [state] = step(state, makeBatch(i));
    found.push(await state.params.data());
  }
  assertClose(found[1]!, found[0]!, { relative: 1e-4, absolute: 1e-5 }, "parameters");
});

everywhere("trainStep() gives every step and micro-batch a key of its own, the same in every run", async () => {
  const optimizer = sgd({ learningRate: 0.1 });
  async function draws(): Promise<number[]> {
    const step = trainStep({
      loss: (w: Tensor, x: Tensor, { key }) => [mean(mul(w, x)), { draw: bits(key, []) }] as const,
      optimizer,
      microBatches: 2,
    });
    let state = trainState({ params: scalar(1), optimizer, key: key(7) });
    const found: number[] = [];
    for (let i = 0; i < 3; i++) {
      const [next, { draw }] = step(state, tensor([1, 2]));
      state = next;
      found.push(await draw.item());
    }
    return found;
  }
  const first = await draws();
  assertEquals(new Set(first).size, 3);
  assertEquals(await draws(), first);
});

everywhere("trainStep() takes over the buffers of the state", async () => {
  const optimizer = sgd({ learningRate: 0.1 });
  const step = trainStep({ loss: squareError, optimizer });
  const state = trainState({ params: wave([4], 2), optimizer, key: key(0) });
  const [next] = step(state, makeBatch(0));
  await assertRejects(() => state.params.data(), DonatedError, "its buffer was donated");
  assertThrows(() => step(state, makeBatch(0)), DonatedError);
  await next.params.data();
});

Deno.test("trainStep() lists every invalid option", () => {
  const options = { loss: 3, optimizer: { learningRate: 1 }, microBatches: 0.5, check: "nan" };
  const error = assertThrows(
    () => trainStep(options as unknown as TrainStepOptions<Tensor, Tensor, object, object>),
    ConfigError,
  );
  assertEquals(
    error.message,
    `Cannot build trainStep: 4 options are invalid
  loss          3                   must be a function
  optimizer     {"learningRate":1}  must be a gradient transform
  microBatches  0.5                 must be a whole number from 1 up
  check         "nan"               must be "finite"`,
  );
});
