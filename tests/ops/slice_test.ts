import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { arange, tensor, zeros } from "../../src/ops/creation.ts";
import { flip, pad, slice, sliceAxis, type SliceRange } from "../../src/ops/slice.ts";
import { reshape } from "../../src/ops/view.ts";
import { checkOp, oracleTest } from "../support/check_primitive.ts";

checkOp({
  name: "slice",
  fn: (x) => slice(x, [{ start: 1 }, null, { start: -2, stop: 0, step: -2 }]),
  samples: [{ inputs: [{ shape: [3, 2, 7] }] }, { inputs: [{ shape: [3, 2, 7], dtype: "bool" }] }],
});
checkOp({
  name: "slice, in fours",
  fn: (x) => slice(x, [{ step: 2 }, { start: 4, stop: 12 }]),
  samples: [{ inputs: [{ shape: [5, 16] }] }],
});
checkOp({ name: "slice, one element", fn: (x) => slice(x, [-1, 2]), samples: [{ inputs: [{ shape: [3, 5] }] }] });
checkOp({ name: "flip", fn: (x) => flip(x, { axis: [0, -1] }), samples: [{ inputs: [{ shape: [3, 2, 5] }] }] });
checkOp({
  name: "pad",
  fn: (x) => pad(x, [[1, 0], 2, [0, 3, 2]]),
  samples: [{ inputs: [{ shape: [2, 3, 5] }] }, { inputs: [{ shape: [2, 3, 5], dtype: "i32" }] }],
});
checkOp({
  name: "pad, in fours",
  fn: (x) => pad(x, [[0, 1], [4, 8]]),
  samples: [{ inputs: [{ shape: [3, 8] }] }],
});
checkOp({
  name: "pad, with a value",
  fn: (x) => pad(x, [[1, 2]], { value: -Infinity }),
  samples: [{ inputs: [{ shape: [3] }], differentiable: false }],
});

/** Python's range of `start:stop:step` over n elements. */
function pythonRange(n: number, { start, stop, step = 1 }: SliceRange): number[] {
  const fold = (place: number) => place < 0 ? place + n : place;
  const found: number[] = [];
  if (step > 0) {
    for (let i = Math.max(0, fold(start ?? 0)); i < Math.min(n, stop === undefined ? n : fold(stop)); i += step) {
      found.push(i);
    }
  } else {
    const end = stop === undefined ? -1 : Math.max(-1, fold(stop));
    for (let i = Math.min(n - 1, start === undefined ? n - 1 : fold(start)); i > end; i += step) found.push(i);
  }
  return found;
}

oracleTest("slice() takes the range Python takes", async () => {
  const places = [undefined, -9, -5, -2, 0, 1, 3, 5, 9];
  for (const start of places) {
    for (const stop of places) {
      for (const step of [1, 2, 3, -1, -2, -7]) {
        const range = {
          ...(start === undefined ? {} : { start }),
          ...(stop === undefined ? {} : { stop }),
          step,
        };
        assertEquals([...await slice(arange(5), [range]).data()], pythonRange(5, range), JSON.stringify(range));
      }
    }
  }
});

oracleTest("slice() drops an axis for a number and keeps what has no entry", () => {
  assertEquals(slice(zeros([2, 3, 5]), [1]).shape, [3, 5]);
  assertEquals(slice(zeros([2, 3, 5]), [null, -1, { stop: 2 }]).shape, [2, 2]);
  assertEquals(sliceAxis(zeros([2, 3, 5]), -1, { start: 1 }).shape, [2, 3, 4]);
});

oracleTest("slice() refuses what does not exist", () => {
  assertThrows(() => slice(zeros([2, 3]), [2]), ShapeError, "Cannot pick element 2 on axis 0 of f32[2, 3]");
  assertThrows(() => slice(zeros([2]), [{ step: 0 }]), ShapeError, "step is 0");
  assertThrows(() => slice(zeros([2]), [null, null]), ShapeError, "2 ranges for 1 axes");
});

oracleTest("pad() surrounds with zeros or a value", async () => {
  assertEquals([...await pad(tensor([1, 2]), [[0, 1, 2]]).data()], [1, 0, 0, 2, 0]);
  assertEquals([...await pad(tensor([Infinity]), [1], { value: 7 }).data()], [7, Infinity, 7]);
  assertEquals([...await pad(tensor([true]), [1], { value: 1 }).data()], [1, 1, 1]);
  assertThrows(() => pad(zeros([2]), [-1]), ShapeError, "each a whole number from 0 up");
  assertThrows(() => pad(zeros([2]), []), ShapeError);
});

oracleTest("flip() reverses every axis by default", async () => {
  assertEquals([...await flip(reshape(arange(4), [2, 2])).data()], [3, 2, 1, 0]);
});
