import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { consistencyLoss, symmetricDivergence } from "../../src/ops/consistency_loss.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { crossEntropy } from "../../src/ops/losses.ts";
import { log } from "../../src/ops/unary.ts";
import { assertClose, checkOp, gpuTest, oracleTest } from "../support/check_primitive.ts";

/** The published numbers have six decimals. */
const PUBLISHED = { relative: 0, absolute: 1e-6 };

checkOp({
  name: "symmetricDivergence",
  fn: (first, second) => symmetricDivergence(first!, second!),
  samples: [{ inputs: [{ shape: [2, 5] }, { shape: [2, 5] }] }, { inputs: [{ shape: [3] }, { shape: [3] }] }],
});

checkOp({
  name: "consistencyLoss",
  fn: (first, second, targets, mask) => {
    const { loss, crossEntropy, divergence } = consistencyLoss(first!, second!, targets!, {
      alpha: 3,
      mask: mask!,
      labelSmoothing: 0.1,
    });
    return [loss, crossEntropy, divergence];
  },
  samples: [{
    inputs: [
      { shape: [4, 5] },
      { shape: [4, 5] },
      { shape: [4], dtype: "u32", data: [4, 0, 2, 2] },
      { shape: [4], dtype: "bool", data: [1, 0, 1, 1] },
    ],
  }],
});

/** Logits of given probabilities. */
function logitsOf(probabilities: readonly number[]): Tensor {
  return log(tensor([probabilities]));
}

async function checkPublished(): Promise<void> {
  const [p, q] = [logitsOf([0.7, 0.2, 0.1]), logitsOf([0.5, 0.3, 0.2])];
  const target = tensor([0], { dtype: "u32" });
  const first = grad((x: Tensor) => consistencyLoss(x, q, target, { alpha: 1 }).divergence)(p);
  const second = grad((x: Tensor) => consistencyLoss(p, x, target, { alpha: 1 }).divergence)(q);
  const { parts, slopes } = await read({
    parts: { ...consistencyLoss(p, q, target) },
    slopes: [first, second] as const,
  });
  assertClose(parts.divergence, [0.088578], PUBLISHED, "divergence");
  assertClose(parts.crossEntropy, [(0.356675 + 0.693147) / 2], PUBLISHED, "cross-entropy");
  assertClose(parts.loss, [1.492711], { ...PUBLISHED, absolute: 2e-6 }, "loss at alpha 5");
  assertClose(slopes[0], [0.187972, -0.099059, -0.088914], PUBLISHED, "slopes of pass 1");
  assertClose(slopes[1], [-0.207126, 0.097015, 0.110111], PUBLISHED, "slopes of pass 2");
}

oracleTest("consistencyLoss() has the published values and gradients", checkPublished);
gpuTest("consistencyLoss() has the published values and gradients", checkPublished);

async function checkUnderflow(): Promise<void> {
  const [first, second] = [tensor([[0, 300]]), tensor([[300, 0]])];
  const { divergence, slope } = await read({
    divergence: symmetricDivergence(first, second),
    slope: grad((x: Tensor) => consistencyLoss(x, second, tensor([1], { dtype: "u32" })).loss)(first),
  });
  assertClose(divergence, [300], { relative: 1e-6, absolute: 0 }, "divergence");
  assert(slope.every(Number.isFinite), `slopes are ${slope}`);
}

oracleTest("symmetricDivergence() is finite where probabilities underflow", checkUnderflow);
gpuTest("symmetricDivergence() is finite where probabilities underflow", checkUnderflow);

oracleTest(
  "consistencyLoss() without alpha is twice the cross-entropy of equal passes, and counts no masked position",
  async () => {
    const [logits, other] = [tensor([[1, 2], [3, 1]]), tensor([[1, 2], [-9, 9]])];
    const targets = tensor([1, 1], { dtype: "u32" });
    const mask = tensor([true, false]);
    const { loss, divergence } = await read({ ...consistencyLoss(logits, other, targets, { alpha: 0, mask }) });
    const single = await crossEntropy(logits, targets, { mask }).item();
    assertClose(loss, [2 * single], { relative: 1e-12, absolute: 0 }, "loss");
    assertEquals([...divergence], [0]);
    const nobody = tensor([false, false]);
    assertEquals(await consistencyLoss(logits, other, targets, { mask: nobody }).loss.item(), 0);
  },
);

oracleTest("consistencyLoss() refuses passes of different shapes and a negative alpha", () => {
  const targets = zeros([2], { dtype: "u32" });
  const error = assertThrows(() => consistencyLoss(zeros([2, 3]), zeros([2, 4]), targets), ShapeError);
  assertEquals(
    error.message,
    `Cannot compare f32[2, 3] with f32[2, 4]: the shapes differ
  op  symmetricDivergence(first, second)
Fix: pass the logits of two passes over one batch`,
  );
  assertThrows(
    () => consistencyLoss(zeros([2, 3]), zeros([2, 3]), targets, { alpha: -1 }),
    ConfigError,
    "alpha  -1  must be a number from 0 up",
  );
});
