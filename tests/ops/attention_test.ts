import { assert, assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import { sizeOf } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { type AttentionLayout, cachedAttention, causalAttention } from "../../src/ops/attention.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { sliceAxis } from "../../src/ops/slice.ts";
import { checkGolden } from "../support/check_golden.ts";
import { assertClose, checkOp, gpuTest, oracleTest, randomSource, withOracle } from "../support/check_primitive.ts";
import { ADAPTER_CLASSES, withAdapterClass } from "../support/variants.ts";

/** Sums of up to a hundred products, and exponentials of them. */
const F32 = { relative: 3e-5, absolute: 1e-5 };

checkOp({
  name: "causalAttention",
  fn: (q, k, v) => causalAttention(q!, k!, v!),
  samples: [
    { inputs: [{ shape: [2, 3, 4] }, { shape: [2, 3, 4] }, { shape: [2, 3, 4] }] },
    { inputs: [{ shape: [1, 5] }, { shape: [1, 5] }, { shape: [1, 5] }] },
  ],
  tolerance: F32,
});

checkOp({
  name: "causalAttention with heads beside each other",
  fn: (q, k, v) => causalAttention(q!, k!, v!, { layout: "rowMajor", scale: 0.7 }),
  samples: [{ inputs: [{ shape: [3, 2, 3] }, { shape: [3, 2, 3] }, { shape: [3, 2, 3] }] }],
  tolerance: F32,
});

checkOp({
  name: "causalAttention of half precision",
  fn: (q, k, v) => causalAttention(q!, k!, v!),
  samples: [{
    inputs: [{ shape: [6, 4], dtype: "bf16" }, { shape: [6, 4], dtype: "bf16" }, { shape: [6, 4], dtype: "bf16" }],
    differentiable: false,
  }],
});

checkOp({
  name: "cachedAttention",
  fn: (q, keys, values, positions) => cachedAttention(q!, keys!, values!, positions!),
  samples: [{
    inputs: [
      { shape: [2, 3, 4] },
      { shape: [2, 3, 5, 4] },
      { shape: [2, 3, 5, 4] },
      { shape: [2], dtype: "u32", data: [0, 3] },
    ],
  }],
  tolerance: F32,
});

checkGolden("attention", ({ q, k, v }) => causalAttention(q!, k!, v!), F32);

function drawn(shape: readonly number[], seed: number): Tensor {
  const random = randomSource(seed);
  return tensor(Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(-2, 2)), { shape });
}

/** Result and gradients for a random cotangent, with heads in either layout. */
async function attentionAndGradients(shape: readonly number[], layout: AttentionLayout) {
  const operands = [1, 2, 3].map((seed) => drawn(shape, seed)) as [Tensor, Tensor, Tensor];
  const [out, pull] = vjp((q: Tensor, k: Tensor, v: Tensor) => causalAttention(q, k, v, { layout }), ...operands);
  const [dq, dk, dv] = pull(drawn(shape, 4));
  return await read({ out, dq, dk, dv });
}

const LENGTHS = [1, 7, 33, 128];
const CHANNELS = [4, 7, 32, 64];

for (const adapterClass of ADAPTER_CLASSES) {
  gpuTest(`causalAttention() has right ${adapterClass} kernels for odd lengths and heads`, async () => {
    for (const [turn, length] of LENGTHS.entries()) {
      for (const layout of ["headMajor", "rowMajor"] as const) {
        // Every length and every head size in both layouts, without the whole product.
        const channels = CHANNELS[(turn + (layout === "rowMajor" ? 1 : 0)) % CHANNELS.length]!;
        const shape = layout === "rowMajor" ? [2, length, 3, channels] : [3, length, channels];
        const expected = await withOracle(() => attentionAndGradients(shape, layout));
        const found = await withAdapterClass(adapterClass, () => attentionAndGradients(shape, layout));
        for (const name of ["out", "dq", "dk", "dv"] as const) {
          assertClose(found[name], expected[name], F32, `${name} of ${layout} [${shape}]`);
        }
      }
    }
  });
}

gpuTest("causalAttention() stays exact where scores are far apart", async () => {
  const scores = (q: Tensor, k: Tensor, v: Tensor) => causalAttention(mul(q, 60), mul(k, 60), v);
  const run = () => scores(drawn([9, 8], 1), drawn([9, 8], 2), drawn([9, 8], 3)).data();
  const expected = await withOracle(run);
  // Scores of some thousands lose digits in f32, but softmax is one-hot there.
  assertClose(await run(), expected, { relative: 1e-3, absolute: 1e-3 }, "attended");
});

