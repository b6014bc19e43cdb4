import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { cumsum } from "../../src/ops/cumsum.ts";
import { sum } from "../../src/ops/reduce.ts";
import {
  assertClose,
  checkOp,
  fromGolden,
  goldenCases,
  gpuTest,
  oracleTest,
  toleranceFor,
} from "../support/check_primitive.ts";

for (const reverse of [false, true]) {
  for (const exclusive of [false, true]) {
    checkOp({
      name: `cumsum${reverse ? ", reverse" : ""}${exclusive ? ", exclusive" : ""}`,
      fn: (x) => [cumsum(x, { reverse, exclusive }), cumsum(x, { axis: 0, reverse, exclusive })],
      samples: [
        { inputs: [{ shape: [3, 5] }] },
        { inputs: [{ shape: [2, 4, 3] }] },
        { inputs: [{ shape: [1] }] },
        { inputs: [{ shape: [3, 0] }] },
        { inputs: [{ shape: [5, 4], dtype: "i32", range: [-9, 9] }] },
        { inputs: [{ shape: [4, 3], dtype: "bool" }] },
        { inputs: [{ shape: [6], dtype: "bf16" }] },
      ],
    });
  }
}

oracleTest("cumsum() has the values and gradients of jax", async () => {
  for (const { name, options, inputs, weights, output, gradients } of await goldenCases("cumsum")) {
    const x = fromGolden(inputs.x!);
    const f = (x: Tensor) => cumsum(x, { axis: options.axis });
    assertClose(await f(x).data(), output.data, toleranceFor("f32"), name);
    const gradient = grad((x: Tensor) => sum(mul(f(x), fromGolden(weights))))(x);
    assertClose(await gradient.data(), gradients.x!.data, toleranceFor("f32"), name);
  }
});

// 70,001 is past what one invocation may loop over on the software adapter.
for (const [outer, length, inner] of [[1, 70_001, 1], [3, 1000, 2], [2, 257, 1]] as const) {
  gpuTest(`cumsum() of lines of ${length} is exact in integers`, async () => {
    const values = Uint32Array.from({ length: outer * length * inner }, (_, i) => (i * 2654435761) % 97);
    const x = tensor(values, { shape: [outer, length, inner] });
    for (const reverse of [false, true]) {
      const expected = new Uint32Array(values.length);
      for (let line = 0; line < outer * inner; line++) {
        let total = 0;
        for (let i = 0; i < length; i++) {
          const place = reverse ? length - 1 - i : i;
          const at = (Math.floor(line / inner) * length + place) * inner + line % inner;
          expected[at] = total;
          total += values[at]!;
        }
      }
      assertEquals(await cumsum(x, { axis: 1, reverse, exclusive: true }).data(), expected);
    }
  });
}

gpuTest("cumsum() is the same bit for bit every time", async () => {
  const values = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i));
  const [once, again] = [await cumsum(tensor(values)).data(), await cumsum(tensor(values)).data()];
  assertEquals(once, again);
});

Deno.test("cumsum() refuses a scalar", () => {
  assertEquals(assertThrows(() => cumsum(zeros([])), ShapeError).code, "shape/axis");
});
