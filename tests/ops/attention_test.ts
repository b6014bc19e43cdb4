import { assert, assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { type AttentionLayout, cachedAttention, causalAttention } from "../../src/ops/attention.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { sliceAxis } from "../../src/ops/slice.ts";
import { checkGolden } from "../support/check_golden.ts";
import { assertClose, checkOp, gpuTest, oracleTest, toleranceFor, withOracle } from "../support/check_primitive.ts";
import { TEXTURE_CLASSES, withAdapterClass } from "../support/variants.ts";
import { uniformTensor } from "../support/draw.ts";

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

/** Result and gradients for a random cotangent, with heads in either layout. */
async function attentionAndGradients(
  shape: readonly number[],
  layout: AttentionLayout,
  dtype: "f32" | "bf16" = "f32",
) {
  const operands = [1, 2, 3].map((seed) => uniformTensor(shape, seed, { dtype })) as [Tensor, Tensor, Tensor];
  const [out, pull] = vjp((q: Tensor, k: Tensor, v: Tensor) => causalAttention(q, k, v, { layout }), ...operands);
  const [dq, dk, dv] = pull(uniformTensor(shape, 4, { dtype }));
  return await read({ out, dq, dk, dv });
}

/** Odd and even lengths and head sizes, few and many heads, in both layouts, without the whole product. */
const SHAPES: readonly (readonly [AttentionLayout, readonly number[]])[] = [
  ["headMajor", [3, 1, 8]],
  ["rowMajor", [2, 7, 3, 12]],
  ["headMajor", [3, 65, 33]],
  ["rowMajor", [1, 129, 4, 8]],
  ["headMajor", [2, 8, 32, 32]],
  ["rowMajor", [2, 40, 2, 64]],
  ["headMajor", [6, 9, 128]],
];

for (const adapterClass of TEXTURE_CLASSES) {
  gpuTest(`causalAttention() has right kernels for odd lengths and heads: ${adapterClass}`, async () => {
    for (const [layout, shape] of SHAPES) {
      const expected = await withOracle(() => attentionAndGradients(shape, layout));
      const found = await withAdapterClass(adapterClass, () => attentionAndGradients(shape, layout));
      for (const name of ["out", "dq", "dk", "dv"] as const) {
        assertClose(found[name], expected[name], F32, `${name} of ${layout} [${shape}]`);
      }
    }
  });

  gpuTest(`causalAttention() reads and stores bf16, forward and backward: ${adapterClass}`, async () => {
    // Heads of whole groups of four are stored as they are, others through f32.
    for (const shape of [[2, 19, 8], [2, 5, 6]]) {
      const run = () => attentionAndGradients(shape, "headMajor", "bf16");
      const [expected, found] = [await withOracle(run), await withAdapterClass(adapterClass, run)];
      for (const name of ["out", "dq", "dk", "dv"] as const) {
        assertClose(found[name], expected[name], toleranceFor("bf16"), `${name} of bf16 [${shape}]`);
      }
    }
  });
}

gpuTest("causalAttention() agrees with a loop over queries and keys", async () => {
  const [heads, length, channels] = [8, 68, 32];
  const elements = length * channels;
  const [q, k, v] = [1, 2, 3].map((seed) => uniformTensor([heads, length, channels], seed)) as [Tensor, Tensor, Tensor];
  const [Q, K, V] = await Promise.all([q.data(), k.data(), v.data()]);
  const expected = new Float32Array(heads * elements);
  for (let row = 0; row < heads * length; row++) {
    const first = Math.floor(row / length) * length;
    const weights: number[] = [];
    for (let other = first; other <= row; other++) {
      let score = 0;
      for (let c = 0; c < channels; c++) score += Q[row * channels + c]! * K[other * channels + c]!;
      weights.push(Math.exp(score / Math.sqrt(channels)));
    }
    const total = weights.reduce((a, b) => a + b);
    for (const [i, weight] of weights.entries()) {
      for (let c = 0; c < channels; c++) {
        expected[row * channels + c]! += weight / total * V[(first + i) * channels + c]!;
      }
    }
  }
  for (const adapterClass of TEXTURE_CLASSES) {
    const found = await withAdapterClass(adapterClass, async () => {
      const operands = [1, 2, 3].map((seed) => uniformTensor([heads, length, channels], seed)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      return await causalAttention(...operands).data();
    });
    assertClose(found, expected, F32, `attended by ${adapterClass} kernels`);
  }
});

gpuTest("causalAttention() has right hardware kernels whose lanes own two rows", async () => {
  for (const [layout, shape] of [["headMajor", [130, 70, 8]], ["rowMajor", [16, 131, 4, 6]]] as const) {
    const run = () => attentionAndGradients(shape, layout);
    const expected = await withOracle(run);
    const found = await withAdapterClass("hardware", run);
    for (const name of ["out", "dq", "dk", "dv"] as const) {
      assertClose(found[name], expected[name], F32, `${name} of ${layout} [${shape}]`);
    }
  }
});

gpuTest("causalAttention() finds heads in textures of several stripes", async () => {
  for (const [layout, shape] of [["headMajor", [5, 20, 4]], ["rowMajor", [5, 20, 2, 4]]] as const) {
    const run = () => attentionAndGradients(shape, layout);
    const expected = await withOracle(run);
    const found = await withAdapterClass("software with textures", run, { textureSide: 50 });
    for (const name of ["out", "dq", "dk", "dv"] as const) {
      assertClose(found[name], expected[name], F32, `${name} of ${layout} [${shape}]`);
    }
  }
});

gpuTest("causalAttention() fills each texture once, and those of bf16 again for the backward", async () => {
  const program = (dtype: "f32" | "bf16") =>
    withAdapterClass("software with textures", async () => {
      const operands = [1, 2, 3].map((seed) => uniformTensor([2, 32, 64], seed, { dtype })) as [Tensor, Tensor, Tensor];
      const pull = jit((q: Tensor, k: Tensor, v: Tensor) => {
        const [out, pullback] = vjp((q: Tensor, k: Tensor, v: Tensor) => causalAttention(q, k, v), q, k, v);
        return pullback(out);
      });
      return String(await pull.program(...operands));
    });
  const countOf = (text: string) => text.split("to texture").length - 1;
  assertEquals(countOf(await program("f32")), 4); // q, k, v and the cotangent
  assertEquals(countOf(await program("bf16")), 7);
});

gpuTest("causalAttention() of bf16 stores nothing wider than its operands", async () => {
  await withAdapterClass("hardware", async () => {
    const operands = [1, 2, 3].map((seed) => uniformTensor([2, 32, 8], seed, { dtype: "bf16" })) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const printed = await jit((q: Tensor, k: Tensor, v: Tensor) => causalAttention(q, k, v)).program(...operands);
    assert(printed.includes("1 dispatches"), printed);
    assert(!printed.includes("f32[2, 32, 8]"), printed);
  });
});

gpuTest("causalAttention() stays exact where scores are far apart", async () => {
  const scores = (q: Tensor, k: Tensor, v: Tensor) => causalAttention(mul(q, 60), mul(k, 60), v);
  const run = () => scores(uniformTensor([9, 8], 1), uniformTensor([9, 8], 2), uniformTensor([9, 8], 3)).data();
  const expected = await withOracle(run);
  // Scores of some thousands lose digits in f32, but softmax is one-hot there.
  assertClose(await run(), expected, { relative: 1e-3, absolute: 1e-3 }, "attended");
});

for (const adapterClass of TEXTURE_CLASSES) {
  gpuTest(`causalAttention() repeats bit for bit, and under jit: ${adapterClass}`, async () => {
    await withAdapterClass(adapterClass, async () => {
      const loss = jit(
        grad((q: Tensor) => sum(mul(causalAttention(q, uniformTensor([40, 8], 2), uniformTensor([40, 8], 3)), q))),
      );
      const first = await loss(uniformTensor([40, 8], 1)).data();
      for (let run = 0; run < 3; run++) assertEquals(await loss(uniformTensor([40, 8], 1)).data(), first);
    });
  });
}

gpuTest("causalAttention() differentiates twice", async () => {
  const loss = (q: Tensor) => sum(mul(causalAttention(q, uniformTensor([5, 4], 2), uniformTensor([5, 4], 3)), q));
  const second = () =>
    grad((q: Tensor) => sum(mul(grad(loss)(q), uniformTensor([5, 4], 4))))(uniformTensor([5, 4], 1)).data();
  assertClose(await second(), await withOracle(second), F32, "second derivative");
});

gpuTest("causalAttention() needs memory in proportion to the length, forward and backward", async () => {
  const [length, channels] = [256, 8];
  const loss = (q: Tensor, k: Tensor, v: Tensor) => sum(mul(causalAttention(q, k, v), v));
  const step = jit((q: Tensor, k: Tensor, v: Tensor) => vjp(loss, q, k, v)[1](tensor(1)));
  const operands = [1, 2, 3].map((seed) => uniformTensor([length, channels], seed)) as [Tensor, Tensor, Tensor];
  const printed = String(await step.program(...operands));
  assert(!printed.includes(`[${length}, ${length}]`), printed);
  const scratch = Number(/(\d+) bytes of scratch/.exec(printed)![1]);
  // The result, operands in textures and the sums of rows; the matrix of scores alone would be 4 · length².
  assert(scratch < 4 * length * channels * 8, printed);
});

gpuTest("causalAttention() leaves shapes its kernels do not take to small ops", async () => {
  const wide = () => attentionAndGradients([5, 132], "headMajor");
  const expected = await withOracle(wide);
  const found = await wide();
  for (const name of ["out", "dq", "dk", "dv"] as const) assertClose(found[name], expected[name], F32, name);
  assertEquals(await causalAttention(zeros([0, 4]), zeros([0, 4]), zeros([0, 4])).data(), new Float32Array(0));
});

oracleTest("causalAttention() gives both layouts the same numbers", async () => {
  const rows = [1, 2, 3].map((seed) => uniformTensor([4, 1, 3], seed)) as [Tensor, Tensor, Tensor];
  const heads = [1, 2, 3].map((seed) => uniformTensor([1, 4, 3], seed)) as [Tensor, Tensor, Tensor];
  assertEquals(
    await causalAttention(...rows, { layout: "rowMajor" }).data(),
    await causalAttention(...heads).data(),
  );
});

oracleTest("causalAttention() changes nothing before a token that changes", async () => {
  const [q, k, v] = [1, 2, 3].map((seed) => uniformTensor([6, 4], seed)) as [Tensor, Tensor, Tensor];
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
