import { assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { read } from "../../src/core/realize.ts";
import type { Shape } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { cast, matmul, mul, relu, reshape } from "../../src/ops/mod.ts";
import { profile } from "../../src/gpu/profile.ts";
import { assertClose, gpuTest, withOracle } from "../support/check_primitive.ts";
import { withAdapterClass } from "../support/variants.ts";
import { compile, f32 } from "./support/compile.ts";
import { uniformTensor } from "../support/draw.ts";

const COPY = / to texture \S+ {2}\[copy\]/g;
const FILL = / to texture \S+ {2}\[\d/g;

function drawn(shape: Shape, seed: number): Tensor {
  return uniformTensor(shape, seed, { limit: 1 });
}

Deno.test("operands whose rows are multiples of 16 elements, in fours, go to textures by a copy", () => {
  const product = (x: Tensor, w: Tensor) => relu(matmul(x, w));
  for (const width of [128, 784]) {
    const copied = compile(product as never, [f32(256, width), f32(width, 256)]).toString();
    assertEquals([copied.match(COPY)?.length, copied.match(FILL)], [2, null]);
  }
  // Rows that are no multiple leave the copy to a kernel, and so do rows that have to be padded.
  const odd = compile(product as never, [f32(256, 132), f32(132, 256)]).toString();
  assertEquals([odd.match(COPY)?.length, odd.match(FILL)?.length], [1, 1]);
  assertMatch(compile(product as never, [f32(258, 128), f32(128, 256)]).toString(), / to texture 258x128 {2}\[\d/);
});

Deno.test("a reshaped operand is copied from the buffer behind it, a computed or narrow one by a kernel", () => {
  const reshaped = compile((x, w) => matmul(reshape(x!, [256, 128]), w!), [f32(4, 64, 128), f32(128, 256)]).toString();
  assertEquals(reshaped.match(COPY)?.length, 2);
  const narrow = compile(
    (x, w) => matmul(cast(x!, "f32"), w!),
    [{ shape: [256, 128], dtype: "bf16" }, f32(128, 256)],
  ).toString();
  assertMatch(narrow, / to texture 256x128 {2}\[\d/);
  assertNotMatch(narrow, / to texture 256x128 {2}\[copy\]/);
});

gpuTest("products of copied operands and their gradients are right, also in stripes and batches", async () => {
  const cases = [
    [[64, 64], [64, 128]],
    [[3, 40, 64], [3, 64, 64]],
    [[300, 64], [64, 64]],
    // Four rows share a line of the texture, and 49 do not fill one.
    [[52, 16], [16, 48]],
    [[3, 36, 16], [3, 16, 32]],
    [[600, 32], [32, 48]],
    [[49, 48], [48, 64]],
  ] as const;
  for (const [shapeA, shapeB] of cases) {
    const run = () => {
      const [product, pull] = vjp((a: Tensor, b: Tensor) => matmul(a, b), drawn(shapeA, 1), drawn(shapeB, 2));
      const [da, db] = pull(mul(product, 0.5));
      return read({ product, da, db });
    };
    const expected = await withOracle(run);
    const found = await withAdapterClass("software with textures", run, { textureSide: 129 });
    for (const name of ["product", "da", "db"] as const) {
      assertClose(found[name], expected[name], { relative: 3e-5, absolute: 3e-5 }, `${name} of ${shapeA} by ${shapeB}`);
    }
  }
});

gpuTest("a profile times copies like kernels, on either clock", async () => {
  const [a, b] = [drawn([256, 128], 1), drawn([128, 256], 2)];
  const expected = await matmul(a, b).data();
  for (const clock of ["host", "device"] as const) {
    const report = await profile(() => matmul(a, b), { clock });
    assertEquals(await report.result.data(), expected);
    for (const { ms } of report.kernels) assertEquals(Number.isFinite(ms) && ms >= 0, true);
  }
});
