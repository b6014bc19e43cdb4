import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { keepGreatest, topKFeedForward } from "../../src/layers/top_k_feed_forward.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { checkLayer } from "../support/check_layer.ts";
import { checkOp } from "../support/check_primitive.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

checkLayer({
  layer: topKFeedForward({ width: 3, k: 2, inner: 7, bias: true }),
  name: "topKFeedForward(3 -> 7, 2 kept)",
  params: { ".up.weight": "f32[3, 7]", ".up.bias": "f32[7]", ".down.weight": "f32[7, 3]", ".down.bias": "f32[3]" },
  inputs: [{ shape: [2, 5, 3] }],
});

// More than 16 elements are found by sorting.
checkOp({ name: "keepGreatest", fn: (x) => keepGreatest(x, 17), samples: [{ inputs: [{ shape: [3, 21] }] }] });

const ROW = [0.5, 0, 2, 1, 1, 0, 0.3];

async function checkExample(): Promise<void> {
  assertEquals([...await keepGreatest(tensor(ROW), 2).data()], [0, 0, 2, 1, 1, 0, 0]); // three, because of a tie
  const slope = grad((x: Tensor) => sum(square(keepGreatest(x, 2))))(tensor(ROW));
  assertEquals([...await slope.data()], [0, 0, 4, 2, 2, 0, 0]);
  // Five are above 0: a threshold of 0 lets all pass.
  assertClose(await keepGreatest(tensor(ROW), 6).data(), ROW, { relative: 1e-7, absolute: 0 }, "all");
}
oracleTest("keepGreatest() has the values of the published example", checkExample);
gpuTest("keepGreatest() has the values of the published example", checkExample);

oracleTest("keepGreatest() does not hide NaN", async () => {
  assertEquals([...await keepGreatest(tensor([3, NaN, 2, 1]), 1).data()], [3, NaN, 0, 0]);
});

oracleTest("topKFeedForward() equals a loop over positions, and keeps all with k = inner", async () => {
  const [width, inner, count] = [4, 9, 6];
  const dense = feedForward({ width, inner, activation: "relu" });
  const params = dense.init(key(2));
  const rows = Array.from({ length: count }, (_, t) => [...randomSource(t).normals(width).map(Math.fround)]);
  const [up, down] = [await params.up.weight.data(), await params.down.weight.data()];
  const expected = rows.flatMap((row) => {
    const values = Array.from(
      { length: inner },
      (_, f) => Math.max(0, row.reduce((total, x, d) => total + x * up[d * inner + f]!, 0)),
    );
    const threshold = values.toSorted((a, b) => b - a)[2]!;
    return row.map((_, d) =>
      values.reduce((total, value, f) => total + (value >= threshold ? value * down[f * width + d]! : 0), 0)
    );
  });
  const sparse = topKFeedForward({ width, inner, k: 3 });
  assertClose(await sparse.apply(params, tensor(rows)).data(), expected, { relative: 1e-9, absolute: 1e-9 }, "loop");
  const all = topKFeedForward({ width, inner, k: inner });
  const output = [...await dense.apply(params, tensor(rows)).data()];
  assertEquals([...await all.apply(params, tensor(rows)).data()], output);
});

oracleTest("topKFeedForward() drops inner values before it finds the greatest", async () => {
  const layer = topKFeedForward({ width: 2, inner: 8, k: 1, dropout: 0.5 });
  const params = {
    up: { weight: tensor([[1, 2, 3, 4, 5, 6, 7, 8], new Array(8).fill(0)]) },
    down: { weight: tensor(Array.from({ length: 8 }, () => [1, 0])) },
  };
  const x = tensor(Array.from({ length: 40 }, () => [1, 0]));
  const outputs = [...await layer.apply(params, x, { key: key(0), train: true }).data()].filter((_, i) => i % 2 === 0);
  // Where all of 8, 7, … were dropped, the next one is kept, and scaled by 1 / (1 - rate).
  const places = new Set(outputs);
  assertEquals(outputs.every((value) => Number.isInteger(value / 2) && value <= 16), true);
  assertEquals(places.has(16) && places.has(14), true);
  assertEquals((await layer.apply(params, x).data())[0], 8);
  assertThrows(() => layer.apply(params, zeros([1, 2]), { train: true }), ConfigError, "draws at random");
});

Deno.test("topKFeedForward() tells all that is wrong with its options", () => {
  assertEquals(
    assertThrows(() => topKFeedForward({ width: 2, k: 9 }), ConfigError).message,
    `Cannot build topKFeedForward: 1 option is invalid
  k  9  must be a whole number in 1..8 (inner is 8)`,
  );
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 0, k: 0, inner: 1.5, bias: 1, dropout: 1, scale: -1, activation: "relu" };
  assertEquals(
    assertThrows(() => topKFeedForward(wrong), ConfigError).message,
    `Cannot build topKFeedForward: 7 options are invalid
  width       0       must be a whole number from 1 up
  k           0       must be a whole number from 1 up
  inner       1.5     must be a whole number from 1 up
  bias        1       must be true or false
  dropout     1       must be a number from 0 up, below 1
  scale       -1      must be a number from 0 up
  activation  "relu"  unknown option; the options are width, k, inner, bias, dropout, scale, outputScale`,
  );
});
