import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { layerNorm, rmsNorm } from "../../src/ops/norm.ts";
import { checkGolden } from "../support/check_golden.ts";
import { checkOp, oracleTest } from "../support/check_primitive.ts";

checkGolden(
  "layerNorm",
  ({ x, scale, bias }, { epsilon }) => layerNorm(x!, { scale: scale!, bias: bias!, epsilon }),
  // A row of 3, 3, 3, 3.001 has the mean's rounding error, 2e-7, magnified by 300.
  { relative: 1e-4, absolute: 3e-4 },
);
checkGolden("rmsNorm", ({ x, scale }, { epsilon }) => rmsNorm(x!, { scale: scale!, epsilon }));

checkOp({
  name: "layerNorm",
  fn: (x, scale, bias) => layerNorm(x!, { scale: scale!, bias: bias! }),
  samples: [
    { inputs: [{ shape: [3, 5] }, { shape: [5] }, { shape: [5] }] },
    { inputs: [{ shape: [2, 3, 8] }, { shape: [8] }, { shape: [8] }] },
    { inputs: [{ shape: [6] }, { shape: [6] }, { shape: [6] }] },
  ],
});
checkOp({ name: "layerNorm without parameters", fn: (x) => layerNorm(x!), samples: [{ inputs: [{ shape: [3, 5] }] }] });
checkOp({
  name: "layerNorm with a bias alone",
  fn: (x, bias) => layerNorm(x!, { bias: bias! }),
  samples: [{ inputs: [{ shape: [3, 5] }, { shape: [5] }] }],
});
checkOp({
  name: "rmsNorm",
  fn: (x, scale) => rmsNorm(x!, { scale: scale! }),
  samples: [
    { inputs: [{ shape: [3, 5] }, { shape: [5] }] },
    { inputs: [{ shape: [2, 3, 8] }, { shape: [8] }] },
  ],
});
checkOp({ name: "rmsNorm without scale", fn: (x) => rmsNorm(x!), samples: [{ inputs: [{ shape: [3, 5] }] }] });
checkOp({
  name: "norms of bf16 with f32 parameters",
  fn: (x, scale) => [layerNorm(x!, { scale: scale! }), rmsNorm(x!, { scale: scale! })],
  samples: [{ inputs: [{ shape: [3, 8], dtype: "bf16" }, { shape: [8] }], differentiable: false }],
});

oracleTest("layerNorm() of a constant row is the bias, rmsNorm() of zeros is zero", async () => {
  const bias = tensor([1, 2, 3]);
  assertEquals([...await layerNorm(tensor([[7, 7, 7]]), { bias }).data()], [1, 2, 3]);
  assertEquals([...await rmsNorm(zeros([1, 3])).data()], [0, 0, 0]);
});

Deno.test("layerNorm() says which parameter does not fit", () => {
  const error = assertThrows(() => layerNorm(zeros([2, 5]), { scale: zeros([5]), bias: zeros([2]) }), ShapeError);
  assertEquals(
    error.message,
    [
      "Cannot normalize rows of 5: bias is f32[2]",
      "  op  layerNorm(x, { scale, bias })",
      "  x   f32[2, 5]",
      "Fix: bias should be [5]",
    ].join("\n"),
  );
  assertThrows(() => rmsNorm(zeros([])), ShapeError, "scalar");
  assertThrows(() => rmsNorm(zeros([2]), { epsilon: -1 }), ConfigError, "epsilon");
});
