import { assertEquals, assertThrows } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import * as activations from "../../src/ops/activations.ts";
import { mul } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { erf, erfInv } from "../../src/ops/error_function.ts";
import { sum } from "../../src/ops/reduce.ts";
import * as unary from "../../src/ops/unary.ts";
import { assertClose, checkOp, fromGolden, goldenCases, gpuTest, oracleTest } from "../support/check_primitive.ts";

type Unary = (x: Tensor) => Tensor;

/** Each smooth op and a range inside its domain that is free of kinks and poles. */
const SMOOTH: readonly (readonly [op: Unary, low: number, high: number])[] = [
  [unary.neg, -3, 3],
  [unary.abs, 0.1, 3],
  [unary.square, -3, 3],
  [unary.reciprocal, 0.4, 3],
  [unary.sqrt, 0.2, 5],
  [unary.rsqrt, 0.3, 5],
  [unary.exp, -3, 3],
  [unary.expm1, -3, 3],
  [unary.log, 0.2, 5],
  [unary.log1p, -0.6, 5],
  [unary.sin, -3, 3],
  [unary.cos, -3, 3],
  [unary.tan, -1, 1],
  [unary.tanh, -3, 3],
  [erf, -3, 3],
  [erfInv, -0.9, 0.9],
  [activations.relu, -3, 3],
  [activations.sigmoid, -4, 4],
  [activations.silu, -4, 4],
  [activations.softplus, -4, 4],
  [activations.gelu, -3, 3],
];

for (const [op, low, high] of SMOOTH) {
  checkOp({
    name: op.name,
    fn: op,
    samples: [
      { inputs: [{ shape: [3, 5], range: [low, high] }] },
      { inputs: [{ shape: [2, 8], range: [low, high] }] },
      { inputs: [{ shape: [], range: [low, high] }] },
      { inputs: [{ shape: [0, 4], range: [low, high] }] },
      { inputs: [{ shape: [7], dtype: "bf16", range: [low, high] }] },
      { inputs: [{ shape: [2, 4], dtype: "f16", range: [low, high] }] },
    ],
  });
}

checkOp({
  name: "gelu with tanh",
  fn: (x) => activations.gelu(x, { approximate: "tanh" }),
  samples: [{ inputs: [{ shape: [3, 5], range: [-3, 3] }] }],
});

for (const op of [unary.sign, unary.floor, unary.ceil, unary.round, unary.isFinite, unary.isNaN]) {
  const data = [-2.5, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2.4, 2.5, 3.6, 100];
  checkOp({ name: op.name, fn: op, samples: [{ inputs: [{ shape: [12], data }], differentiable: false }] });
}

for (const op of [unary.neg, unary.abs, unary.sign, unary.square, unary.floor]) {
  checkOp({
    name: `${op.name} of integers`,
    fn: op,
    samples: [
      { inputs: [{ shape: [6], dtype: "i32", data: [-2147483648, -70000, -1, 0, 1, 2147483647] }] },
      { inputs: [{ shape: [4], dtype: "u32", data: [0, 1, 70000, 4294967295] }] },
    ],
  });
}

/** Places where a naive formula cancels or overflows, with the values to full precision. */
const HAZARDS: readonly (readonly [op: Unary, exact: (x: number) => number, inputs: readonly number[]])[] = [
  [unary.expm1, Math.expm1, [1e-30, -1e-7, 3e-5, 0.02, -0.49, 0.51, 88, -100]],
  [unary.log1p, Math.log1p, [1e-30, -1e-7, 3e-5, 0.02, -0.49, -0.51, 0.99, 1.01, 1e6]],
  [unary.tanh, Math.tanh, [1e-30, 1e-7, -3e-4, 0.2, 9, -40, 1000, -1e30]],
  [unary.log, Math.log, [1e-30, 0.5, 0.999, 1.0001, 1.3, 1e30]],
  [unary.exp, Math.exp, [-80, -20, -1e-6, 0.1, 20, 80]],
  [activations.sigmoid, (x) => 1 / (1 + Math.exp(-x)), [-80, -10, 0, 10, 100, 1000]],
  [activations.softplus, (x) => x > 40 ? x : Math.log1p(Math.exp(x)), [-80, -10, 0, 10, 100, 1000]],
];

