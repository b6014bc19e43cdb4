import { assert, assertEquals } from "@std/assert";
import type { AdapterTraits } from "../../src/core/kernel.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import { sizeOf } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { vmap } from "../../src/core/vmap.ts";
import {
  type AngleTables,
  partsOf,
  rotaryAttention,
  rotaryAttentionPrimitive,
  turn,
} from "../../src/ops/attention_rotary.ts";
import { causalAttention } from "../../src/ops/attention.ts";
import { mul } from "../../src/ops/binary.ts";
import { sum } from "../../src/ops/reduce.ts";
import { cos, sin } from "../../src/ops/unary.ts";
import { assertClose, checkOp, gpuTest, oracleTest, toleranceFor, withOracle } from "../support/check_primitive.ts";
import { type AdapterClass, TEXTURE_CLASSES, withAdapterClass } from "../support/variants.ts";
import { uniformTensor } from "../support/draw.ts";

/** Sums of up to a hundred products, and exponentials of them. */
const F32 = { relative: 3e-5, absolute: 1e-5 };

/** Tables of arbitrary angles for a projection [..., S, 3, H, C]. */
function tablesFor(shape: readonly number[]): AngleTables {
  const angles = uniformTensor([shape.at(-4)!, shape.at(-1)! / 2], 9);
  return { cos: cos(angles), sin: sin(angles) };
}

/** The same by the ops it is made of. */
function inParts(joint: Tensor, tables: AngleTables): Tensor {
  const [queries, keys, values] = partsOf(joint);
  return causalAttention(turn(queries, tables), turn(keys, tables), values, { layout: "rowMajor" });
}

async function resultAndGradient(attend: typeof inParts, shape: readonly number[], dtype: "f32" | "bf16" = "f32") {
  const tables = tablesFor(shape);
  const [out, pull] = vjp((joint: Tensor) => attend(joint, tables), uniformTensor(shape, 1, { dtype }));
  const [gradient] = pull(uniformTensor(out.shape, 2, { dtype }));
  return await read({ out, gradient });
}

checkOp({
  name: "rotaryAttention",
  fn: (joint) => rotaryAttention(joint!, tablesFor([3, 3, 2, 8])),
  samples: [{ inputs: [{ shape: [3, 3, 2, 8] }] }],
  tolerance: F32,
});

/** Odd lengths, one head and several, widths of one and of many vec4s, and one that no kernel takes. */
const SHAPES = [[1, 3, 1, 8], [2, 7, 3, 3, 16], [65, 3, 2, 24], [2, 33, 3, 4, 32], [2, 5, 3, 2, 6]];

for (const adapterClass of TEXTURE_CLASSES) {
  gpuTest(`rotaryAttention() is attention over turned parts: ${adapterClass}`, async () => {
    for (const shape of SHAPES) {
      const expected = await withOracle(() => resultAndGradient(inParts, shape));
      const found = await withAdapterClass(adapterClass, () => resultAndGradient(rotaryAttention, shape));
      for (const name of ["out", "gradient"] as const) {
        assertClose(found[name], expected[name], F32, `${name} of [${shape}]`);
      }
    }
  });

  gpuTest(`rotaryAttention() reads and stores bf16: ${adapterClass}`, async () => {
    const shape = [2, 9, 3, 2, 8];
    const expected = await withOracle(() => resultAndGradient(inParts, shape, "bf16"));
    const found = await withAdapterClass(adapterClass, () => resultAndGradient(rotaryAttention, shape, "bf16"));
    for (const name of ["out", "gradient"] as const) {
      assertClose(found[name], expected[name], toleranceFor("bf16"), name);
    }
  });

  gpuTest(`rotaryAttention() repeats bit for bit: ${adapterClass}`, async () => {
    await withAdapterClass(adapterClass, async () => {
      const first = await resultAndGradient(rotaryAttention, [33, 3, 2, 8]);
      assertEquals(await resultAndGradient(rotaryAttention, [33, 3, 2, 8]), first);
    });
  });
}

gpuTest("rotaryAttention() finds heads in textures of several stripes", async () => {
  const shape = [5, 20, 3, 2, 8];
  const expected = await withOracle(() => resultAndGradient(inParts, shape));
  const found = await withAdapterClass("software with textures", () => resultAndGradient(rotaryAttention, shape), {
    textureSide: 50,
  });
  for (const name of ["out", "gradient"] as const) assertClose(found[name], expected[name], F32, name);
});

