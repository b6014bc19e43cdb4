import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { valueAndGrad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul, sub } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { mean } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { accumulate, adam, applyUpdates, inMicroBatches, type OptimizerState } from "../../src/optim/mod.ts";
import { assertClose } from "../support/tolerance.ts";
import { everywhere, wave } from "./problem.ts";

interface Batch {
  readonly x: Tensor;
  readonly y: Tensor;
}

const evaluate = valueAndGrad((w: Tensor, { x, y }: Batch) => {
  const error = sub(mul(x, w), y);
  return [mean(square(error)), { error: mean(error), rows: tensor(x.shape[0]!, { dtype: "u32" }) }] as const;
});

const TOLERANCE = { relative: 1e-5, absolute: 1e-6 };

everywhere("accumulate() over n steps equals one step on the big batch, Adam included", async () => {
  const [x, y] = [wave([6, 4], 0), wave([6, 4], 1)];
  const whole = adam({ learningRate: 0.1 });
  const parted = accumulate(3, whole);
  const step = jit((w: Tensor, state: OptimizerState, batch: Batch) => {
    const [updates, next] = parted.update(evaluate(w, batch).grads, state as never, w);
    return [applyUpdates(w, updates), next as OptimizerState] as const;
  });
  let [expected, wholeState] = [wave([4], 2), whole.init(wave([4], 2))];
  let [found, partedState]: [Tensor, OptimizerState] = [wave([4], 2), parted.init(wave([4], 2))];
  for (let round = 0; round < 2; round++) {
    const [updates, next] = whole.update(evaluate(expected, { x, y }).grads, wholeState, expected);
    [expected, wholeState] = [applyUpdates(expected, updates), next];
    const before = [...await found.data()];
    for (let part = 0; part < 3; part++) {
      const rows = (from: Tensor, data: ArrayLike<number>) =>
        tensor(Float64Array.from(data).slice(part * 8, part * 8 + 8), { shape: [2, 4], dtype: from.dtype });
      if (part > 0) assertEquals([...await found.data()], before, "nothing moves before the last part");
      [found, partedState] = step(found, partedState, { x: rows(x, await x.data()), y: rows(y, await y.data()) });
    }
    assertClose(await found.data(), await expected.data(), TOLERANCE, `after round ${round}`);
  }
  assertEquals(step.traces, 1);
});

everywhere("inMicroBatches() gives value, metrics and gradients of the whole batch", async () => {
  const [w, batch] = [wave([4], 2), { x: wave([6, 4], 0), y: wave([6, 4], 1) }];
  const expected = await read(evaluate(w, batch));
  for (const parts of [1, 2, 3, 6]) {
    const found = await read(jit(inMicroBatches(parts, evaluate))(w, batch));
    assertClose(found.value, expected.value, TOLERANCE, `value of ${parts} parts`);
    assertClose(found.grads, expected.grads, TOLERANCE, `gradients of ${parts} parts`);
    assertClose(found.aux.error, expected.aux.error, TOLERANCE, `error of ${parts} parts`);
    assertEquals(found.aux.rows[0], 6, "counts are summed");
  }
});

Deno.test("inMicroBatches() refuses a batch that does not divide", () => {
  const batch = { x: wave([6, 4], 0), y: wave([6, 4], 1) };
  const error = assertThrows(() => inMicroBatches(4, evaluate)(wave([4], 2), batch), ShapeError);
  assertEquals(
    error.message.replace(/\S+:\d+:\d+/, "(line)"),
    `Cannot split a batch into 4 parts: axis 0 of batch.x is 6
  leaf  f32[6, 4]
  at    (line)
Fix: make the batch size a multiple of 4`,
  );
});
