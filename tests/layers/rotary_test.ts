import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { rotary } from "../../src/layers/rotary.ts";
import { mul } from "../../src/ops/binary.ts";
import { arange, ones, tensor } from "../../src/ops/creation.ts";
import { normal } from "../../src/ops/samplers.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { assertClose, checkOp } from "../support/check_primitive.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

function at(...positions: readonly number[]): Tensor {
  return tensor(positions, { dtype: "u32" });
}

checkOp({
  name: "rotary",
  fn: (x) => rotary(x!, arange(5)),
  samples: [{ inputs: [{ shape: [5, 3, 4] }] }, { inputs: [{ shape: [2, 5, 1, 6] }] }],
});

checkOp({
  name: "rotary, own positions",
  fn: (x, positions) => rotary(x!, positions!, { base: 50 }),
  samples: [{ inputs: [{ shape: [2, 3, 1, 4] }, { shape: [2, 3], dtype: "u32", range: [0, 20] }] }],
});

oracleTest("rotary() turns pair i by position · base^(-i / half)", async () => {
  const turned = await rotary(tensor([[[1, 2, 3, 4]]]), at(7), { base: 100 }).data();
  const expected = [[1, 3, 7], [2, 4, 0.7]].map(([x, y, angle]) => [
    x! * Math.cos(angle!) - y! * Math.sin(angle!),
    y! * Math.cos(angle!) + x! * Math.sin(angle!),
  ]);
  assertClose(turned, [expected[0]![0]!, expected[1]![0]!, expected[0]![1]!, expected[1]![1]!], {
    relative: 1e-6,
    absolute: 1e-6,
  }, "turned");
});

oracleTest("rotary() leaves position 0 and every length as they are", async () => {
  const x = normal(key(1), [4, 2, 6]);
  const turned = rotary(x, arange(4));
  assertEquals((await turned.data()).slice(0, 12), (await x.data()).slice(0, 12));
  const lengths = await Promise.all([x, turned].map((y) => sum(mul(y, y), { axis: -1 }).data()));
  assertClose(lengths[1]!, lengths[0]!, { relative: 1e-6, absolute: 1e-6 }, "lengths");
});

for (const register of [oracleTest, gpuTest]) {
  register("rotary() makes products depend on distance alone, however late the position", async () => {
    const [q, k] = [normal(key(1), [1, 1, 8]), normal(key(2), [1, 1, 8])];
    async function product(first: number, second: number): Promise<number> {
      return await sum(mul(rotary(q, at(first)), rotary(k, at(second)))).item();
    }
    const near = await product(5, 2);
    assertAlmostEquals(await product(105, 102), near, 1e-5);
    assertAlmostEquals(await product(1_000_005, 1_000_002), near, 1e-5);
  });
}

Deno.test("rotary() names what does not fit", () => {
  const error = assertThrows(() => rotary(ones([5, 2, 3]), at(0, 1, 2, 3, 4)), ShapeError);
  assertEquals(
    error.message,
    [
      "Cannot rotate f32[5, 2, 3] by positions u32[5]",
      "  op  rotary(x, positions)",
      "Fix: use x [..., S, H, C] with an even C, and one position for each of S",
    ].join("\n"),
  );
  assertThrows(() => rotary(ones([5, 2, 4]), at(0, 1)), ShapeError);
});
