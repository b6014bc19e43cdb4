import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError, TraceError, TreeError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { jvp } from "../../src/core/jvp.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vmap } from "../../src/core/vmap.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { scalar, tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { gpuTest, oracleTest } from "../support/check_primitive.ts";

for (const test of [oracleTest, gpuTest]) {
  test("vmap() maps, shares and nests", async () => {
    const outer = vmap(vmap((a: Tensor, b: Tensor) => mul(a, b), [null, 0]), [0, null]);
    const product = jit(outer)(tensor([1, 2]), tensor([3, 4, 5]));
    assertEquals(product.shape, [2, 3]);
    assertEquals([...await product.data()], [3, 4, 5, 6, 8, 10]);
  });

  test("vmap() maps any axis, and results have the batch first", async () => {
    const x = tensor([[1, 2, 3], [4, 5, 6]]);
    assertEquals([...await vmap((column: Tensor) => sum(square(column)), [1])(x).data()], [17, 29, 45]);
    assertEquals([...await vmap((column: Tensor) => column, [-1])(x).data()], [1, 4, 2, 5, 3, 6]);
  });

  test("vmap() decides by branch of an argument", async () => {
    const f = (p: { w: Tensor; parts: readonly [Tensor, Tensor] }) => add(mul(p.w, p.parts[0]), p.parts[1]);
    const found = vmap(f, [{ w: null, parts: [0, 1] }])({
      w: scalar(10),
      parts: [tensor([1, 2]), tensor([[3, 4]])],
    });
    assertEquals([...await found.data()], [13, 24]);
  });
}

oracleTest("vmap() repeats results that do not depend on the batch", async () => {
  const constant = tensor([7, 8]);
  const found = vmap((x: Tensor) => ({ x, constant }))(zeros([3]));
  assertEquals([...await found.constant.data()], [7, 8, 7, 8, 7, 8]);
});

oracleTest("vmap() of jvp() batches tangents", async () => {
  const push = vmap((v: Tensor) => jvp(square, [tensor([1, 2])], [v])[1]);
  assertEquals([...await push(tensor([[1, 0], [0, 1], [1, 1]])).data()], [2, 0, 0, 4, 2, 4]);
});

oracleTest("vmap() takes an empty batch", async () => {
  const found = vmap((row: Tensor) => sum(row))(zeros([0, 3]));
  assertEquals([found.shape, (await found.data()).length], [[0], 0]);
});

Deno.test("vmap() refuses sizes that differ, and nothing to map", () => {
  const different = assertThrows(() => vmap(add)(zeros([2]), zeros([3])), ShapeError);
  assertEquals(
    different.message,
    "Cannot vmap: mapped axes have different sizes, 2 and 3\n  [0]  f32[2] axis 0\n  [1]  f32[3] axis 0\nFix: map axes of one size; share an argument with null in inAxes",
  );
  const nothing = assertThrows(() => vmap(square, [null])(zeros([2])), ShapeError);
  assertEquals(nothing.message.split("\n")[0], "Cannot vmap: no argument is mapped");
  const missing = assertThrows(() => vmap(square, [1])(zeros([2])), ShapeError);
  assertEquals(missing.message.split("\n")[0], "Cannot map axis 1 of f32[2]");
});

Deno.test("vmap() refuses inAxes that do not cover the tree", () => {
  const f = (p: { a: Tensor; b: Tensor }) => add(p.a, p.b);
  const error = assertThrows(() => vmap(f, [{ a: 0 }])({ a: zeros([2]), b: zeros([2]) }), TreeError);
  assertEquals(error.message.split("\n")[0], "Cannot map an argument: inAxes says nothing about .b");
});

Deno.test("vmap() refuses an async function", () => {
  // deno-lint-ignore require-await -- the point of the test
  const error = assertThrows(() => vmap(async (x: Tensor) => square(x))(zeros([2])), TraceError);
  assertEquals(error.code, "trace/async");
});
