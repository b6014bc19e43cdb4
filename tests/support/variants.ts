/**
 * Running kernels of both adapter classes on the one adapter there is: what a kernel computes may not depend on which
 * layout of lanes and memory the class prefers.
 *
 * @module
 */
import type { KernelTuning } from "../../src/core/kernel.ts";
import { installRuntime, type Runtime } from "../../src/core/runtime.ts";
import { webGpuRuntime } from "../../src/gpu/device_runtime.ts";

/** The classes of adapters kernels are laid out for. */
export type AdapterClass = "software" | "software with textures" | "hardware";

/** The classes that kernels differ in which never use textures. */
export const ADAPTER_CLASSES: readonly AdapterClass[] = ["software", "hardware"];

/** The classes that kernels differ in which may copy operands to textures. */
export const TEXTURE_CLASSES: readonly AdapterClass[] = ["software", "software with textures", "hardware"];

const runtimes = new Map<string, Promise<Runtime>>();

async function start(
  adapterClass: AdapterClass,
  { textureSide, tuning, f16 = false }: AdapterDeviation,
): Promise<Runtime> {
  const adapter = (await navigator.gpu.requestAdapter())!;
  const { maxStorageBuffersPerShaderStage, maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  const device = await adapter.requestDevice({
    requiredFeatures: f16 ? ["shader-f16"] : [],
    requiredLimits: { maxStorageBuffersPerShaderStage, maxStorageBufferBindingSize, maxBufferSize },
  });
  return webGpuRuntime(device, {
    name: `this adapter as ${adapterClass}`,
    software: adapterClass !== "hardware",
    f16,
    // What every adapter has, so that a kernel that needs more fails here and not at a user's.
    workgroupBytes: 16384,
    workgroupInvocations: 256,
    storageBuffers: 32,
    // Small products, as tests have them, would not use textures by themselves.
    ...(adapterClass === "software with textures"
      ? {
        textureSide: textureSide ?? device.limits.maxTextureDimension2D,
        tuning: { textureWork: 0, expertTextureWork: 0, ...tuning },
      }
      : { textureSide: 0, tuning: tuning ?? {} }),
  });
}

/** How {@linkcode withAdapterClass} deviates from the class. */
export interface AdapterDeviation {
  /** Largest side of a texture, for values that do not fit into one stripe; the adapter's own by default. */
  readonly textureSide?: number;
  /** Whether the device has f16, which not every adapter can have; it does not by default. */
  readonly f16?: boolean;
  /** Choices between kernels. */
  readonly tuning?: KernelTuning;
}

/** Runs a function with kernels laid out for a class of adapters, and puts the runtime back that was there. */
export async function withAdapterClass<T>(
  adapterClass: AdapterClass,
  run: () => T | Promise<T>,
  deviation: AdapterDeviation = {},
): Promise<T> {
  const key = `${adapterClass} ${JSON.stringify(deviation)}`;
  if (!runtimes.has(key)) runtimes.set(key, start(adapterClass, deviation));
  const previous = installRuntime(await runtimes.get(key)!);
  try {
    return await run();
  } finally {
    installRuntime(previous);
  }
}
