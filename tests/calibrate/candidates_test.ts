/**
 * Every kernel that calibration may choose computes the same: forced one by one on odd shapes.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { areClose, compileWork, resultsOf } from "../../src/calibrate/heat.ts";
import { mergeTuning, type PickQuestion, questionsFor } from "../../src/calibrate/questions.ts";
import type { AdapterTraits, KernelTuning, WorkClass } from "../../src/core/kernel.ts";
import { realize } from "../../src/core/realize.ts";
import { currentRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import type { GpuRuntime } from "../../src/gpu/device_runtime.ts";
import { key, matmul, uniform } from "../../src/ops/mod.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "../gpu/support/compile.ts";
import { assertClose, gpuTest, withOracle } from "../support/check_primitive.ts";
import { type AdapterClass, withAdapterClass } from "../support/variants.ts";

const F32 = { relative: 3e-5, absolute: 3e-5 };

/** Sizes M, K, N: edges in every direction, wide enough for every tile, and smaller than all of them. */
const SIZES = [[5, 3, 2], [70, 37, 150], [33, 64, 132]] as const;
const LAYOUTS = [{}, { transposeA: true }, { transposeB: true }, { transposeA: true, transposeB: true }] as const;

function picks(traits: AdapterTraits): readonly PickQuestion[] {
  return questionsFor(traits).filter((question) => question.kind === "pick");
}

/** What a candidate of a large class chooses, for products of any class: tests have small ones. */
function forAllClasses(tuning: KernelTuning): KernelTuning {
  return Object.fromEntries(
    Object.entries(tuning).map(([name, chosen]) => {
      const [value] = typeof chosen === "object" ? Object.values(chosen) : [];
      const classes: Record<WorkClass, unknown> = { small: value, medium: value, large: value };
      return [name, name === "bufferTiles" ? { plain: value, transposed: value } : classes];
    }),
  );
}

/** All choices that differ, by what they choose. */
function choicesOf(traits: AdapterTraits): readonly KernelTuning[] {
  const all = picks(traits).flatMap(({ forced, candidates }) =>
    candidates.slice(1).map(({ tuning }) => mergeTuning(forced, forAllClasses(tuning)))
  );
  return [...new Map(all.map((tuning) => [JSON.stringify(tuning), tuning])).values()];
}

function product([m, k, n]: readonly [number, number, number], layout: (typeof LAYOUTS)[number]): Tensor {
  const { transposeA = false, transposeB = false } = layout as { transposeA?: boolean; transposeB?: boolean };
  const draw = (seed: number, shape: number[]) => uniform(key(seed), shape, { min: -1, max: 1 });
  const a = draw(1, transposeA ? [k, m] : [m, k]), b = draw(2, transposeB ? [n, k] : [k, n]);
  realize([a, b]);
  return matmul(a, b, layout);
}

/** Adapters with what may be chosen for them. */
const CLASSES: readonly (readonly [AdapterClass, AdapterTraits])[] = [
  ["software with textures", SOFTWARE],
  ["hardware", HARDWARE],
];

for (const [adapterClass, traits] of CLASSES) {
  for (const [turn, sizes] of SIZES.entries()) {
    gpuTest(`every calibrated choice multiplies ${sizes.join(" x ")} alike, ${adapterClass}`, async () => {
      let kernels = 0;
      for (const [number, layout] of LAYOUTS.entries()) {
        const expected = await withOracle(() => product(sizes, layout).data());
        await withAdapterClass(adapterClass, async () => {
          const runtime = currentRuntime("test") as GpuRuntime;
          const outputs = [product(sizes, layout)];
          const standard = await resultsOf(runtime, outputs, compileWork(runtime, outputs, {}));
          const seen = new Set<string>();
          for (const [choice, tuning] of choicesOf(traits).entries()) {
            // One layout a size for each choice, because each takes long to compile; another one at the next size.
            if ((choice + turn) % LAYOUTS.length !== number) continue;
            const compiled = compileWork(runtime, outputs, { tuning });
            if (seen.has(compiled.text)) continue;
            seen.add(compiled.text);
            const found = await resultsOf(runtime, outputs, compiled);
            assertClose(found[0]!, expected, F32, JSON.stringify({ tuning, layout }));
            // The order of additions is the same: what a file says does not change a result by one bit.
            assertEquals(found, standard, JSON.stringify({ tuning, layout }));
          }
          kernels += seen.size;
        });
      }
      assert(kernels >= 2, `only ${kernels} kernels differed`);
    });
  }
}

