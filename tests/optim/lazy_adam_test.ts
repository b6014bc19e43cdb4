import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, TreeError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { applyUpdates, type GradientTransform } from "../../src/optim/transform.ts";
import { adam } from "../../src/optim/adam.ts";
import { lazyAdam, scaleByLazyAdam } from "../../src/optim/lazy_adam.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { makeParams, type Params } from "./problem.ts";

const OPTIONS = { learningRate: 0.1, beta1: 0.8, beta2: 0.95 };
const TOLERANCE = { relative: 2e-6, absolute: 2e-6 };

/** Parameters after one step for each gradient. */
function run<P>(optimizer: GradientTransform, start: P, grads: readonly P[]): P {
  let [params, state] = [start, optimizer.init(start)];
  for (const grad of grads) {
    const [updates, next] = optimizer.update(grad, state, params);
    [params, state] = [applyUpdates(params, updates), next];
  }
  return params;
}

async function checkAgainstDense(): Promise<void> {
  const grads = [1, 2, 3, 4].map((phase) => makeParams(phase));
  const [lazy, dense] = [lazyAdam(OPTIONS), adam(OPTIONS)].map((each) => run(each, makeParams(), grads)) as [
    Params,
    Params,
  ];
  for (const pick of [(p: Params) => p.matrix, (p: Params) => p.layers[0]!.experts, (p: Params) => p.gain]) {
    assertClose(await pick(lazy).data(), await pick(dense).data(), TOLERANCE, "touched everywhere");
  }
  assertEquals([...await lazy.table.data()], [3, 0, 7]);
}
oracleTest("lazyAdam() is Adam where every row is touched", checkAgainstDense);
gpuTest("lazyAdam() is Adam where every row is touched", checkAgainstDense);

/** Gradients of a table [3, 2] at four steps; row 2 is never touched, row 1 at two steps. */
const STEPS = [
  [[1, -2], [0, 0], [0, 0]],
  [[3, 1], [5, 0], [0, 0]],
  [[0, 0], [0, 0], [0, 0]],
  [[-1, 1], [-2, 4], [0, 0]],
];

async function checkRows(): Promise<void> {
  const start = [[1, 2], [3, 4], [5, 6]];
  const table = run(lazyAdam(OPTIONS), tensor(start), STEPS.map((grad) => tensor(grad)));
  const rows = await Promise.all(start.map((row, r) => {
    const own = STEPS.map((grad) => grad[r]!).filter((grad) => grad.some((value) => value !== 0));
    return run(adam(OPTIONS), tensor(row), own.map((grad) => tensor(grad))).data();
  }));
  assertClose(await table.data(), rows.flatMap((row) => [...row]), TOLERANCE, "rows");
  assertEquals([...await table.data()].slice(4), [5, 6]);
}
oracleTest("lazyAdam() treats each row as if there were only the steps that touch it", checkRows);
gpuTest("lazyAdam() treats each row as if there were only the steps that touch it", checkRows);

oracleTest("scaleByLazyAdam() leaves the moments of other rows alone", async () => {
  const transform = scaleByLazyAdam();
  const values = { table: zeros([3, 2, 2]), bias: zeros([2]), gain: tensor(0) };
  const first = { table: tensor([[[1, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 2]]]), bias: tensor([0, 3]) };
  const [, one] = transform.update({ ...first, gain: tensor(0) }, transform.init(values), values);
  assertEquals([...await one.counts["table"]!.data()], [1, 0, 1]);
  assertEquals([...await one.counts["bias"]!.data()], [0, 1]);
  assertEquals(await one.counts["gain"]!.item(), 0);
  const second = { table: tensor([[[0, 0], [0, 0]], [[7, 0], [0, 0]], [[0, 0], [0, 0]]]), bias: zeros([2]) };
  const [updates, two] = transform.update({ ...second, gain: tensor(1) }, one, values);
  for (const name of ["mean", "variance"] as const) {
    const [before, after] = [await one[name]["table"]!.data(), await two[name]["table"]!.data()];
    assertEquals([...after].filter((_, i) => i < 4 || i >= 8), [...before].filter((_, i) => i < 4 || i >= 8));
    assertEquals([...await two[name]["bias"]!.data()], [...await one[name]["bias"]!.data()]);
  }
  assertEquals([...await two.counts["table"]!.data()], [1, 1, 1]);
  const moved = [...await updates.table.data()].map((value) => Math.round(value));
  assertEquals(moved, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
});

gpuTest("lazyAdam() is compiled once and works without momentum", async () => {
  const optimizer = lazyAdam({ learningRate: 1, beta1: 0 });
  const step = jit((grad: Tensor, state: object | null, params: Tensor) => optimizer.update(grad, state, params));
  const params = zeros([2, 3]);
  let state = optimizer.init(params);
  for (const grad of [tensor([[4, 4, 4], [0, 0, 0]]), tensor([[0, 0, 0], [2, 2, 2]])]) {
    const [updates, next] = step(grad, state, params);
    state = next;
    const isFirst = (await grad.data())[0] !== 0;
    const expected = isFirst ? [-1, -1, -1, 0, 0, 0] : [0, 0, 0, -1, -1, -1];
    assertClose(await updates.data(), expected, TOLERANCE, "updates");
  }
  assertEquals(step.traces, 1);
});

oracleTest("lazyAdam() refuses a state of other parameters", () => {
  const optimizer = scaleByLazyAdam();
  const state = optimizer.init({ a: zeros([2]) });
  assertThrows(() => optimizer.update({ b: zeros([2]) }, state, { b: zeros([2]) }), TreeError, "has nothing for .b");
});

Deno.test("lazyAdam() tells all that is wrong with its options", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { learningRate: -1, beta1: 1, beta2: "1", epsilon: 0, weightDecay: 0.1 };
  assertEquals(
    assertThrows(() => lazyAdam(wrong), ConfigError).message,
    `Cannot build lazyAdam: 5 options are invalid
  learningRate  -1   must be a number from 0 up or a schedule
  beta1         1    must be a number from 0 up, below 1
  beta2         "1"  must be a number from 0 up, below 1
  epsilon       0    must be a number above 0
  weightDecay   0.1  unknown option; the options are learningRate, beta1, beta2, epsilon`,
  );
});
