import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { roundTo as nearest } from "../../src/core/dtype.ts";
import { DTypeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { arange, tensor } from "../../src/ops/creation.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { roundTo } from "../../src/ops/round_to.ts";
import { sum } from "../../src/ops/reduce.ts";
import { checkOp } from "../support/check_primitive.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

checkOp({
  name: "roundTo",
  fn: (x) => roundTo(x, "bf16"),
  // Differences would find steps.
  samples: [{ inputs: [{ shape: [3, 5] }], differentiable: false }],
});

/** Ordinary numbers, ties between two bf16 to either side, and the ends of the range. */
const NUMBERS = [
  ...Array.from(randomSource(1).normals(40), Math.fround),
  1 + 2 ** -8,
  1 + 3 * 2 ** -8,
  -1 - 2 ** -8,
  0,
  3e38,
  -65000,
  Infinity,
  -Infinity,
  NaN,
];

async function checkNumbers(dtype: "bf16" | "f16"): Promise<void> {
  const numbers = dtype === "bf16" ? NUMBERS : NUMBERS.filter((value) => Math.abs(value) < 65504);
  const expected = numbers.map((value) => nearest(dtype, value));
  const alone = roundTo(tensor(numbers), dtype);
  assertEquals(alone.dtype, dtype);
  // Arithmetic in the same kernel sees the rounded number too.
  const { stored, used } = await read({ stored: alone, used: add(cast(roundTo(tensor(numbers), dtype), "f32"), 0.5) });
  assertEquals([...stored], expected);
  assertEquals([...used], expected.map((value) => Math.fround(value + 0.5)));
}

const hasF16 = (await navigator.gpu?.requestAdapter())?.features.has("shader-f16") ?? false;

oracleTest("roundTo() gives the nearest number, ties to even", async () => {
  await checkNumbers("bf16");
  await checkNumbers("f16");
});
gpuTest("roundTo() gives the nearest number, ties to even", async () => {
  await checkNumbers("bf16");
  if (hasF16) await checkNumbers("f16");
});

oracleTest("roundTo() passes gradients as they are, and leaves a tensor of the type alone", async () => {
  const weights = tensor([1.0001, -2.0002]);
  const slope = grad((x: Tensor) => sum(mul(cast(roundTo(x, "bf16"), "f32"), weights)))(tensor([0.3, 0.7]));
  assertEquals([...await slope.data()], [...await weights.data()]);
  const narrow = cast(tensor([1]), "bf16");
  assertEquals(roundTo(narrow, "bf16"), narrow);
});

gpuTest("roundTo() stores the narrow type for kernels that read it", () => {
  const program = jit((x: Tensor, y: Tensor) => matmul(cast(roundTo(x, "bf16"), "f32"), y)).program(
    tensor(new Float32Array(64 * 64), { shape: [64, 64] }),
    tensor(new Float32Array(64 * 64), { shape: [64, 64] }),
  );
  assertStringIncludes(program, "bf16[64, 64]");
  assertStringIncludes(program, "2 dispatches");
});

Deno.test("roundTo() refuses integers", () => {
  assertThrows(() => roundTo(arange(3), "bf16"), DTypeError);
});
