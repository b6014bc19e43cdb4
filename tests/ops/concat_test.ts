import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { arange, eye, full, tensor, zeros } from "../../src/ops/creation.ts";
import { concat, splitAxis, stack } from "../../src/ops/concat.ts";
import { mul } from "../../src/ops/binary.ts";
import { checkOp, gpuTest, oracleTest } from "../support/check_primitive.ts";

checkOp({
  name: "concat",
  fn: (a, b, c) => concat([a!, b!, c!], { axis: 1 }),
  samples: [
    { inputs: [{ shape: [2, 3] }, { shape: [2, 1] }, { shape: [2, 5] }] },
    { inputs: [{ shape: [2, 4] }, { shape: [2, 8] }, { shape: [2, 4] }] },
    { inputs: [{ shape: [2, 1, 4] }, { shape: [2, 2, 4] }, { shape: [2, 0, 4] }] },
  ],
});
checkOp({
  name: "stack",
  fn: (a, b) => stack([a!, b!], { axis: -1 }),
  samples: [{ inputs: [{ shape: [2, 3] }, { shape: [2, 3] }] }],
});
checkOp({
  name: "splitAxis",
  fn(x) {
    const [a, b] = splitAxis(x, 1, [3, 5]);
    return [mul(a!, 2), b!];
  },
  samples: [{ inputs: [{ shape: [2, 8] }] }],
});
checkOp({
  name: "concat of many",
  fn: (x) => concat(Array.from({ length: 15 }, (_, i) => mul(x, i + 1))),
  samples: [{ inputs: [{ shape: [2, 3] }] }],
});

gpuTest("concat() joins single elements made from their place", async () => {
  assertEquals([...await concat([full([1, 1], 7), eye(1)]).data()], [7, 1]);
});

oracleTest("concat() promotes types", () => {
  assertEquals(concat([arange(2), tensor([0.5])]).dtype, "f32");
});

oracleTest("concat() refuses what does not fit", () => {
  assertThrows(() => concat([zeros([2, 3]), zeros([3, 3])], { axis: 1 }), ShapeError, "along axis 1");
  assertThrows(() => concat([]), ShapeError, "to no tensors");
});

oracleTest("splitAxis() takes a count or sizes", () => {
  assertEquals(splitAxis(zeros([2, 6]), -1, 3).map(({ shape }) => shape), [[2, 2], [2, 2], [2, 2]]);
  assertEquals(splitAxis(zeros([6]), 0, [6, 0]).map(({ shape }) => shape), [[6], [0]]);
  assertThrows(() => splitAxis(zeros([6]), 0, 4), ShapeError, "into 4 equal parts");
  assertThrows(() => splitAxis(zeros([6]), 0, [1, 2]), ShapeError, "into parts of size 1, 2");
  assertThrows(() => splitAxis(zeros([6]), 0, 0), ShapeError);
});
