import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import * as binary from "../../src/ops/binary.ts";
import * as bitwise from "../../src/ops/bitwise.ts";
import { tensor } from "../../src/ops/creation.ts";
import { pow } from "../../src/ops/power.ts";
import { sum } from "../../src/ops/reduce.ts";
import { checkOp, gpuTest, oracleTest } from "../support/check_primitive.ts";

const { add, sub, mul, div, maximum, minimum, remainder, atan2 } = binary;

for (const op of [add, sub, mul, div, maximum, minimum, remainder, atan2, pow]) {
  const positive = { range: [0.5, 3] } as const;
  checkOp({
    name: op.name,
    fn: op,
    samples: [
      { inputs: [{ shape: [3, 5], ...positive }, { shape: [3, 5], ...positive }] },
      { inputs: [{ shape: [2, 1, 4], ...positive }, { shape: [3, 1], ...positive }] },
      { inputs: [{ shape: [], ...positive }, { shape: [8], ...positive }] },
      { inputs: [{ shape: [0, 3], ...positive }, { shape: [3], ...positive }] },
      // Ranges apart: so few numbers are bf16 that a tie, and with it a kink, would be likely.
      { inputs: [{ shape: [5], dtype: "bf16", range: [0.5, 1.5] }, { shape: [5], dtype: "bf16", range: [1.6, 3] }] },
    ],
  });
}

for (const op of [add, sub, mul, div, maximum, minimum, remainder]) {
  const i32 = { shape: [8], dtype: "i32" } as const;
  const u32 = { shape: [6], dtype: "u32" } as const;
  checkOp({
    name: `${op.name} of integers`,
    fn: op,
    samples: [
      {
        inputs: [
          { ...i32, data: [7, -7, 7, -7, 0, 2147483647, -2147483648, 5] },
          { ...i32, data: [2, 2, -2, -2, 3, 2147483647, 3, 0] },
        ],
      },
      {
        inputs: [{ ...u32, data: [7, 0, 4294967295, 65537, 3, 9] }, { ...u32, data: [2, 5, 2, 65537, 4294967295, 0] }],
      },
    ],
  });
}

const { bitwiseAnd, bitwiseOr, bitwiseXor, shiftLeft, shiftRight } = bitwise;
for (const op of [bitwiseAnd, bitwiseOr, bitwiseXor, shiftLeft, shiftRight]) {
  const words = [0, 1, 0xdeadbeef, 0x80000000, 0xffffffff, 12345];
  checkOp({
    name: op.name,
    fn: op,
    samples: [
      {
        inputs: [{ shape: [6], dtype: "u32", data: words }, { shape: [6], dtype: "u32", data: [5, 31, 13, 1, 0, 32] }],
      },
      {
        inputs: [
          { shape: [4], dtype: "i32", data: [-1, -2147483648, 77, -77] },
          { shape: [4], dtype: "i32", data: [3, 31, 2, 1] },
        ],
      },
    ],
  });
}
checkOp({
  name: "bitwiseNot",
  fn: bitwise.bitwiseNot,
  samples: [{ inputs: [{ shape: [3], dtype: "u32", data: [0, 1, 0xdeadbeef] }] }],
});

for (const exponent of [0, 1, 2, 3, 7, -1, -2, 0.5, -0.5, 2.5]) {
  checkOp({
    name: `pow to ${exponent}`,
    fn: (x) => pow(x, exponent),
    samples: [{ inputs: [{ shape: [2, 3], range: [0.4, 2] }] }],
  });
}

for (const test of [oracleTest, gpuTest]) {
  test("pow() covers zero, negative bases and whole exponents", async () => {
    const base = tensor([0, 0, -2, -2, -2, 3]);
    const exponent = tensor([0, 2, 3, 2, 0.5, -1]);
    const found = [...await pow(base, exponent).data()].map((value) => Math.round(value * 1000) / 1000);
    assertEquals(found, [1, 0, -8, 4, NaN, 0.333]);
    assertEquals([...await pow(tensor([-3, 2], { dtype: "i32" }), 5).data()], [-243, 32]);
  });

  test("pow() has finite gradients at a base of zero", async () => {
    const gradient = (exponent: number) => grad((x: Tensor) => sum(pow(x, tensor([exponent]))))(tensor([0])).item();
    assertEquals([await gradient(0), await gradient(1), await gradient(2)], [0, 1, 0]);
    assertEquals(await grad((e: Tensor) => sum(pow(tensor([0]), e)))(tensor([2])).item(), 0);
  });

  test("maximum() and minimum() pass NaN on and split the gradient of a tie", async () => {
    const [a, b] = [tensor([1, NaN, 2, NaN]), tensor([NaN, 1, 3, NaN])];
    assertEquals([...await maximum(a, b).data()], [NaN, NaN, 3, NaN]);
    assertEquals([...await minimum(a, b).data()], [NaN, NaN, 2, NaN]);
    for (const op of [maximum, minimum]) {
      const f = (x: Tensor, y: Tensor) => sum(op(x, y));
      const [x, y] = [tensor([2, 1, 3]), tensor([2, 3, 1])];
      const isMaximum = op === maximum;
      assertEquals([...await grad(f)(x, y).data()], isMaximum ? [0.5, 0, 1] : [0.5, 1, 0]);
      assertEquals([...await grad(f, { argument: 1 })(x, y).data()], isMaximum ? [0.5, 1, 0] : [0.5, 0, 1]);
    }
  });

  test("remainder() has the divisor's sign", async () => {
    const found = await remainder(tensor([5, -5, 5, -5, 6, 7.5]), tensor([3, 3, -3, -3, 3, 2])).data();
    assertEquals([...found], [2, 1, -1, -2, 0, 1.5]);
  });

  test("a number takes the type of the tensor beside it, and a fraction makes integers f32", async () => {
    const counts = tensor([1, 2], { dtype: "u32" });
    assertEquals(add(counts, 1).dtype, "u32");
    assertEquals(mul(counts, 0.5).dtype, "f32");
    assertEquals([...await mul(counts, 0.5).data()], [0.5, 1]);
    assertEquals(add(tensor([true, false]), 1).dtype, "i32");
  });
}

Deno.test("add() names the axis that does not broadcast", () => {
  const error = assertThrows(() => add(tensor([1, 2, 3]), tensor([1, 2])), ShapeError);
  assertEquals(
    error.message,
    "Cannot broadcast: axis -1 is 3 in one operand and 2 in the other\n  op  add\n  a   [3]\n  b   [2]\nFix: make the sizes equal, or make one of them 1",
  );
});

Deno.test("mul() refuses two boolean tensors", () => {
  const error = assertThrows(() => mul(tensor([true]), tensor([false])), DTypeError);
  assertEquals(error.code, "dtype/numeric");
  assertEquals(
    error.message,
    `Cannot apply mul to two boolean tensors, bool[1] after broadcasting\n  op  mul\nFix: use logicalAnd, logicalOr or logicalXor, or cast to "u32" first`,
  );
});

Deno.test("bitwiseAnd() refuses floats", () => {
  const error = assertThrows(() => bitwiseAnd(tensor([1]), tensor([2])), DTypeError);
  assertEquals(error.code, "dtype/integer");
});
