import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jvp } from "../../src/core/jvp.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { ones, tensor, zeros } from "../../src/ops/creation.ts";
import { all, any, argmax, argmin, max, min } from "../../src/ops/extremum.ts";
import { logSumExp, mean, prod, sum, variance } from "../../src/ops/reduce.ts";
import { assertClose, checkOp, fromGolden, type GoldenCase, goldenCases } from "../support/check_primitive.ts";
import { type GoldenTensor, gpuTest, oracleTest, readGolden, toleranceFor } from "../support/check_primitive.ts";

for (const op of [sum, mean, max, min, prod, logSumExp, variance]) {
  const samples = [
    { inputs: [{ shape: [3, 5] }] },
    { inputs: [{ shape: [2, 8] }] },
    { inputs: [{ shape: [7, 1] }] },
    { inputs: [{ shape: [5, 3], dtype: "bf16" }] },
    { inputs: [{ shape: [3, 4], dtype: "f16" }] },
  ] as const;
  checkOp({ name: `${op.name} over all`, fn: (x) => op(x), samples });
  checkOp({ name: `${op.name} over axis 0`, fn: (x) => op(x, { axis: 0 }), samples });
  checkOp({ name: `${op.name} over the last axis`, fn: (x) => op(x, { axis: -1, keepDims: true }), samples });
  checkOp({
    name: `${op.name} over two of three axes`,
    fn: (x) => op(x, { axis: [2, 0] }),
    samples: [{ inputs: [{ shape: [2, 3, 4] }] }, { inputs: [{ shape: [3, 4, 1] }] }],
  });
}

for (const op of [sum, max, min, prod]) {
  checkOp({
    name: `${op.name} of integers`,
    fn: (x) => op(x, { axis: 1 }),
    samples: [
      { inputs: [{ shape: [3, 5], dtype: "i32", range: [-9, 10] }] },
      { inputs: [{ shape: [2, 3], dtype: "u32", data: [0xffffffff, 7, 2, 3, 0xfffffff0, 1] }] },
    ],
  });
}

for (const op of [any, all]) {
  checkOp({
    name: op.name,
    fn: (x) => [op(x), op(x, { axis: 0 }), op(x, { axis: 1, keepDims: true })],
    samples: [{ inputs: [{ shape: [3, 4], dtype: "bool" }] }, {
      inputs: [{ shape: [2, 3], data: [0, 0, 0, 1, -1, 2] }],
    }],
  });
}

for (const op of [argmax, argmin]) {
  checkOp({
    name: op.name,
    fn: (x) => [op(x), op(x, { axis: 0 }), op(x, { axis: -1, keepDims: true })],
    samples: [
      { inputs: [{ shape: [3, 5] }] },
      { inputs: [{ shape: [4, 8], dtype: "i32" }] },
      { inputs: [{ shape: [2, 3], dtype: "bool" }] },
    ],
  });
}

