import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { gather, oneHot, take, takeAlong } from "../../src/ops/gather.ts";
import { checkOp, gpuTest, oracleTest } from "../support/check_primitive.ts";

function places(
  shape: readonly number[],
  high: number,
): { shape: readonly number[]; dtype: "u32"; range: [number, number] } {
  return { shape, dtype: "u32", range: [0, high] };
}

checkOp({
  name: "take",
  fn: (x, indices) => take(x!, indices!),
  samples: [
    { inputs: [{ shape: [5, 3] }, places([4], 5)] },
    { inputs: [{ shape: [5, 8] }, places([2, 3], 5)] },
    { inputs: [{ shape: [5] }, places([7], 9)] },
    { inputs: [{ shape: [5, 2], dtype: "i32" }, places([3], 5)] },
    { inputs: [{ shape: [5, 4] }, places([], 5)] },
  ],
});
checkOp({
  name: "take on the middle axis",
  fn: (x, indices) => take(x!, indices!, { axis: 1 }),
  samples: [{ inputs: [{ shape: [2, 5, 3] }, places([4, 2], 5)] }],
});
checkOp({
  name: "takeAlong",
  fn: (x, indices) => takeAlong(x!, indices!),
  samples: [
    { inputs: [{ shape: [3, 8] }, places([3, 2], 8)] },
    { inputs: [{ shape: [3, 5] }, places([1, 4], 7)] },
    { inputs: [{ shape: [2, 3] }, places([2, 40], 3)] },
  ],
});
checkOp({
  name: "takeAlong on axis 0",
  fn: (x, indices) => takeAlong(x!, indices!, { axis: 0 }),
  samples: [{ inputs: [{ shape: [5, 3] }, places([2, 3], 5)] }],
});
checkOp({
  name: "gather",
  fn: (x, indices) => gather(x!, indices!),
  samples: [
    { inputs: [{ shape: [3, 4, 5] }, places([7, 2], 5)] },
    { inputs: [{ shape: [3, 4] }, places([2, 3, 2], 5)] },
    { inputs: [{ shape: [3, 4] }, places([2, 0], 1)] },
  ],
});
checkOp({
  name: "oneHot",
  fn: (indices) => oneHot(indices, 4),
  samples: [{ inputs: [places([3, 2], 6)] }],
});

async function checkClamping(): Promise<void> {
  const x = tensor([10, 20, 30]);
  const indices = tensor([-7, 0, 99], { dtype: "i32" });
  assertEquals([...await take(x, indices).data()], [10, 10, 30]);
  assertEquals([...await takeAlong(x, indices).data()], [10, 10, 30]);
  assertEquals([...await oneHot(indices, 2, "u32").data()], [0, 0, 1, 0, 0, 0]);
}
oracleTest("take() clamps indices, oneHot() gives zeros for them", checkClamping);
gpuTest("take() clamps indices, oneHot() gives zeros for them", checkClamping);

oracleTest("take() refuses fractions and empty axes", () => {
  assertThrows(() => take(zeros([3]), zeros([1])), DTypeError, "as indices in take");
  assertThrows(() => take(zeros([0, 2]), zeros([1], { dtype: "u32" })), ShapeError, "axis 0 is empty");
  assertEquals(take(zeros([0, 2]), zeros([0], { dtype: "u32" })).shape, [0, 2]);
});

oracleTest("takeAlong() and gather() refuse shapes that do not fit", () => {
  assertThrows(() => takeAlong(zeros([2, 3]), zeros([3, 1], { dtype: "u32" })), ShapeError, "along axis 1");
  assertThrows(() => gather(zeros([2]), zeros([5, 2], { dtype: "u32" })), ShapeError, "names 2 coordinates");
});
