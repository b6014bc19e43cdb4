import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { matmul, type MatmulOptions } from "../../src/ops/matmul.ts";
import { assertClose, checkOp, gpuTest, oracleTest, toleranceFor, withOracle } from "../support/check_primitive.ts";

checkOp({
  name: "matmul",
  fn: (a, b) => matmul(a!, b!),
  samples: [
    { inputs: [{ shape: [3, 5] }, { shape: [5, 4] }] },
    { inputs: [{ shape: [3, 5] }, { shape: [5, 7] }] },
    { inputs: [{ shape: [5] }, { shape: [5] }] },
    { inputs: [{ shape: [5] }, { shape: [5, 3] }] },
    { inputs: [{ shape: [2, 3, 5] }, { shape: [5] }] },
    { inputs: [{ shape: [2, 3, 5] }, { shape: [5, 4] }] },
    { inputs: [{ shape: [3, 5] }, { shape: [2, 5, 4] }] },
    { inputs: [{ shape: [2, 3, 5] }, { shape: [2, 5, 4] }] },
    { inputs: [{ shape: [2, 1, 3, 2] }, { shape: [3, 2, 4] }] },
    { inputs: [{ shape: [1, 3, 2] }, { shape: [2, 1, 2, 4] }] },
    { inputs: [{ shape: [1, 1] }, { shape: [1, 1] }] },
    { inputs: [{ shape: [3, 0] }, { shape: [0, 2] }], differentiable: false },
  ],
});

const TRANSPOSED: readonly MatmulOptions[] = [
  { transposeA: true },
  { transposeB: true },
  { transposeA: true, transposeB: true },
];

for (const options of TRANSPOSED) {
  const { transposeA = false, transposeB = false } = options;
  const matrixA = transposeA ? [5, 3] : [3, 5];
  const matrixB = transposeB ? [4, 5] : [5, 4];
  checkOp({
    name: `matmul with ${Object.keys(options).join(" and ")}`,
    fn: (a, b) => matmul(a!, b!, options),
    samples: [
      { inputs: [{ shape: matrixA }, { shape: matrixB }] },
      { inputs: [{ shape: [2, ...matrixA] }, { shape: matrixB }] },
      { inputs: [{ shape: matrixA }, { shape: [2, ...matrixB] }] },
      { inputs: [{ shape: [2, ...matrixA] }, { shape: [2, ...matrixB] }] },
    ],
  });
}

checkOp({
  name: "matmul of half precision",
  fn: (a, b) => matmul(a!, b!),
  samples: [
    { inputs: [{ shape: [3, 8], dtype: "bf16" }, { shape: [8, 4], dtype: "bf16" }], differentiable: false },
    { inputs: [{ shape: [3, 8], dtype: "f32" }, { shape: [8, 3], dtype: "bf16" }], differentiable: false },
  ],
});

gpuTest("matmul() splits an inner dimension longer than an invocation may loop", async () => {
  const inner = 70001;
  const values = Float32Array.from({ length: inner }, (_, i) => (i % 7) - 3);
  function product(): Tensor {
    return matmul(tensor(values, { shape: [1, inner] }), tensor(values, { shape: [inner, 1] }));
  }
  const expected = await withOracle(() => product().data());
  assertClose(await product().data(), expected, toleranceFor("f32"), "product");
});

oracleTest("matmul() of an empty inner dimension is zero", async () => {
  const product = matmul(zeros([2, 0]), zeros([0, 3]));
  assertEquals(product.shape, [2, 3]);
  const [data] = await read([product] as const);
  assertEquals([...data], [0, 0, 0, 0, 0, 0]);
});

Deno.test("matmul() gives the wider of two float types", () => {
  assertEquals(matmul(zeros([2, 3], { dtype: "bf16" }), zeros([3, 2])).dtype, "f32");
  assertEquals(matmul(zeros([2, 3], { dtype: "bf16" }), zeros([3, 2], { dtype: "bf16" })).dtype, "bf16");
});

Deno.test("matmul() names both inner dimensions and the shape that fits", () => {
  const error = assertThrows(() => matmul(zeros([7, 2, 3]), zeros([4, 5])), ShapeError);
  assertEquals(
    error.message,
    [
      "Cannot multiply: inner dimensions differ, 3 and 4",
      "  op  matmul(a, b)",
      "  a   f32[7, 2, 3]",
      "  b   f32[4, 5]",
      "Fix: b should be [..., 3, 5]",
    ].join("\n"),
  );
});

Deno.test("matmul() suggests transposeB where that fits", () => {
  const error = assertThrows(() => matmul(zeros([2, 3]), zeros([5, 3])), ShapeError);
  assertEquals(error.message.split("\n").at(-1), "Fix: b fits the other way round: pass { transposeB: true }");
});

Deno.test("matmul() refuses scalars, integers and batches that do not broadcast", () => {
  assertThrows(() => matmul(zeros([]), zeros([3])), ShapeError, "a is a scalar");
  assertThrows(() => matmul(zeros([2, 3], { dtype: "i32" }), zeros([3, 2])), DTypeError, "need float tensors");
  assertThrows(() => matmul(zeros([2, 3, 4]), zeros([3, 4, 5])), ShapeError, "Cannot broadcast");
});
