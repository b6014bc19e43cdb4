import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { arange, zeros } from "../../src/ops/creation.ts";
import { broadcastTo, moveAxis, reshape, squeeze, swapAxes, transpose, unsqueeze } from "../../src/ops/view.ts";
import { checkOp, oracleTest } from "../support/check_primitive.ts";

const block = { shape: [2, 3, 5] };

checkOp({ name: "reshape", fn: (x) => reshape(x, [5, -1]), samples: [{ inputs: [block] }] });
checkOp({ name: "transpose", fn: (x) => transpose(x, [1, 2, 0]), samples: [{ inputs: [block] }] });
checkOp({
  name: "transpose, last axis kept",
  fn: (x) => transpose(x, [1, 0, 2]),
  samples: [{ inputs: [{ shape: [2, 3, 8] }] }, { inputs: [{ shape: [2, 3, 8], dtype: "bool" }] }],
});
checkOp({
  name: "broadcastTo",
  fn: (x) => broadcastTo(x, [2, 3, 8]),
  samples: [{ inputs: [{ shape: [3, 1] }] }, { inputs: [{ shape: [8] }] }, { inputs: [{ shape: [] }] }],
});
checkOp({
  name: "squeeze and unsqueeze",
  fn: (x) => squeeze(unsqueeze(x, [0, -1]), { axis: -1 }),
  samples: [{ inputs: [{ shape: [3, 1, 5] }] }],
});

oracleTest("reshape() fills in one size", () => {
  assertEquals(reshape(zeros([2, 6]), [3, -1]).shape, [3, 4]);
  assertEquals(reshape(zeros([2, 6]), [-1]).shape, [12]);
  assertEquals(reshape(zeros([0, 6]), [-1, 6]).shape, [0, 6]);
});

oracleTest("reshape() refuses a size that does not follow", () => {
  assertThrows(() => reshape(zeros([2, 6]), [5, -1]), ShapeError, "no single size makes 12 elements");
  assertThrows(() => reshape(zeros([2, 6]), [-1, -1]), ShapeError);
  assertThrows(() => reshape(zeros([2, 6]), [5]), ShapeError, "12 elements, not 5");
});

oracleTest("transpose() reverses the axes by default", async () => {
  const turned = transpose(reshape(arange(6), [2, 3]));
  assertEquals(turned.shape, [3, 2]);
  assertEquals([...await turned.data()], [0, 3, 1, 4, 2, 5]);
});

oracleTest("transpose() refuses an order that leaves an axis out", () => {
  assertThrows(() => transpose(zeros([2, 3]), [0]), ShapeError, "it has 2 axes");
  assertThrows(() => transpose(zeros([2, 3]), [0, 0]), ShapeError, "named twice");
});

oracleTest("swapAxes() and moveAxis() reorder as they say", () => {
  const x = zeros([2, 3, 5, 7]);
  assertEquals(swapAxes(x, 0, -1).shape, [7, 3, 5, 2]);
  assertEquals(moveAxis(x, 0, -1).shape, [3, 5, 7, 2]);
  assertEquals(moveAxis(x, -1, 1).shape, [2, 7, 3, 5]);
});

oracleTest("broadcastTo() refuses to stretch an axis that is not 1", () => {
  assertThrows(() => broadcastTo(zeros([2, 3]), [2, 4]), ShapeError, "only axes of size 1 stretch");
  assertThrows(() => broadcastTo(zeros([2, 3]), [3]), ShapeError);
});

oracleTest("squeeze() drops what is named, or every axis of size 1", () => {
  assertEquals(squeeze(zeros([1, 3, 1])).shape, [3]);
  assertEquals(squeeze(zeros([1, 3, 1]), { axis: 0 }).shape, [3, 1]);
  assertThrows(() => squeeze(zeros([1, 3]), { axis: 1 }), ShapeError, "its size is 3");
});
