/**
 * WebGPU runtimes for the fuzz test: as users have it, without fusion or one step of it, with the fewest buffers WebGPU
 * allows (and products from textures), with kernels laid out for a GPU, and with tensors larger than one binding.
 *
 * @module
 */
import type { AdapterTraits } from "../../../src/core/kernel.ts";
import type { Runtime } from "../../../src/core/runtime.ts";
import { FUSION_STEPS, type FusionChoice } from "../../../src/gpu/anchors.ts";
import { webGpuRuntime } from "../../../src/gpu/device_runtime.ts";
import type { AdapterClass } from "../../support/variants.ts";
import type { FuzzRuntimes } from "./fuzz_check.ts";

/** How a runtime differs from what users have. */
export interface FuzzRuntimeOptions {
  /** What is fused. */
  readonly fusion?: FusionChoice;
  /** Storage buffers a kernel may bind, 8 by default. */
  readonly buffers?: number;
  /** The class of adapters that kernels are laid out for, `"software"` by default. */
  readonly adapterClass?: AdapterClass;
  /** Bytes that one binding may show, as many as the device allows by default. */
  readonly bindingBytes?: number;
}

/** Starts a runtime on a device of its own. */
export async function startRuntime(
  { fusion = "all", buffers = 8, adapterClass = "software", bindingBytes }: FuzzRuntimeOptions = {},
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
    software: adapterClass !== "hardware",
    f16,
    workgroupBytes: device.limits.maxComputeWorkgroupStorageSize,
    workgroupInvocations: device.limits.maxComputeInvocationsPerWorkgroup,
    storageBuffers: device.limits.maxStorageBuffersPerShaderStage,
    bindingBytes: bindingBytes ?? device.limits.maxStorageBufferBindingSize,
    textureSide: device.limits.maxTextureDimension2D,
    ...(adapterClass === "software with textures" ? { tuning: { textureWork: 0, expertTextureWork: 0 } } : {}),
  };
  return webGpuRuntime(device, traits, { fusion });
}

/** Starts all runtimes. */
export async function startFuzzRuntimes(): Promise<FuzzRuntimes> {
  const partial: Runtime[] = [];
  for (const step of FUSION_STEPS) partial.push(await startRuntime({ fusion: { without: [step] }, buffers: 32 }));
  return {
    fused: await startRuntime({ buffers: 32 }),
    unfused: await startRuntime({ fusion: "none" }),
    narrow: await startRuntime({ adapterClass: "software with textures" }),
    hardware: await startRuntime({ adapterClass: "hardware", buffers: 32 }),
    windowed: await startRuntime({ buffers: 32, bindingBytes: 2048 }),
    partial,
  };
}
