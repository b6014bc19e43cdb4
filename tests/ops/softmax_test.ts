import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { logSoftmax, softmax } from "../../src/ops/softmax.ts";
import { checkGolden } from "../support/check_golden.ts";
import { checkOp, oracleTest } from "../support/check_primitive.ts";

checkGolden("softmax", ({ x }, { axis }) => softmax(x!, { axis }));
checkGolden("logSoftmax", ({ x }, { axis }) => logSoftmax(x!, { axis }));

const SAMPLES = [{ inputs: [{ shape: [3, 5] }] }, { inputs: [{ shape: [2, 3, 8] }] }, { inputs: [{ shape: [1] }] }];

checkOp({ name: "softmax", fn: (x) => softmax(x!), samples: SAMPLES });
checkOp({ name: "softmax over axis 0", fn: (x) => softmax(x!, { axis: 0 }), samples: SAMPLES });
checkOp({ name: "logSoftmax", fn: (x) => logSoftmax(x!), samples: SAMPLES });
checkOp({ name: "logSoftmax over axis 0", fn: (x) => logSoftmax(x!, { axis: 0 }), samples: SAMPLES });
checkOp({
  name: "softmax of bf16",
  fn: (x) => [softmax(x!), logSoftmax(x!)],
  samples: [{ inputs: [{ shape: [3, 8], dtype: "bf16" }], differentiable: false }],
});
checkOp({
  name: "softmax of masked scores",
  fn: (x) => [softmax(x!), logSoftmax(x!)],
  samples: [{
    inputs: [{ shape: [2, 3], data: [1, -Infinity, 2, -Infinity, -Infinity, -Infinity] }],
    differentiable: false,
  }],
});

oracleTest("softmax() of a row that is all masked is zero, with gradient zero", async () => {
  const masked = tensor([-Infinity, -Infinity]);
  const gradient = grad((x: Tensor) => sum(softmax(x)))(masked);
  const [value, pulled, logarithm] = await read([softmax(masked), gradient, logSoftmax(masked)] as const);
  assertEquals([...value, ...pulled], [0, 0, 0, 0]);
  assertEquals([...logarithm], [-Infinity, -Infinity]);
});

Deno.test("softmax() refuses integers and axes that do not exist", () => {
  assertThrows(() => softmax(zeros([2], { dtype: "i32" })), DTypeError, "softmax");
  assertThrows(() => logSoftmax(zeros([2]), { axis: 1 }), ShapeError, "axis 1");
});
