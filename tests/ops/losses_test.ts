import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { crossEntropy, meanSquaredError } from "../../src/ops/losses.ts";
import { checkGolden } from "../support/check_golden.ts";
import { assertClose, checkOp, EXACT, gpuTest, oracleTest, toleranceFor } from "../support/check_primitive.ts";

checkGolden("crossEntropy", ({ x, labels }, { reduction }) => crossEntropy(x!, labels!, { reduction }));

const TARGETS = { shape: [3], dtype: "u32", data: [4, 0, 2] } as const;

checkOp({
  name: "crossEntropy",
  fn: (logits, targets) => crossEntropy(logits!, targets!, { reduction: "none" }),
  samples: [
    { inputs: [{ shape: [3, 5] }, TARGETS] },
    { inputs: [{ shape: [2, 3, 8] }, { shape: [2, 3], dtype: "i32" }] },
    { inputs: [{ shape: [5] }, { shape: [], dtype: "u32" }] },
  ],
});
checkOp({
  name: "crossEntropy with label smoothing",
  fn: (logits, targets) => crossEntropy(logits!, targets!, { labelSmoothing: 0.1 }),
  samples: [{ inputs: [{ shape: [3, 5] }, TARGETS] }],
});
checkOp({
  name: "crossEntropy with a mask",
  fn: (logits, targets, mask) => crossEntropy(logits!, targets!, { mask: mask! }),
  samples: [{ inputs: [{ shape: [3, 5] }, TARGETS, { shape: [3], dtype: "bool", data: [1, 0, 1] }] }],
});
checkOp({
  name: "crossEntropy of bf16",
  fn: (logits, targets) => crossEntropy(logits!, targets!),
  samples: [{ inputs: [{ shape: [3, 8], dtype: "bf16" }, TARGETS], differentiable: false }],
});
checkOp({
  name: "meanSquaredError",
  fn: (a, b) => [
    meanSquaredError(a!, b!),
    meanSquaredError(a!, b!, { reduction: "sum" }),
    meanSquaredError(a!, b!, { reduction: "none" }),
  ],
  samples: [{ inputs: [{ shape: [3, 5] }, { shape: [5] }] }],
});

oracleTest("crossEntropy() with label smoothing is the cross-entropy with the smoothed distribution", async () => {
  const logits = [0.3, -1.2, 2];
  const [smoothed] = await read(
    [crossEntropy(tensor([logits]), tensor([2], { dtype: "u32" }), { labelSmoothing: 0.3 })] as const,
  );
  const total = Math.log(logits.reduce((sum, value) => sum + Math.exp(value), 0));
  const expected = [0.1, 0.1, 0.8].reduce((sum, share, i) => sum + share * (total - Math.fround(logits[i]!)), 0);
  assertClose(smoothed, [expected], toleranceFor("f32"), "loss");
});

oracleTest("crossEntropy() gives masked positions neither loss nor gradient, and a mean over none is 0", async () => {
  const logits = tensor([[1, 2], [Infinity, Infinity]]);
  const targets = tensor([1, 0], { dtype: "u32" });
  const mask = tensor([true, false]);
  const losses = crossEntropy(logits, targets, { mask, reduction: "none" });
  const none = crossEntropy(logits, targets, { mask: tensor([false, false]) });
  const gradient = grad((x: Tensor) => crossEntropy(x, targets, { mask, reduction: "sum" }))(tensor([[1, 2], [3, 4]]));
  const found = await read({ losses, none, gradient });
  assertEquals([found.losses[1], found.none[0]], [0, 0]);
  assertClose(found.gradient.slice(2), [0, 0], EXACT, "gradient");
});

for (const test of [gpuTest, oracleTest]) {
  test("crossEntropy() gives a position without any possible class no gradient where a mask drops it", async () => {
    const logits = tensor([[1, 2], [-Infinity, -Infinity]]);
    const [targets, mask] = [tensor([1, 0], { dtype: "u32" }), tensor([true, false])];
    const gradient = await grad((x: Tensor) => crossEntropy(x, targets, { mask }))(logits).data();
    const likely = 1 / (1 + Math.exp(-1));
    assertClose(gradient, [1 - likely, likely - 1, 0, 0], toleranceFor("f32"), "gradient");
  });

  test("crossEntropy() has exact gradients of logits that are large or far apart", async () => {
    const logits = tensor([[1000, 1001, 0], [-1e5, 1e5, 1e5]]);
    const targets = tensor([0, 1], { dtype: "u32" });
    const gradient = await grad((x: Tensor) => crossEntropy(x, targets, { reduction: "sum" }))(logits).data();
    const likely = 1 / (1 + Math.exp(-1));
    assertClose(gradient, [-likely, likely, 0, 0, -0.5, 0.5], toleranceFor("f32"), "gradient");
  });
}

Deno.test("crossEntropy() says what does not fit", () => {
  const error = assertThrows(() => crossEntropy(zeros([2, 5]), zeros([3], { dtype: "u32" })), ShapeError);
  assertEquals(
    error.message,
    [
      "Cannot take the cross-entropy: targets u32[3] do not fit logits f32[2, 5]",
      "  op  crossEntropy(logits, targets)",
      "Fix: give one target index for each row of logits; classes are the last axis",
    ].join("\n"),
  );
  const targets = zeros([2], { dtype: "u32" });
  assertThrows(() => crossEntropy(zeros([2, 5]), zeros([2])), DTypeError, "indices");
  assertThrows(() => crossEntropy(zeros([2, 5]), targets, { mask: zeros([1], { dtype: "bool" }) }), ShapeError, "mask");
  assertThrows(() => crossEntropy(zeros([2, 5]), targets, { labelSmoothing: 1 }), ConfigError, "labelSmoothing");
});
