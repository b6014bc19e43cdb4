/**
 * Copying to the host: one staging buffer and one wait for any number of tensors.
 *
 * Deno waits for the device inside the call of `mapAsync`, and the buffer is mapped when that returns. Its promise comes 10
 * milliseconds later, which is longer than many steps take. So small reads take what is mapped and do not wait for the
 * promise.
 *
 * @module
 */
import { bytesPerElement, type HostData } from "../core/dtype.ts";
import type { Tensor } from "../core/tensor.ts";
import { unpackFromDevice } from "./host_data.ts";

/**
 * Versions of Deno in which a buffer was seen to be mapped when `mapAsync` returns. Asking for the range too early may end
 * the process rather than throw, so other versions wait for the promise.
 */
const MAPS_IN_THE_CALL = /^2\.[6-9]\./;

/** Bytes up to which a read does not wait for the promise: before, the staging buffer has to be cleared. */
const MOST_BYTES_AT_ONCE = 2 ** 23;

/** Reads buffers. The copy is submitted before the first await, so that a donation right after the call is safe. */
export async function readStorages(
  device: GPUDevice,
  requests: readonly { readonly buffer: GPUBuffer; readonly tensor: Tensor }[],
): Promise<readonly HostData[]> {
  const parts = requests.map(({ tensor }) => Math.ceil(tensor.size * bytesPerElement(tensor.dtype) / 4) * 4);
  const total = parts.reduce((sum, bytes) => sum + bytes, 0);
  if (total === 0) return requests.map(({ tensor }) => unpackFromDevice(tensor.dtype, 0, new ArrayBuffer(0)));
  const atOnce = total <= MOST_BYTES_AT_ONCE && MAPS_IN_THE_CALL.test(Deno.version.deno);
  const staging = createStaging(device, total, { atOnce });
  try {
    const encoder = device.createCommandEncoder({ label: "read" });
    let offset = 0;
    requests.forEach(({ buffer }, i) => {
      if (parts[i]! > 0) encoder.copyBufferToBuffer(buffer, 0, staging, offset, parts[i]!);
      offset += parts[i]!;
    });
    device.queue.submit([encoder.finish()]);
    const mapped = await mappedRange(staging, { atOnce });
    let start = 0;
    return requests.map(({ tensor }, i) => {
      const bytes = mapped.slice(start, start + parts[i]!);
      start += parts[i]!;
      return unpackFromDevice(tensor.dtype, tensor.size, bytes);
    });
  } finally {
    staging.destroy();
  }
}

/** How a read waits: whether it takes what is mapped when `mapAsync` returns. */
interface Waiting {
  readonly atOnce: boolean;
}

function createStaging(device: GPUDevice, size: number, { atOnce }: Waiting): GPUBuffer {
  const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
  // Deno hands out the range of a buffer only if some mapping of it was completed before, as the one at creation is.
  const staging = device.createBuffer({ size, usage, mappedAtCreation: atOnce });
  if (atOnce) staging.unmap();
  return staging;
}

/** The bytes of a staging buffer, once everything submitted is done. */
async function mappedRange(staging: GPUBuffer, { atOnce }: Waiting): Promise<ArrayBuffer> {
  const mapping = staging.mapAsync(GPUMapMode.READ);
  if (!atOnce) {
    await mapping;
    return staging.getMappedRange();
  }
  let mapped: ArrayBuffer;
  try {
    mapped = staging.getMappedRange();
  } catch {
    // Not mapped after all: the promise knows why, or when.
    await mapping;
    return staging.getMappedRange();
  }
  mapping.catch(() => {});
  // Reads are where timers, signals and the finalizers of dropped tensors get their turn.
  await new Promise<void>((resolve) => setImmediate(resolve));
  return mapped;
}
