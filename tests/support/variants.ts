/**
 * Running kernels of both adapter classes on the one adapter there is: what a kernel computes may not depend on which
 * layout of lanes and memory the class prefers.
 *
 * @module
 */
import { installRuntime, type Runtime } from "../../src/core/runtime.ts";
import { webGpuRuntime } from "../../src/gpu/device.ts";

/** The classes of adapters kernels are laid out for. */
export type AdapterClass = "software" | "hardware";

/** Both classes. */
export const ADAPTER_CLASSES: readonly AdapterClass[] = ["software", "hardware"];

const runtimes = new Map<AdapterClass, Promise<Runtime>>();

async function start(adapterClass: AdapterClass): Promise<Runtime> {
  const adapter = (await navigator.gpu.requestAdapter())!;
  const { maxStorageBuffersPerShaderStage, maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  const device = await adapter.requestDevice({
    requiredLimits: { maxStorageBuffersPerShaderStage, maxStorageBufferBindingSize, maxBufferSize },
  });
  return webGpuRuntime(device, {
    name: `this adapter as ${adapterClass}`,
    software: adapterClass === "software",
    f16: false,
    // What every adapter has, so that a kernel that needs more fails here and not at a user's.
    workgroupBytes: 16384,
    workgroupInvocations: 256,
    storageBuffers: 32,
  });
}

/** Runs a function with kernels laid out for a class of adapters, and puts the runtime back that was there. */
export async function withAdapterClass<T>(adapterClass: AdapterClass, run: () => T | Promise<T>): Promise<T> {
  if (!runtimes.has(adapterClass)) runtimes.set(adapterClass, start(adapterClass));
  const previous = installRuntime(await runtimes.get(adapterClass)!);
  try {
    return await run();
  } finally {
    installRuntime(previous);
  }
}
