import { assertEquals, assertThrows } from "@std/assert";
import { TraceError, TreeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jvp } from "../../src/core/jvp.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { scalar, tensor } from "../../src/ops/creation.ts";
import { max } from "../../src/ops/extremum.ts";
import { prod, sum } from "../../src/ops/reduce.ts";
import { sin, square } from "../../src/ops/unary.ts";
import { assertClose, gpuTest, oracleTest, toleranceFor } from "../support/check_primitive.ts";

for (const test of [oracleTest, gpuTest]) {
  test("jvp() of grad() is the Hessian times a vector", async () => {
    const f = (x: Tensor) => sum(mul(square(x), sin(x)));
    const x = [0.3, 1.1, -0.7];
    const v = [1, -2, 0.5];
    const [, product] = jvp(grad(f), [tensor(x)], [tensor(v)]);
    const expected = x.map((x, i) => v[i]! * (2 * Math.sin(x) + 4 * x * Math.cos(x) - x * x * Math.sin(x)));
    assertClose(await product.data(), expected, toleranceFor("f32"), "H v");
  });

  test("jvp() pushes through reductions whose derivative is stated in reverse", async () => {
    const [value, tangent] = jvp((x: Tensor) => [max(x), prod(x)] as const, [tensor([2, 5, 3])], [
      tensor([1, 10, 100]),
    ]);
    assertEquals([await value[0].item(), await value[1].item()], [5, 30]);
    assertEquals([await tangent[0].item(), await tangent[1].item()], [10, 15 + 60 + 1000]);
  });
}

oracleTest("jvp() takes trees, and results that do not depend on the primals have zero tangents", async () => {
  const constant = tensor([7]);
  const [, tangent] = jvp(
    (p: { a: Tensor }, x: Tensor) => ({ y: mul(p.a, x), constant, whole: cast(x, "i32") }),
    [{ a: scalar(2) }, scalar(3)],
    [{ a: scalar(1) }, scalar(10)],
  );
  assertEquals([await tangent.y.item(), await tangent.constant.item()], [23, 0]);
  assertEquals([tangent.whole.dtype, await tangent.whole.item()], ["i32", 0]);
});

Deno.test("jvp() refuses directions of another structure", () => {
  const error = assertThrows(() => jvp(square, [tensor([1, 2])], [scalar(1)]), TreeError);
  assertEquals(error.message.split("\n")[0], "Cannot push forward: 1 leaf of tangents does not match primals");
});

Deno.test("jvp() refuses an async function", () => {
  // deno-lint-ignore require-await -- the point of the test
  const error = assertThrows(() => jvp(async (x: Tensor) => square(x), [scalar(1)], [scalar(1)]), TraceError);
  assertEquals(error.code, "trace/async");
});
