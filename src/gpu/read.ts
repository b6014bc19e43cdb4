/**
 * Copying to the host: one staging buffer and one wait for any number of tensors.
 *
 * @module
 */
import { bytesPerElement, type HostData } from "../core/dtype.ts";
import type { Tensor } from "../core/tensor.ts";
import { unpackFromDevice } from "./host_data.ts";

/** Reads buffers. The copy is submitted before the first await, so that a donation right after the call is safe. */
export async function readStorages(
  device: GPUDevice,
  requests: readonly { readonly buffer: GPUBuffer; readonly tensor: Tensor }[],
): Promise<readonly HostData[]> {
  const parts = requests.map(({ tensor }) => Math.ceil(tensor.size * bytesPerElement(tensor.dtype) / 4) * 4);
  const total = parts.reduce((sum, bytes) => sum + bytes, 0);
  if (total === 0) return requests.map(({ tensor }) => unpackFromDevice(tensor.dtype, 0, new ArrayBuffer(0)));
  const staging = device.createBuffer({ size: total, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  try {
    const encoder = device.createCommandEncoder({ label: "read" });
    let offset = 0;
    requests.forEach(({ buffer }, i) => {
      if (parts[i]! > 0) encoder.copyBufferToBuffer(buffer, 0, staging, offset, parts[i]!);
      offset += parts[i]!;
    });
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const mapped = staging.getMappedRange();
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
