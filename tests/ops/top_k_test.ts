import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { mul } from "../../src/ops/binary.ts";
import { sum } from "../../src/ops/reduce.ts";
import { topK } from "../../src/ops/top_k.ts";
import {
  checkOp,
  fromGolden,
  type GoldenTensor,
  gpuTest,
  oracleTest,
  randomSource,
  readGolden,
} from "../support/check_primitive.ts";

checkOp({
  name: "topK",
  fn(x) {
    const { values, indices } = topK(x, 2);
    return [values, indices];
  },
  samples: [
    { inputs: [{ shape: [3, 8] }] },
    { inputs: [{ shape: [2, 2, 5] }] },
    { inputs: [{ shape: [9], dtype: "i32", range: [-2, 3] }] },
    { inputs: [{ shape: [5, 9], dtype: "u32", range: [0, 3] }] },
    { inputs: [{ shape: [5, 8], dtype: "f16" }], differentiable: false },
  ],
});
checkOp({
  name: "topK by sorting",
  fn(x) {
    const { values, indices } = topK(x, 17);
    return [values, indices];
  },
  samples: [{ inputs: [{ shape: [2, 40] }] }],
});

async function checkGolden(): Promise<void> {
  const { indices: cases } = await readGolden<{
    indices: readonly {
      op: string;
      options: { k: number };
      x: GoldenTensor;
      values: GoldenTensor;
      indices: GoldenTensor;
    }[];
  }>("ops.json");
  const golden = cases.find(({ op }) => op === "topK")!;
  const { values, indices } = await read(topK(fromGolden(golden.x), golden.options.k));
  assertEquals([...values], golden.values.data);
  assertEquals([...indices], golden.indices.data);
}
oracleTest("topK() agrees with jax", checkGolden);
gpuTest("topK() agrees with jax", checkGolden);

async function checkSpecial(): Promise<void> {
  const x = tensor([[-Infinity, 1, NaN, 1], [-Infinity, -Infinity, -Infinity, -Infinity]]);
  const { indices } = await read(topK(x, 4));
  assertEquals([...indices], [1, 3, 0, 2, 0, 1, 2, 3]);
  const whole = await read(topK(tensor([0, 0, 0xffffffff], { dtype: "u32" }), 3));
  assertEquals([...whole.indices], [2, 0, 1]);
  assertEquals(topK(x, 0).values.shape, [2, 0]);
}
oracleTest("topK() takes all elements, infinities among them, NaN last", checkSpecial);
gpuTest("topK() takes all elements, infinities among them, NaN last", checkSpecial);

gpuTest("topK() agrees with a sort for long rows and large k", async () => {
  for (const [length, k] of [[1001, 16], [20_000, 3], [500, 100]] as const) {
    const random = randomSource(length);
    const values = Float32Array.from({ length }, () => Math.round(random.uniform(-1, 1) * length));
    const expected = Array.from({ length }, (_, i) => i).sort((a, b) => values[b]! - values[a]! || a - b).slice(0, k);
    assertEquals([...await topK(tensor(values), k).indices.data()], expected);
  }
});

oracleTest("topK() sends the gradient of its values to the elements taken", async () => {
  const slope = grad((x: Tensor) => sum(mul(topK(x, 2).values, tensor([1, 10]))));
  assertEquals([...await slope(tensor([3, 1, 7])).data()], [10, 0, 1]);
});

oracleTest("topK() refuses k out of range", () => {
  assertThrows(() => topK(zeros([2, 3]), 4), ConfigError, "Cannot take the 4 greatest of 3 elements");
  assertThrows(() => topK(zeros([2, 3]), 1.5), ConfigError);
  assertThrows(() => topK(zeros([]), 1), ShapeError, "it has no axis");
});