Deno.test("every candidate makes another program than the built-in choice, or is the built-in choice", () => {
  for (const traits of [SOFTWARE, HARDWARE]) {
    for (const { name, forced, candidates } of picks(traits)) {
      const size = name.endsWith("large") ? 512 : name.endsWith("small") ? 128 : 384;
      const transposeB = name.endsWith("transposed");
      const textOf = (tuning: KernelTuning) =>
        compile(
          (a: Tensor, b: Tensor) => matmul(a, b, { transposeB }),
          [f32(size, size), f32(size, size)],
          { adapter: { ...traits, tuning: mergeTuning(forced, tuning) } },
        ).dispatches.map(({ wgsl }) => wgsl).join();
      const [builtIn, ...others] = candidates.map(({ tuning }) => textOf(tuning));
      assertEquals(new Set(others).size, others.length, name);
      assertEquals(others.filter((text) => text === builtIn).length, 1, name);
    }
  }
});

Deno.test("thresholds decide between buffers and textures, for products and for experts apart", () => {
  const questions = questionsFor(SOFTWARE).filter((question) => question.kind === "threshold");
  assertEquals(questions.map(({ name }) => name), ["textureWork", "expertTextureWork"]);
  assertEquals(questionsFor({ ...SOFTWARE, textureSide: 0 }).some(({ kind }) => kind === "threshold"), false);
  const matrices = [f32(256, 256), f32(256, 256)];
  const programOf = (tuning: KernelTuning) =>
    compile((a: Tensor, b: Tensor) => matmul(a, b), matrices, { adapter: { ...SOFTWARE, tuning } }).toString();
  assertEquals(programOf({ expertTextureWork: Infinity }), programOf({}));
  assertNotEquals(programOf({ textureWork: Infinity }), programOf({}));
  // The driver copies both, so a quarter of the threshold is enough: 2^24 multiply-adds.
  assertEquals(programOf({ textureWork: 2 ** 26 }), programOf({}));
  assertNotEquals(programOf({ textureWork: 2 ** 26 + 4 }), programOf({}));
});

gpuTest(
  "experts from textures compute what experts from buffers do",
  () =>
    withAdapterClass("software with textures", async () => {
      const runtime = currentRuntime("test") as GpuRuntime;
      const question = questionsFor(SOFTWARE).find(({ name }) => name === "expertTextureWork")!;
      if (question.kind !== "threshold") throw new Error("unreachable");
      const outputs = question.probes[0]!.prepare();
      const [buffers, textures] = [Infinity, 0].map((expertTextureWork) =>
        compileWork(runtime, outputs, { tuning: { expertTextureWork } })
      );
      assertNotEquals(buffers!.text, textures!.text);
      const [expected, found] = [
        await resultsOf(runtime, outputs, buffers!),
        await resultsOf(runtime, outputs, textures!),
      ];
      found.forEach((values, i) => assertEquals(areClose(values, expected[i]!), true, `result ${i}`));
    }),
);

Deno.test("areClose() allows rounding and nothing else", () => {
  const expected = Float32Array.of(0, 1, -2);
  assertEquals(areClose(Float32Array.of(1e-5, 1, -2.0001), expected), true);
  assertEquals(areClose(Float32Array.of(1e-3, 1, -2), expected), false);
  assertEquals(areClose(Float32Array.of(NaN, 1, -2), expected), false);
  assertEquals(areClose(Float32Array.of(0, 1), expected), false);
});