async function dispatchesOf(adapterClass: AdapterClass, dtype: "f32" | "bf16"): Promise<string[]> {
  return await withAdapterClass(adapterClass, async () => {
    const tables = tablesFor([8, 3, 2, 8]);
    const step = jit((joint: Tensor, cos: Tensor, sin: Tensor) => {
      const [out, pull] = vjp((joint: Tensor) => rotaryAttention(joint, { cos, sin }), joint);
      return pull(out);
    });
    const printed = await step.program(uniformTensor([2, 8, 3, 2, 8], 1, { dtype }), tables.cos, tables.sin);
    return [...String(printed).matchAll(/^ +\d+ +(\D+) \d/gm)].map(([, label]) => label!);
  });
}

gpuTest("rotaryAttention() neither cuts the projection apart nor puts its gradient together", async () => {
  const kernels = ["attention", "attention dq", "attention dk dv"] as const;
  assertEquals(await dispatchesOf("hardware", "f32"), [...kernels]);
  const [forward, ...backward] = kernels;
  const fills = ["turned to textures", "to texture"];
  assertEquals(await dispatchesOf("software with textures", "f32"), [fills[0]!, forward, fills[1]!, ...backward]);
  const again = await dispatchesOf("software with textures", "bf16");
  assertEquals(again, [fills[0]!, forward, ...fills, ...backward]);
});

oracleTest("rotaryAttention() maps over projections, and over tables", async () => {
  const shape = [2, 5, 3, 1, 4];
  const [joint, angles] = [uniformTensor(shape, 1), uniformTensor([2, 5, 2], 3)];
  const each = vmap((joint: Tensor, angles: Tensor) => rotaryAttention(joint, { cos: cos(angles), sin: sin(angles) }));
  const expected = inParts(joint, { cos: cos(angles), sin: sin(angles) });
  assertEquals(await each(joint, angles).data(), await expected.data());
  const first = tablesFor(shape.slice(1));
  const shared = vmap((joint: Tensor) => rotaryAttention(joint, first));
  assertEquals(await shared(joint).data(), await inParts(joint, first).data());
});

gpuTest("rotaryAttention() differentiates twice", async () => {
  const tables = () => tablesFor([5, 3, 1, 8]);
  const loss = (joint: Tensor) => sum(mul(rotaryAttention(joint, tables()), uniformTensor([5, 1, 8], 2)));
  const second = () =>
    grad((joint: Tensor) => sum(mul(grad(loss)(joint), uniformTensor([5, 3, 1, 8], 4))))(uniformTensor([5, 3, 1, 8], 1))
      .data();
  const found = await second();
  assert(found.some((value) => value !== 0));
  assertClose(found, await withOracle(second), F32, "second derivative");
});

Deno.test("rotaryAttention() leaves to small ops what its kernels cannot bind, read or turn", () => {
  const { lower } = rotaryAttentionPrimitive;
  const hardware: AdapterTraits = {
    name: "a GPU",
    software: false,
    f16: false,
    workgroupBytes: 16384,
    workgroupInvocations: 256,
    storageBuffers: 8,
    textureSide: 0,
  };
  const takes = (shape: readonly number[], adapter: AdapterTraits) =>
    lower.as === "kernel" && lower.accepts!([{ shape, dtype: "f32" }], { scale: 1 }, adapter);
  const shape = [2, 64, 3, 4, 32];
  assert(takes(shape, hardware));
  assert(!takes([2, 64, 3, 4, 12], hardware), "half of the channels is no whole vec4");
  assert(!takes([2, 64, 3, 4, 136], hardware), "heads are too wide");
  assert(!takes(shape, { ...hardware, bindingBytes: 4 * sizeOf(shape) - 256 }), "one binding does not show it");
  assert(!takes(shape, { ...hardware, software: true }), "no textures");
  assert(takes(shape, { ...hardware, software: true, textureSide: 8192 }));
  assert(!takes([2, 4, 3, 4, 32], { ...hardware, software: true, textureSide: 8192 }), "too little work for textures");
});
