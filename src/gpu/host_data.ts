/**
 * Host values as the bytes that kernels read, and back.
 *
 * @module
 */
import { type DType, hostArrayFor, type HostData, isFloat, toBf16Bits } from "../core/dtype.ts";

/** Host values as the bytes a kernel reads, padded to whole words. */
export function packForDevice(dtype: DType, data: HostData): ArrayBufferView<ArrayBuffer> {
  switch (dtype) {
    case "f16": {
      const padded = new Float16Array(Math.ceil(data.length / 2) * 2);
      padded.set(data);
      return padded;
    }
    case "bf16": {
      const padded = new Uint16Array(Math.ceil(data.length / 2) * 2);
      for (let i = 0; i < data.length; i++) padded[i] = toBf16Bits(data[i]!);
      return padded;
    }
    case "bool":
      return Uint32Array.from(data);
    default: {
      const target = hostArrayFor(dtype, 0);
      if (data.constructor === target.constructor) return data as ArrayBufferView<ArrayBuffer>;
      const converted = hostArrayFor(dtype, data.length);
      converted.set(data);
      return converted as ArrayBufferView<ArrayBuffer>;
    }
  }
}

/** Host values of what a kernel wrote. */
export function unpackFromDevice(dtype: DType, size: number, bytes: ArrayBuffer): HostData {
  switch (dtype) {
    case "f16":
      return Float32Array.from(new Float16Array(bytes, 0, size));
    case "bf16": {
      const words = new Uint16Array(bytes, 0, size);
      const bits = Uint32Array.from(words, (word) => word << 16);
      return new Float32Array(bits.buffer);
    }
    case "bool":
      return Uint8Array.from(new Uint32Array(bytes, 0, size));
    default:
      return isFloat(dtype)
        ? new Float32Array(bytes, 0, size).slice()
        : dtype === "i32"
        ? new Int32Array(bytes, 0, size).slice()
        : new Uint32Array(bytes, 0, size).slice();
  }
}
