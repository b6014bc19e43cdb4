import { assertEquals, assertRejects } from "@std/assert";
import { NonFiniteError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, div, exp, less, log, max, mul, softmax, sqrt, sub, sum, tensor, where } from "../../src/ops/mod.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { dedent } from "./support/messages.ts";

/** A message whose places keep their file and line but lose the column, relative to the first line given. */
function withLinesFrom(error: Error, first: number): string {
  return error.message.replaceAll(/([\w.]+\.ts):(\d+):\d+/g, (_, file, line) => `${file}:+${Number(line) - first}`);
}

function lineHere(): number {
  return Number(/:(\d+):\d+\)?$/.exec(new Error().stack!.split("\n")[2]!)![1]);
}

for (const test of [gpuTest, oracleTest]) {
  test("check names the first op that made a non-finite value, its line, and where it is", async () => {
    const start = lineHere();
    const step = jit((x: Tensor, y: Tensor) => {
      const shifted = sub(x, y);
      const logs = log(shifted);
      return sum(mul(logs, 2));
    }, { check: "finite", name: "trainStep" });
    const loss = step(tensor([[1, 2, 3], [4, 5, 6]]), tensor([[0, 2, 0], [0, 0, 6]]));
    const error = await assertRejects(() => loss.data(), NonFiniteError);
    assertEquals(error.code, "numeric/non-finite");
    assertEquals(
      withLinesFrom(error, start),
      dedent(`
        Non-finite value in trainStep, call 1: first NaN or infinity in the output of log
          op      log(f32[2, 3]), check_mode_test.ts:+3
          value   f32[2, 3], 2 of 6 elements, first at [0, 1]
          inputs  nothing of the kind in them, so it was born here
        Fix: use logSoftmax(logits) instead of log(softmax(logits)), or add a small constant`),
    );
  });

  test("check says when an argument was not finite to begin with", async () => {
    const step = jit((state: { x: Tensor }, y: Tensor) => sum(mul(exp(state.x), y)), { check: "finite", name: "step" });
    const error = await assertRejects(() => step({ x: tensor([1, NaN]) }, tensor([1, 1])).data(), NonFiniteError);
    assertEquals(
      error.message,
      dedent(`
        Non-finite value in step, call 1: NaN or infinity in an argument, before the call
          tensor  argument 0, .x
          value   f32[2], 1 of 2 elements, first at [1]
        Fix: look where this argument was computed`),
    );
  });

  test("check finds nothing in a step that stays finite, and then the call where it does not", async () => {
    const step = jit((x: Tensor) => ({ x: div(1, x), half: mul(x, x) }), { check: "finite", name: "grow" });
    await step(tensor([2])).x.data();
    const { x } = step(tensor([0]));
    const error = await assertRejects(() => x.data(), NonFiniteError);
    assertEquals(
      error.message.split("\n")[0],
      "Non-finite value in grow, call 2: first NaN or infinity in the output of div",
    );
    assertEquals(error.details, { label: "grow, call 2", op: "div", count: 1, first: [0] });
  });
}

gpuTest("check works with donation: the step needs not run again", async () => {
  const step = jit((w: Tensor, rate: Tensor) => sub(w, mul(rate, grad((w: Tensor) => sum(sqrt(w)))(w))), {
    check: "finite",
    donate: [0],
    name: "descend",
  });
  let w = tensor([1, 4]);
  for (let i = 0; i < 3; i++) w = step(w, tensor(0.1));
  assertEquals((await w.data()).length, 2);
  w = step(w, tensor(50));
  w = step(w, tensor(50));
  const error = await assertRejects(() => w.data(), NonFiniteError);
  assertEquals(
    error.message.split("\n")[0],
    "Non-finite value in descend, call 5: first NaN or infinity in the output of sqrt",
  );
});

gpuTest("a check waits for the next read of anything", async () => {
  const step = jit((x: Tensor) => log(x), { check: "finite", name: "step" });
  step(tensor([-1]));
  const other = add(tensor([1]), 1);
  await assertRejects(() => read([other]), NonFiniteError);
  assertEquals([...await other.data()], [2]);
});

gpuTest("masks of -Infinity that a softmax takes in are no fault", async () => {
  const step = jit((x: Tensor) => softmax(where(less(x, 0), -Infinity, x)), { check: "finite", name: "step" });
  assertEquals([...await step(tensor([[0, 0, -1]])).data()], [0.5, 0.5, 0]);
});

for (const test of [gpuTest, oracleTest]) {
  test("a mask of -Infinity that is added passes, and what makes it NaN is to blame", async () => {
    const masked = (x: Tensor) => add(x, where(less(x, 0), -Infinity, 0));
    const step = jit((x: Tensor) => softmax(masked(x)), { check: "finite", name: "step" });
    assertEquals([...await step(tensor([[0, 0, -1]])).data()], [0.5, 0.5, 0]);
    const bad = jit((x: Tensor) => sub(masked(x), masked(mul(x, 2))), { check: "finite", name: "bad" });
    const error = await assertRejects(() => bad(tensor([0, -1])).data(), NonFiniteError);
    assertEquals(error.details, { label: "bad, call 1", op: "sub", count: 1, first: [1] });
  });

  test("a row of nothing but masks keeps its infinity through a maximum", async () => {
    const step = jit((x: Tensor) => max(where(less(x, 0), -Infinity, x)), { check: "finite", name: "step" });
    assertEquals(await step(tensor([-1, -2])).item(), -Infinity);
  });
}

gpuTest("a sum that overflows is to blame", async () => {
  const step = jit((x: Tensor) => sum(x), { check: "finite", name: "step" });
  const error = await assertRejects(() => step(tensor([3e38, 3e38])).data(), NonFiniteError);
  assertEquals(error.details, { label: "step, call 1", op: "sum", count: 1, first: [] });
});
