/**
 * Windows: a kernel sees a buffer that is larger than one binding may be as several bindings, each of which shows a
 * stretch of it. One GPU buffer may be larger than one binding, so nothing is copied, and no op has to know.
 *
 * @module
 */
import { bytesPerElement } from "./dtype.ts";
import type { AdapterTraits } from "./kernel.ts";
import { type Aval, sizeOf } from "./shape.ts";

/** Where windows may start: WebGPU's `minStorageBufferOffsetAlignment` is this or a divisor of it. */
const WINDOW_ALIGNMENT = 256;

/** Bytes of a value in a buffer, padded to whole vec4s so that kernels may store four elements at a time. */
export function bytesInBuffer({ shape, dtype }: Aval): number {
  return Math.max(16, Math.ceil(sizeOf(shape) * bytesPerElement(dtype) / 16) * 16);
}

/** Bytes of the largest window, a multiple of where windows may start; Infinity where any buffer can be bound. */
export function windowBytes({ bindingBytes = Infinity }: Pick<AdapterTraits, "bindingBytes">): number {
  return bindingBytes === Infinity ? Infinity : Math.floor(bindingBytes / WINDOW_ALIGNMENT) * WINDOW_ALIGNMENT;
}

/** Windows that together show a buffer: 1 for one that can be bound whole. */
export function windowsOf(bytes: number, adapter: Pick<AdapterTraits, "bindingBytes">): number {
  return Math.max(1, Math.ceil(bytes / windowBytes(adapter)));
}
