import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, TreeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul, sub } from "../../src/ops/binary.ts";
import { scalar, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { mean } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import {
  adam,
  fixedLossScale,
  globalNorm,
  type LossScale,
  lossScale,
  type LossScaleOptions,
  trainState,
  trainStep,
  type TrainStepOptions,
} from "../../src/optim/mod.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { everywhere } from "./problem.ts";

/** The rule in plain numbers. */
function naive(finite: readonly boolean[], { interval, factor, least, most }: Readonly<Record<string, number>>) {
  const found: [number, number][] = [];
  let [scale, streak] = [8, 0];
  for (const isFinite of finite) {
    if (!isFinite) [scale, streak] = [Math.max(scale / factor!, least!), 0];
    else if (++streak === interval) [scale, streak] = [Math.min(scale * factor!, most!), 0];
    found.push([scale, streak]);
  }
  return found;
}

oracleTest(
  "lossScale() falls after every overflow and grows after enough finite steps, within its limits",
  async () => {
    const finite = [..."1110011111111111110001000001111"].map((digit) => digit === "1");
    for (const factor of [2, 3]) {
      const rule = lossScale({ initial: 8, growthInterval: 3, factor, minimum: 0.5, maximum: 60 });
      let state = rule.init();
      const found: (readonly [number, number])[] = [];
      for (const isFinite of finite) {
        state = rule.next(state, tensor(isFinite, { dtype: "bool" }));
        found.push([await state.scale.item(), await state.streak.item()]);
      }
      const expected = naive(finite, { interval: 3, factor, least: 0.5, most: 60 });
      assertClose(found.flat(), expected.flat(), { relative: 1e-6, absolute: 0 }, `factor ${factor}`);
    }
  },
);

oracleTest("fixedLossScale() never changes", async () => {
  const rule = fixedLossScale(12);
  const state = rule.next(rule.init(), tensor(false, { dtype: "bool" }));
  assertEquals([await rule.init().scale.item(), await state.scale.item()], [12, 12]);
});

interface Batch {
  readonly x: Tensor;
  /** Multiplies the loss; a large one makes gradients overflow. */
  readonly weight: Tensor;
}

function batchOf(weight: number): Batch {
  return { x: tensor([1, 2, 3]), weight: scalar(weight) };
}

function loss(w: Tensor, { x, weight }: Batch): Tensor {
  return mul(mean(square(sub(mul(w, x), 1))), weight);
}

async function trace(rule: LossScale | undefined, weights: readonly number[]) {
  const optimizer = adam({ learningRate: 0.1 });
  const scaled = rule === undefined ? {} : { lossScale: rule };
  const step = trainStep({ loss, optimizer, measure: ({ grads }) => ({ norm: globalNorm(grads) }), ...scaled });
  let state = trainState({ params: tensor([0.5, 1, 2]), optimizer, key: key(0), ...scaled });
  const rows = [];
  for (const weight of weights) {
    const [next, metrics] = step(state, batchOf(weight));
    state = next;
    const [{ count }] = state.optimizer as readonly [{ readonly count: Tensor }];
    rows.push(await read({ params: state.params, count, step: state.step, metrics }));
  }
  assertEquals(step.traces, 1);
  return rows;
}

gpuTest("trainStep() skips a step that overflows: nothing moves but the step and the scale", async () => {
  const rows = await trace(lossScale({ initial: 16, growthInterval: 2 }), [1, 1e38, 1, 1]);
  assertEquals(rows.map(({ metrics }) => metrics.lossScale!.skipped[0]), [0, 1, 0, 0]);
  assertEquals(rows.map(({ metrics }) => metrics.lossScale!.scale[0]), [16, 16, 8, 8]);
  assertEquals(rows.map(({ count, step }) => [count[0], step[0]]), [[1, 1], [1, 2], [2, 3], [3, 4]]);
  assertEquals([...rows[1]!.params], [...rows[0]!.params]);
  assert(rows[2]!.params[0] !== rows[1]!.params[0]);
  // The two finite steps let it grow again, which the next step would see.
  const more = await trace(lossScale({ initial: 16, growthInterval: 2 }), [1, 1e38, 1, 1, 1]);
  assertEquals(more[4]!.metrics.lossScale!.scale[0], 16);
});

everywhere("trainStep() with a loss scale takes the steps and has the metrics of one without", async () => {
  const weights = [1, 2, 0.5, 1];
  const plain = await trace(undefined, weights);
  for (const rule of [lossScale({ initial: 1024, growthInterval: 2 }), fixedLossScale(1000)]) {
    const scaled = await trace(rule, weights);
    for (const [i, { params, metrics }] of scaled.entries()) {
      assertClose(params, plain[i]!.params, { relative: 1e-5, absolute: 1e-6 }, `step ${i}`);
      assertClose([metrics.loss[0]!, metrics.norm[0]!], [plain[i]!.metrics.loss[0]!, plain[i]!.metrics.norm[0]!], {
        relative: 1e-5,
        absolute: 0,
      }, `metrics ${i}`);
    }
  }
  assertEquals(plain[0]!.metrics.lossScale, undefined);
});

everywhere("trainStep() skips steps without numbers too, and advances nothing then", async () => {
  const optimizer = adam({ learningRate: 0.1 });
  const rule = fixedLossScale(4);
  const step = trainStep({
    loss,
    optimizer,
    lossScale: rule,
    microBatches: 2,
    advance: (w) => mul(w, 2),
  });
  const state = trainState({ params: tensor([1, 1]), optimizer, key: key(0), lossScale: rule });
  const bad: Batch = { x: tensor([1, 1, NaN, 1], { shape: [4, 1] }), weight: scalar(1) };
  const [next, metrics] = step(state, bad);
  const { params, skipped, scale } = await read({ params: next.params, ...metrics.lossScale! });
  assertEquals([[...params], skipped[0], scale[0]], [[1, 1], 1, 4]);
});

oracleTest("trainStep() refuses a state without its loss scale, and one with a loss scale that it lacks", () => {
  const optimizer = adam({ learningRate: 0.1 });
  const rule = lossScale();
  const [plain, scaled] = [trainStep({ loss, optimizer }), trainStep({ loss, optimizer, lossScale: rule })];
  const made = { params: tensor([1]), optimizer, key: key(0) };
  const missing = assertThrows(() => scaled(trainState(made), batchOf(1)), TreeError);
  assertEquals(
    missing.message.split("\n")[0],
    "Cannot take a step: the step scales its loss, and the state has no loss scale",
  );
  const left = assertThrows(() => plain(trainState({ ...made, lossScale: rule }), batchOf(1)), TreeError);
  assertEquals(left.message.split("\n")[0], "Cannot take a step: the state has a loss scale, and the step has none");
});

Deno.test("lossScale() lists every invalid option", () => {
  const wrong: LossScaleOptions = { initial: 0, growthInterval: 0.5, factor: 1, minimum: -1, maximum: Infinity };
  assertEquals(
    assertThrows(() => lossScale(wrong), ConfigError).message,
    `Cannot build lossScale: 5 options are invalid
  initial         0         must be a number above 0
  growthInterval  0.5       must be a whole number from 1 up
  factor          1         must be a number above 1
  minimum         -1        must be a number above 0
  maximum         Infinity  must be a number above 0`,
  );
  assertThrows(() => lossScale({ initial: 2, minimum: 4 }), ConfigError, "must be from minimum (4) to maximum");
  assertThrows(() => fixedLossScale(0), ConfigError);
  const options = { loss, optimizer: adam({ learningRate: 1 }), lossScale: 1024 };
  assertThrows(
    () => trainStep(options as unknown as TrainStepOptions<Tensor, Batch, object, object>),
    ConfigError,
    "must be a loss scale",
  );
});
