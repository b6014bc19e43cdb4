import { assertEquals } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { cast } from "../../src/ops/cast.ts";
import { greater } from "../../src/ops/compare.ts";
import { tensor } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { clamp, where } from "../../src/ops/select.ts";
import { log } from "../../src/ops/unary.ts";
import { checkOp, gpuTest, oracleTest } from "../support/check_primitive.ts";

checkOp({
  name: "where",
  fn: where,
  samples: [
    { inputs: [{ shape: [3, 5], dtype: "bool" }, { shape: [3, 5] }, { shape: [3, 5] }] },
    { inputs: [{ shape: [4], dtype: "bool" }, { shape: [3, 1] }, { shape: [] }] },
    { inputs: [{ shape: [3, 1], dtype: "bool" }, { shape: [8] }, { shape: [3, 8] }] },
    { inputs: [{ shape: [4], dtype: "bool" }, { shape: [4], dtype: "bool" }, { shape: [4], dtype: "bool" }] },
    { inputs: [{ shape: [4], dtype: "u32" }, { shape: [4], dtype: "i32" }, { shape: [4], dtype: "i32" }] },
  ],
});

checkOp({
  name: "clamp",
  fn: (x) => clamp(x, -0.75, 1),
  samples: [{ inputs: [{ shape: [3, 5] }] }, { inputs: [{ shape: [6], dtype: "i32", range: [-3, 4] }] }],
});

checkOp({
  name: "cast to bf16 and back",
  fn: (x) => cast(cast(x, "bf16"), "f32"),
  samples: [{ inputs: [{ shape: [3, 5] }] }],
  tolerance: { relative: 4e-3, absolute: 0 },
});

for (const dtype of ["i32", "u32", "bool"] as const) {
  checkOp({
    name: `cast to ${dtype}`,
    fn: (x) => cast(x, dtype),
    samples: [
      { inputs: [{ shape: [6], data: [0, 0.4, 1.9, 2, 7.5, 100] }] },
      { inputs: [{ shape: [4], dtype: "i32", data: [0, 1, -1, 2147483647] }] },
      { inputs: [{ shape: [5], dtype: "bool" }] },
    ],
  });
}

for (const test of [oracleTest, gpuTest]) {
  test("where() gives no gradient to the element not taken", async () => {
    const f = (x: Tensor) => sum(where(greater(x, 0), log(where(greater(x, 0), x, 1)), 0));
    assertEquals([...await grad(f)(tensor([-1, 0, 2])).data()], [0, 0, 0.5]);
  });

  test("clamp() gives half of the gradient on a bound", async () => {
    const f = (x: Tensor) => sum(clamp(x, -1, 1));
    assertEquals([...await grad(f)(tensor([-2, -1, 0, 1, 2])).data()], [0, 0.5, 1, 0.5, 0]);
  });
}
