/**
 * WebGPU runtimes for the fuzz test: as users have it, without fusion, and with the fewest buffers WebGPU allows.
 *
 * @module
 */
import type { AdapterTraits } from "../../../src/core/kernel.ts";
import type { Runtime } from "../../../src/core/runtime.ts";
import { type InitOptions, webGpuRuntime } from "../../../src/gpu/device.ts";
import type { FuzzRuntimes } from "./fuzz_check.ts";

/** Starts a runtime on a device of its own. */
export async function startRuntime(
  options: InitOptions = {},
  buffers = 8,
): Promise<Runtime & { readonly device: GPUDevice }> {
  const adapter = await navigator.gpu.requestAdapter();
  if (adapter === null) throw new Error("no WebGPU adapter");
  const f16 = adapter.features.has("shader-f16");
  const device = await adapter.requestDevice({
    requiredFeatures: f16 ? ["shader-f16"] : [],
    requiredLimits: {
      maxStorageBuffersPerShaderStage: Math.min(buffers, adapter.limits.maxStorageBuffersPerShaderStage),
    },
  });
  const traits: AdapterTraits = {
    name: adapter.info.description,
    software: true,
    f16,
    workgroupBytes: device.limits.maxComputeWorkgroupStorageSize,
    workgroupInvocations: device.limits.maxComputeInvocationsPerWorkgroup,
    storageBuffers: device.limits.maxStorageBuffersPerShaderStage,
  };
  return webGpuRuntime(device, traits, options);
}

/** Starts the three runtimes. */
export async function startFuzzRuntimes(): Promise<FuzzRuntimes> {
  return {
    fused: await startRuntime({}, 32),
    unfused: await startRuntime({ fusion: "none" }),
    narrow: await startRuntime({}),
  };
}
