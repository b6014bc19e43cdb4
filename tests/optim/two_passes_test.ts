import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { concat, splitAxis } from "../../src/ops/concat.ts";
import { consistencyLoss } from "../../src/ops/consistency_loss.ts";
import { scalar, tensor } from "../../src/ops/creation.ts";
import { dropout } from "../../src/ops/dropout.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { key, split } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { sgd } from "../../src/optim/sgd.ts";
import { type StepContext, trainState, trainStep } from "../../src/optim/train_step.ts";
import { inTwoPasses, type Prediction } from "../../src/optim/two_passes.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { everywhere, wave } from "./problem.ts";

interface Batch {
  readonly x: Tensor;
  readonly targets: Tensor;
  /** A scalar goes to both passes as it is. */
  readonly scale: Tensor;
}

const EXACT = { relative: 1e-12, absolute: 1e-12 };

function batchOf(): Batch {
  return { x: wave([4, 6], 0), targets: tensor([2, 0, 1, 1], { dtype: "u32" }), scale: scalar(1) };
}

/** A linear classifier of dropped-out inputs. */
function classify(weight: Tensor, { x, targets, scale }: Batch, { key }: StepContext): Prediction<{ rows: Tensor }> {
  const logits = mul(matmul(dropout(key, x, 0.5), weight), scale);
  return { logits, targets, penalty: mul(sum(weight), 0.1), metrics: { rows: scalar(x.shape[0]!) } };
}

const context = (): StepContext => ({ key: key(3), step: scalar(0, { dtype: "u32" }) });

oracleTest("inTwoPasses() calls the model with two keys, and adds up what it says", async () => {
  const [weight, batch] = [wave([6, 3], 1), batchOf()];
  const [loss, metrics] = inTwoPasses(classify, { alpha: 2 })(weight, batch, context());
  const [first, second] = split(key(3)).map((key) => classify(weight, batch, { ...context(), key }));
  const expected = consistencyLoss(first!.logits, second!.logits, batch.targets, { alpha: 2 });
  const found = await read({ loss, metrics, expected: { ...expected }, penalty: first!.penalty! });
  assertClose(found.loss, [found.expected.loss[0]! + 2 * found.penalty[0]!], EXACT, "loss");
  assertClose(found.metrics.divergence, found.expected.divergence, EXACT, "divergence");
  assertClose(found.metrics.crossEntropy, found.expected.crossEntropy, EXACT, "cross-entropy");
  assert(found.metrics.divergence[0]! > 1e-3, "the passes draw different masks");
  assertEquals(found.metrics.calls.map(({ rows }) => rows[0]), [4, 4]);
});

oracleTest("inTwoPasses() calls the model once with the batch twice in a row", async () => {
  const [weight, mask] = [wave([6, 3], 1), tensor([true, true, false, true])];
  const { x, targets, scale } = batchOf();
  const predict = (weight: Tensor, batch: Batch & { readonly mask: Tensor }, context: StepContext) => ({
    ...classify(weight, batch, context),
    mask: batch.mask,
  });
  const options = { alpha: 2, passes: "together", labelSmoothing: 0.1 } as const;
  const [loss, metrics] = inTwoPasses(predict, options)(weight, { x, targets, scale, mask }, context());
  const twice = { x: concat([x, x]), targets: concat([targets, targets]), scale };
  const [first, second] = splitAxis(classify(weight, twice, context()).logits, 0, 2);
  const expected = consistencyLoss(first!, second!, targets, { alpha: 2, labelSmoothing: 0.1, mask }).loss;
  const found = await read({ loss, metrics, expected, penalty: mul(sum(weight), 0.1) });
  assertClose(found.loss, [found.expected[0]! + 2 * found.penalty[0]!], EXACT, "loss");
  assert(found.metrics.divergence[0]! > 1e-3, "the halves draw different masks");
  assertEquals(found.metrics.calls.map(({ rows }) => rows[0]), [8]);
});

for (const passes of ["separate", "together"] as const) {
  everywhere(`inTwoPasses() with ${passes} passes is a loss to train with, in micro-batches too`, async () => {
    const optimizer = sgd({ learningRate: 0.1 });
    const loss = inTwoPasses(
      (weight: Tensor, { x, targets }: Omit<Batch, "scale">, { key }: StepContext) => ({
        logits: matmul(dropout(key, x, 0.1), weight),
        targets,
      }),
      { alpha: 1, passes },
    );
    const step = trainStep({ loss, optimizer, microBatches: 2 });
    const { x, targets } = batchOf();
    let state = trainState({ params: wave([6, 3], 1), optimizer, key: key(0) });
    const losses: Tensor[] = [];
    for (let i = 0; i < 25; i++) {
      const [next, metrics] = step(state, { x, targets });
      state = next;
      losses.push(metrics.crossEntropy);
    }
    const values = (await read(losses)).map((loss) => loss[0]!);
    assert(values[24]! < 0.7 * values[0]!, `cross-entropy went from ${values[0]} to ${values[24]}`);
    assertEquals(step.traces, 1);
  });
}

oracleTest("inTwoPasses() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const options: any = { alpha: -1, labelSmoothing: 1, passes: "both" };
  const error = assertThrows(() => inTwoPasses(classify, options), ConfigError);
  assertEquals(
    error.message,
    `Cannot build inTwoPasses: 3 options are invalid
  alpha           -1      must be a number from 0 up
  labelSmoothing  1       must be a number from 0 up, below 1
  passes          "both"  must be one of separate, together`,
  );
});
