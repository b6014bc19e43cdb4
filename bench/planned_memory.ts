/**
 * How much memory does a training step of each preset plan, in each precision, compiled for each class of adapters?
 *
 * Nothing runs and nothing is timed, so it is no question of `deno task bench`: it prints the table of
 * `docs/performance.md`, "Precision".
 *
 * @module
 */
import { key, mixedPrecision, trainState, zeros } from "../mod.ts";
import { installRuntime } from "../src/core/runtime.ts";
import { webGpuRuntime } from "../src/gpu/device_runtime.ts";
import { resolveConfig } from "../src/train/config.ts";
import { buildModel } from "../src/train/model.ts";
import { buildOptimizer, buildStep } from "../src/train/objective.ts";
import { lossScaleFor } from "../src/train/precision.ts";

const PRECISIONS = [
  { name: "f32", compute: "f32", parameters: "f32" },
  { name: "bf16", compute: "bf16", parameters: "f32" },
  { name: "f16", compute: "f16", parameters: "f32" },
  { name: "bf16 parameters", compute: "bf16", parameters: "bf16" },
] as const;

/** Presets by class; the largest is not for CPUs. */
const PRESETS = { hardware: ["tiny", "small", "base"], software: ["tiny", "small"] } as const;

type AdapterClass = keyof typeof PRESETS;

/** Bytes that a step needs: state, batch, and all temporaries of the compiled program. */
function plannedBytes(
  adapter: AdapterClass,
  flags: { readonly preset: string; readonly router: string },
  { compute, parameters }: typeof PRECISIONS[number],
): number {
  const config = { ...resolveConfig({ adapter, flags }), precision: compute };
  const model = buildModel(config);
  const optimizer = buildOptimizer(config);
  const lossScale = lossScaleFor(compute);
  const state = trainState({
    params: mixedPrecision({ parameters, compute }).store(model.init(key(1))),
    optimizer,
    key: key(2),
    ...(lossScale === undefined ? {} : { lossScale }),
  });
  const batch = { ids: zeros([config.batch, config.seq + 1], { dtype: "u32" }) };
  return buildStep(config, model, optimizer).memory(state, batch).peakBytes;
}

/** Has programs compiled for a class of adapters, whatever this one is. */
async function compileFor(adapterClass: AdapterClass): Promise<void> {
  const isSoftware = adapterClass === "software";
  const adapter = (await navigator.gpu.requestAdapter())!;
  const { maxStorageBuffersPerShaderStage, maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  const device = await adapter.requestDevice({
    requiredLimits: { maxStorageBuffersPerShaderStage, maxStorageBufferBindingSize, maxBufferSize },
  });
  installRuntime(
    await webGpuRuntime(device, {
      name: `this adapter as ${adapterClass}`,
      software: isSoftware,
      f16: true,
      workgroupBytes: 16384,
      workgroupInvocations: 256,
      storageBuffers: maxStorageBuffersPerShaderStage,
      textureSide: isSoftware ? device.limits.maxTextureDimension2D : 0,
    }),
  );
}

if (import.meta.main) {
  const cells = (values: readonly string[]) => console.log(`| ${values.join(" | ")} |`);
  cells(["compiled for", "preset", "body", ...PRECISIONS.map(({ name }) => name)]);
  cells(Array.from({ length: 3 + PRECISIONS.length }, () => "---"));
  for (const adapterClass of ["hardware", "software"] as const) {
    await compileFor(adapterClass);
    for (const preset of PRESETS[adapterClass]) {
      for (const router of ["dense", "switch"]) {
        const megabytes = PRECISIONS.map((precision) =>
          (plannedBytes(adapterClass, { preset, router }, precision) / 1e6).toFixed(1)
        );
        cells([`${adapterClass} adapter`, preset, router, ...megabytes]);
      }
    }
  }
  Deno.exit(0);
}
