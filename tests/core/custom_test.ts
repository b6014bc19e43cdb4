import { assertEquals, assertThrows } from "@std/assert";
import { checkpoint, customVjp } from "../../src/core/custom.ts";
import { ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { jvp } from "../../src/core/jvp.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vmap } from "../../src/core/vmap.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { scalar, tensor } from "../../src/ops/creation.ts";
import { pow } from "../../src/ops/power.ts";
import { sum } from "../../src/ops/reduce.ts";
import { exp, sin, tanh } from "../../src/ops/unary.ts";
import { assertClose, gpuTest, oracleTest, toleranceFor } from "../support/check_primitive.ts";

/** x³ with a made-up reverse rule, so that a test can tell who was asked. */
const marked = customVjp((x: Tensor) => pow(x, 3), (ct, [x]) => [mul(ct, mul(x, 5))]);

for (const test of [oracleTest, gpuTest]) {
  test("customVjp() rules reverse mode in any order, and forward mode uses the function", async () => {
    assertEquals(await jit(marked)(scalar(2)).item(), 8);
    assertEquals(await jit(grad(marked))(scalar(2)).item(), 10);
    assertEquals(await grad(grad(marked))(scalar(2)).item(), 5);
    assertEquals(await jvp(marked, [scalar(2)], [scalar(1)])[1].item(), 12);
    assertEquals(await jvp(grad(marked), [scalar(2)], [scalar(1)])[1].item(), 5);
    assertEquals([...await vmap(grad(marked))(tensor([1, 2, 3])).data()], [5, 10, 15]);
  });

  test("checkpoint() changes no value and no derivative of any order", async () => {
    const f = (x: Tensor) => exp(sin(x));
    const kept = checkpoint(f);
    const x = 0.4;
    const [s, c] = [Math.sin(x), Math.cos(x)];
    const expected = [Math.exp(s), c * Math.exp(s), (c * c - s) * Math.exp(s)];
    const found = [jit(kept)(scalar(x)), jit(grad(kept))(scalar(x)), grad(grad(kept))(scalar(x))];
    const values = await Promise.all(found.map((value) => value.item()));
    assertClose(values, expected, toleranceFor("f32"), "value, slope, curvature");
  });

  test("checkpoint() gives gradients to parameters it captures", async () => {
    const f = (p: { w: Tensor; b: Tensor }, x: Tensor) => {
      const block = checkpoint((x: Tensor) => tanh(add(mul(p.w, x), p.b)));
      return sum(block(block(x)));
    };
    const plain = (p: { w: Tensor; b: Tensor }, x: Tensor) => {
      const block = (x: Tensor) => tanh(add(mul(p.w, x), p.b));
      return sum(block(block(x)));
    };
    const [p, x] = [{ w: tensor([0.5, -1.5]), b: scalar(0.25) }, tensor([1, 2])];
    const [found, expected] = [jit(grad(f))(p, x), jit(grad(plain))(p, x)];
    assertClose(await found.w.data(), await expected.w.data(), toleranceFor("f32"), "w");
    assertClose(await found.b.data(), await expected.b.data(), toleranceFor("f32"), "b");
  });
}

oracleTest("checkpoint() gives gradients to a captured tensor that it returns, and without arguments", async () => {
  const returned = grad((w: Tensor) => checkpoint((x: Tensor) => [w, x] as const)(scalar(2))[0]);
  assertEquals(await returned(scalar(3)).item(), 1);
  const without = grad((w: Tensor) => checkpoint(() => mul(w, w))());
  assertEquals(await without(scalar(3)).item(), 6);
});

oracleTest("customVjp() takes trees and treats captured tensors as constants", async () => {
  const weight = scalar(4);
  const f = customVjp(
    (p: { a: Tensor; b: Tensor }) => mul(mul(p.a, p.b), weight),
    (ct, [p], result) => [{ a: mul(ct, result), b: mul(ct, p.a) }],
  );
  const grads = grad(f)({ a: scalar(2), b: scalar(3) });
  assertEquals([await grads.a.item(), await grads.b.item()], [24, 2]);
});

Deno.test("customVjp() refuses cotangents of another shape", () => {
  const wrong = customVjp((x: Tensor) => mul(x, 2), (_, [x]) => [sum(x)]);
  const error = assertThrows(() => grad((x: Tensor) => sum(wrong(x)))(tensor([1, 2])), ShapeError);
  assertEquals(
    error.message,
    "Cannot pull back: backward gave [] for [0] of shape [2]\n  op  customVjp(f, backward)\nFix: return one cotangent for each argument, of its shape",
  );
});
