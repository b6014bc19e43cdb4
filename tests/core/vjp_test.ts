import { assertEquals, assertThrows } from "@std/assert";
import { TraceError, TreeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { mul } from "../../src/ops/binary.ts";
import { arange, scalar, tensor } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { exp, sin, square } from "../../src/ops/unary.ts";
import { gpuTest, oracleTest } from "../support/check_primitive.ts";

for (const test of [oracleTest, gpuTest]) {
  test("vjp() pulls a cotangent tree back to every argument", async () => {
    const f = (p: { a: Tensor; b: Tensor }, x: Tensor) => ({ product: mul(p.a, x), squared: square(p.b) });
    const [value, pull] = vjp(f, { a: tensor([2, 3]), b: scalar(5) }, tensor([10, 20]));
    assertEquals([...await value.product.data()], [20, 60]);
    const [p, x] = pull({ product: tensor([1, 2]), squared: scalar(3) });
    assertEquals([...await p.a.data()], [10, 40]);
    assertEquals(await p.b.item(), 30);
    assertEquals([...await x.data()], [2, 6]);
  });
}

oracleTest("vjp() may pull back many times and be differentiated through", async () => {
  const [, pull] = vjp(square, tensor([1, 2]));
  assertEquals([...await pull(tensor([1, 0]))[0].data()], [2, 0]);
  assertEquals([...await pull(tensor([0, 1]))[0].data()], [0, 4]);
  const f = (x: Tensor) => sum(vjp(square, x)[1](mul(x, x))[0]); // Σ 2x·x²
  assertEquals([...await grad(f)(tensor([1, 2])).data()], [6, 24]);
});

oracleTest("vjp() gives integer arguments cotangents of their own type", async () => {
  const [, pull] = vjp((x: Tensor, _ids: Tensor) => exp(x), scalar(0), arange(2));
  const [x, ids] = pull(scalar(1));
  assertEquals([await x.item(), ids.dtype, [...await ids.data()]], [1, "u32", [0, 0]]);
});

Deno.test("vjp() names the leaves of a cotangent that do not match the value", () => {
  const [, pull] = vjp((x: Tensor) => ({ y: sin(x) }), tensor([1, 2]));
  const error = assertThrows(() => pull({ y: scalar(1) }), TreeError);
  assertEquals(
    error.message,
    "Cannot pull back: 1 leaf of cotangent does not match value\n  value.y  f32[2], cotangent has f32[]\nFix: pass the cotangent made for these value",
  );
});

Deno.test("vjp() refuses an async function", () => {
  // deno-lint-ignore require-await -- the point of the test
  const error = assertThrows(() => vjp(async (x: Tensor) => square(x), scalar(1)), TraceError);
  assertEquals(error.message.split("\n")[0], "Cannot trace an async function in vjp");
});
