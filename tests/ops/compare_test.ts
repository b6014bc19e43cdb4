import { assertEquals } from "@std/assert";
import * as compare from "../../src/ops/compare.ts";
import { tensor } from "../../src/ops/creation.ts";
import { checkOp, gpuTest, oracleTest } from "../support/check_primitive.ts";

const { equal, notEqual, less, lessEqual, greater, greaterEqual, logicalAnd, logicalOr, logicalXor } = compare;

for (const op of [equal, notEqual, less, lessEqual, greater, greaterEqual]) {
  const [a, b] = [[1, 2, 3, -1, 0, 5, 5, 2], [2, 2, 1, -1, 1, 5, 4, 3]];
  checkOp({
    name: op.name,
    fn: op,
    samples: [
      { inputs: [{ shape: [8], data: a }, { shape: [8], data: b }] },
      { inputs: [{ shape: [2, 4], dtype: "i32", data: a }, { shape: [], dtype: "i32", data: [2] }] },
      { inputs: [{ shape: [5], dtype: "bool" }, { shape: [5], dtype: "bool" }] },
      {
        inputs: [{ shape: [2], dtype: "u32", data: [0xffffffff, 1] }, {
          shape: [2],
          dtype: "u32",
          data: [1, 0xffffffff],
        }],
      },
    ],
  });
}

for (const op of [logicalAnd, logicalOr, logicalXor]) {
  checkOp({
    name: op.name,
    fn: op,
    samples: [
      { inputs: [{ shape: [2, 4], dtype: "bool" }, { shape: [4], dtype: "bool" }] },
      { inputs: [{ shape: [4], data: [0, 1, 0, -2] }, { shape: [4], dtype: "u32", data: [0, 0, 3, 3] }] },
    ],
  });
}
checkOp({
  name: "logicalNot",
  fn: compare.logicalNot,
  samples: [{ inputs: [{ shape: [5], dtype: "bool" }] }, { inputs: [{ shape: [3], data: [0, 1, -2] }] }],
});

for (const test of [oracleTest, gpuTest]) {
  test("comparisons with NaN are false, and orderings agree with IEEE", async () => {
    const [a, b] = [tensor([NaN, 1, Infinity]), tensor([1, NaN, Infinity])];
    assertEquals([...await less(a, b).data()], [0, 0, 0]);
    assertEquals([...await greater(a, b).data()], [0, 0, 0]);
    assertEquals([...await lessEqual(a, b).data()], [0, 0, 1]);
    assertEquals([...await greaterEqual(a, b).data()], [0, 0, 1]);
    assertEquals([...await equal(a, b).data()], [0, 0, 1]);
  });
}

Deno.test("comparisons give bool tensors of the broadcast shape", () => {
  const found = less(tensor([[1], [2]]), tensor([1, 2, 3]));
  assertEquals([found.shape, found.dtype], [[2, 3], "bool"]);
});