/** Relative alone: an absolute tolerance would hide small results. */
const RELATIVE = { relative: 4e-6, absolute: 0 };

for (const [op, exact, inputs] of HAZARDS) {
  const rounded = inputs.map(Math.fround);
  gpuTest(`${op.name}() keeps its relative accuracy at ${inputs.join(", ")}`, async () => {
    assertClose(await op(tensor(rounded)).data(), rounded.map(exact), RELATIVE, op.name);
  });
}

gpuTest("erf() and erfInv() keep their relative accuracy", async () => {
  // Reference values of erf to 12 digits.
  const points = [1e-10, 0.5, 1, 2, 3, 10].map(Math.fround);
  const values = [1.12837916710e-10, 0.520499877813, 0.842700792950, 0.995322265019, 0.999977909503, 1];
  assertClose(await erf(tensor(points)).data(), values, { relative: 5e-7, absolute: 0 }, "erf");
  const found = await erfInv(tensor(values.slice(0, 4))).data();
  assertClose(found, points.slice(0, 4), { relative: 2e-6, absolute: 0 }, "erfInv");
});

oracleTest("erf() and erfInv() are float64 on the oracle", async () => {
  const [at1] = await erf(tensor(Float64Array.of(1))).data();
  assertClose([at1!], [0.8427007929497149], { relative: 1e-15, absolute: 0 }, "erf(1)");
  const back = await erfInv(erf(tensor(Float64Array.of(-2.5, -0.3, 1.7)))).data();
  assertClose(back, [-2.5, -0.3, 1.7], { relative: 1e-12, absolute: 0 }, "erfInv(erf(x))");
});

for (const test of [oracleTest, gpuTest]) {
  test("infinities and NaN pass through elementary functions", async () => {
    const x = tensor([-Infinity, Infinity, NaN]);
    assertEquals([...await unary.exp(x).data()], [0, Infinity, NaN]);
    assertEquals([...await unary.tanh(x).data()], [-1, 1, NaN]);
    assertEquals([...await activations.relu(x).data()], [0, Infinity, NaN]);
    assertEquals([...await erf(x).data()], [-1, 1, NaN]);
    assertEquals([...await activations.sigmoid(x).data()], [0, 1, NaN]);
    assertEquals([...await activations.softplus(x).data()], [0, Infinity, NaN]);
    assertEquals([...await unary.isNaN(x).data()], [0, 0, 1]);
    assertEquals([...await unary.isFinite(x).data()], [0, 0, 0]);
    assertEquals([...await erfInv(tensor([-1, 1, 2])).data()], [-Infinity, Infinity, NaN]);
  });
}

oracleTest("activations have the values and gradients of jax", async () => {
  const ops: Readonly<Record<string, (x: Tensor, options: never) => Tensor>> = {
    gelu: activations.gelu,
    silu: activations.silu,
    softplus: activations.softplus,
    erf,
  };
  for (const [name, op] of Object.entries(ops)) {
    const cases = await goldenCases(name);
    assertEquals(cases.length > 0, true, `fixtures of ${name}`);
    for (const { name: label, options, inputs, weights, output, gradients } of cases) {
      const x = fromGolden(inputs.x!);
      const weighted = (x: Tensor) => sum(mul(op(x, options as never), fromGolden(weights)));
      const tolerance = { relative: 1e-6, absolute: 1e-7 };
      assertClose(await op(x, options as never).data(), output.data, tolerance, label);
      assertClose(await grad(weighted)(x).data(), gradients.x!.data, tolerance, `${label}, gradient`);
    }
  }
});

Deno.test("exp() refuses integers by name", () => {
  const error = assertThrows(() => unary.exp(tensor([1, 2], { dtype: "i32" })));
  assertEquals(
    (error as Error).message,
    `Cannot apply exp to i32[2]: it needs a float tensor\n  op  exp\nFix: cast it first: cast(x, "f32")`,
  );
});