for (const test of [oracleTest, gpuTest]) {
  test("reductions have the values and gradients of jax", async () => {
    const ops: Readonly<Record<string, (x: Tensor, options: { axis?: number }) => Tensor>> = {
      max,
      min,
      prod,
      logSumExp,
    };
    for (const [name, op] of Object.entries(ops)) {
      const cases: readonly GoldenCase[] = await goldenCases(name);
      assertEquals(cases.length > 0, true, `fixtures of ${name}`);
      for (const { name: label, options, inputs, weights, output, gradients } of cases) {
        const x = fromGolden(inputs.x!);
        const reduced = (x: Tensor) => op(x, options.axis === null ? {} : { axis: options.axis });
        assertClose(await reduced(x).data(), output.data, toleranceFor("f32"), label);
        const found = grad((x: Tensor) => sum(mul(reduced(x), fromGolden(weights))))(x);
        assertClose(await found.data(), gradients.x!.data, toleranceFor("f32"), `${label}, gradient`);
      }
    }
  });

  test("argmax() gives ties to the lowest index, as jax does", async () => {
    const { indices } = await readGolden<
      { indices: readonly { op: string; options: { axis: number }; x: GoldenTensor; indices: GoldenTensor }[] }
    >("ops.json");
    for (const { options, x, indices: expected } of indices.filter(({ op }) => op === "argmax")) {
      assertEquals([...await argmax(fromGolden(x), { axis: options.axis }).data()], [...expected.data]);
    }
  });

  test("max() and argmax() find NaN", async () => {
    const x = tensor([[1, NaN, 3, NaN, 0], [1, 2, -Infinity, 0, 2]]);
    assertEquals([...await max(x, { axis: 1 }).data()], [NaN, 2]);
    assertEquals([...await min(x, { axis: 1 }).data()], [NaN, -Infinity]);
    assertEquals([...await argmax(x, { axis: 1 }).data()], [1, 1]);
    assertEquals([...await argmin(x, { axis: 1 }).data()], [1, 2]);
  });

  test("reductions of nothing have neutral elements", async () => {
    const x = zeros([3, 0]);
    assertEquals([...await sum(x, { axis: 1 }).data()], [0, 0, 0]);
    assertEquals([...await prod(x, { axis: 1 }).data()], [1, 1, 1]);
    assertEquals([...await mean(x, { axis: 1 }).data()], [NaN, NaN, NaN]);
    assertEquals([...await variance(x, { axis: 1 }).data()], [NaN, NaN, NaN]);
    assertEquals([...await logSumExp(x, { axis: 1 }).data()], [-Infinity, -Infinity, -Infinity]);
    assertEquals([...await any(x, { axis: 1 }).data()], [0, 0, 0]);
    assertEquals([...await all(x, { axis: 1 }).data()], [1, 1, 1]);
    assertEquals((await sum(x, { axis: 0 }).data()).length, 0);
  });

  test("logSumExp() of rows that are all -Infinity has no NaN in its derivatives", async () => {
    const x = tensor([[-Infinity, -Infinity], [0, 0], [-Infinity, 3]]);
    const f = (x: Tensor) => logSumExp(x, { axis: 1 });
    assertClose(await f(x).data(), [-Infinity, Math.LN2, 3], toleranceFor("f32"), "value");
    const gradient = await grad((x: Tensor) => sum(f(x)))(x).data();
    assertClose(gradient, [0, 0, 0.5, 0.5, 0, 1], toleranceFor("f32"), "gradient");
    const [, tangent] = jvp(f, [x], [ones([3, 2])]);
    assertClose(await tangent.data(), [0, 1, 1], toleranceFor("f32"), "tangent");
  });

  test("variance() keeps its accuracy beside a large mean", async () => {
    const x = tensor([10000, 10001, 10002]);
    assertClose([await variance(x).item()], [2 / 3], toleranceFor("f32"), "population");
    assertClose([await variance(x, { correction: 1 }).item()], [1], toleranceFor("f32"), "sample");
  });

  test("prod() has second derivatives with two zeros", async () => {
    const hessianDiagonal = grad((x: Tensor) => sum(grad((y: Tensor) => prod(y))(x)));
    assertEquals([...await hessianDiagonal(tensor([2, 0, 3])).data()], [3, 5, 2]);
    assertEquals([...await hessianDiagonal(tensor([2, 0, 0])).data()], [0, 2, 2]);
  });

  test("sum() and mean() of booleans count", async () => {
    const flags = tensor([true, false, true, true]);
    assertEquals([sum(flags).dtype, await sum(flags).item()], ["u32", 3]);
    assertEquals([mean(flags).dtype, await mean(flags).item()], ["f32", 0.75]);
  });
}

gpuTest("sum() and max() of long axes agree with the definition", async () => {
  const length = 200_003;
  const values = Float32Array.from({ length }, (_, i) => ((i * 7919) % 1000) / 1000 - 0.3);
  const exact = values.reduce((total, value) => total + value, 0);
  assertClose([await sum(tensor(values)).item()], [exact], toleranceFor("f32", 500), "sum");
  values[123_457] = 5;
  assertEquals(await max(tensor(values)).item(), 5);
  assertEquals(await argmax(tensor(values)).item(), 123_457);
});

Deno.test("max() refuses an empty axis", () => {
  const error = assertThrows(() => max(zeros([3, 0]), { axis: 1 }), ShapeError);
  assertEquals(
    error.message,
    "Cannot take the max of f32[3, 0] over axis 1: the axis is empty\n  op  max(x, { axis })\nFix: reduce an axis with at least one element",
  );
  assertEquals(max(zeros([3, 0]), { axis: 0 }).shape, [0]);
});

Deno.test("sum() refuses an axis that does not exist or is named twice", () => {
  assertEquals(
    assertThrows(() => sum(zeros([2, 3]), { axis: 2 }), ShapeError).message,
    "Cannot use axis 2: the tensor has rank 2\n  op  sum\nFix: use an axis in -2..1",
  );
  assertEquals(
    assertThrows(() => sum(zeros([2, 3]), { axis: [1, -1] }), ShapeError).message,
    "Cannot use axes [1, 1]: an axis is named twice\n  op  sum\nFix: name each axis once",
  );
});

Deno.test("max() refuses booleans", () => {
  assertEquals(assertThrows(() => max(tensor([true])), DTypeError).code, "dtype/numeric");
});

for (const test of [gpuTest, oracleTest]) {
  test("sums and products of integers wrap around their type", async () => {
    const unsigned = tensor([4_294_967_295, 2, 4_294_967_295], { dtype: "u32" });
    assertEquals(await sum(unsigned).item(), 0);
    assertEquals(await prod(tensor([65_537, 65_537, 65_537], { dtype: "u32" })).item(), 196_609);
    const signed = tensor([2_147_483_647, 1, -5], { dtype: "i32" });
    assertEquals(await sum(signed).item(), 2_147_483_643);
    assertEquals([...await sum(tensor([[2_147_483_647], [1]], { dtype: "i32" }), { axis: 0 }).data()], [
      -2_147_483_648,
    ]);
  });
}