gpuTest("causalAttention() repeats bit for bit, and under jit", async () => {
  const loss = jit(grad((q: Tensor) => sum(mul(causalAttention(q, drawn([40, 8], 2), drawn([40, 8], 3)), q))));
  const first = await loss(drawn([40, 8], 1)).data();
  for (let run = 0; run < 3; run++) assertEquals(await loss(drawn([40, 8], 1)).data(), first);
});

gpuTest("causalAttention() differentiates twice", async () => {
  const loss = (q: Tensor) => sum(mul(causalAttention(q, drawn([5, 4], 2), drawn([5, 4], 3)), q));
  const second = () => grad((q: Tensor) => sum(mul(grad(loss)(q), drawn([5, 4], 4))))(drawn([5, 4], 1)).data();
  assertClose(await second(), await withOracle(second), F32, "second derivative");
});

gpuTest("causalAttention() needs memory in proportion to the length, forward and backward", async () => {
  const [length, channels] = [256, 8];
  const loss = (q: Tensor, k: Tensor, v: Tensor) => sum(mul(causalAttention(q, k, v), v));
  const step = jit((q: Tensor, k: Tensor, v: Tensor) => vjp(loss, q, k, v)[1](tensor(1)));
  const operands = [1, 2, 3].map((seed) => drawn([length, channels], seed)) as [Tensor, Tensor, Tensor];
  const printed = String(await step.program(...operands));
  assert(!printed.includes(`[${length}, ${length}]`), printed);
  const scratch = Number(/(\d+) bytes of scratch/.exec(printed)![1]);
  // The result, the sums of rows and a few vectors; the matrix of scores alone would be 4 · length².
  assert(scratch < 4 * length * channels * 4, printed);
});

gpuTest("causalAttention() leaves shapes its kernels do not take to small ops", async () => {
  const wide = () => attentionAndGradients([5, 132], "headMajor");
  const expected = await withOracle(wide);
  const found = await wide();
  for (const name of ["out", "dq", "dk", "dv"] as const) assertClose(found[name], expected[name], F32, name);
  assertEquals(await causalAttention(zeros([0, 4]), zeros([0, 4]), zeros([0, 4])).data(), new Float32Array(0));
});

oracleTest("causalAttention() gives both layouts the same numbers", async () => {
  const rows = [1, 2, 3].map((seed) => drawn([4, 1, 3], seed)) as [Tensor, Tensor, Tensor];
  const heads = [1, 2, 3].map((seed) => drawn([1, 4, 3], seed)) as [Tensor, Tensor, Tensor];
  assertEquals(
    await causalAttention(...rows, { layout: "rowMajor" }).data(),
    await causalAttention(...heads).data(),
  );
});

oracleTest("causalAttention() changes nothing before a token that changes", async () => {
  const [q, k, v] = [1, 2, 3].map((seed) => drawn([6, 4], seed)) as [Tensor, Tensor, Tensor];
  const whole = sliceAxis(causalAttention(q, k, v), 0, { stop: 4 });
  const [shortQ, shortK, shortV] = [q, k, v].map((x) => sliceAxis(x, 0, { stop: 4 })) as [Tensor, Tensor, Tensor];
  assertEquals(await whole.data(), await causalAttention(shortQ, shortK, shortV).data());
});

Deno.test("causalAttention() keeps the type of its operands", () => {
  const x = cast(zeros([2, 3, 4]), "bf16");
  assertEquals(causalAttention(x, x, x).dtype, "bf16");
});

Deno.test("causalAttention() names what does not fit", () => {
  const error = assertThrows(() => causalAttention(zeros([2, 3]), zeros([2, 3]), zeros([2, 4])), ShapeError);
  assertEquals(
    error.message,
    [
      "Cannot attend: queries, keys and values need one shape [..., S, C]",
      "  op  causalAttention(q, k, v)",
      "  q   f32[2, 3]",
      "  k   f32[2, 3]",
      "  v   f32[2, 4]",
      "Fix: project all three to the same number of heads and channels",
    ].join("\n"),
  );
  const options = { layout: "rowMajor" } as const;
  assertThrows(
    () => causalAttention(zeros([2, 3]), zeros([2, 3]), zeros([2, 3]), options),
    ShapeError,
    "[..., S, H, C]",
  );
  const half = cast(zeros([2, 3]), "bf16");
  assertThrows(() => causalAttention(zeros([2, 3]), half, half), DTypeError, "need one type");
  const whole = cast(half, "i32");
  assertThrows(() => causalAttention(whole, whole, whole), DTypeError, "needs a float tensor");
});
