/**
 * Element types: what a tensor holds, how wide it is in a buffer, and how two types meet.
 *
 * @module
 */

/** Element type of a tensor. `bf16` is a storage type: it is computed in f32 on every adapter. */
export type DType = "f32" | "f16" | "bf16" | "i32" | "u32" | "bool";

/** Values of a tensor on the host, as {@linkcode Tensor.data} returns them: f16 and bf16 arrive widened to f32, bool as 0 or 1. */
export type HostData = Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;

/** Every element type, in promotion order. */
export const DTYPES: readonly DType[] = ["bool", "u32", "i32", "bf16", "f16", "f32"];

/** Says whether a type carries derivatives. */
export function isFloat(dtype: DType): boolean {
  return dtype === "f32" || dtype === "f16" || dtype === "bf16";
}

/** Bytes of one element in a GPU buffer. Booleans take a whole u32, because WGSL cannot store a bool. */
export function bytesPerElement(dtype: DType): number {
  return dtype === "f16" || dtype === "bf16" ? 2 : 4;
}

/**
 * The type in which two operands meet: the later in bool, u32, i32, bf16, f16, f32.
 * f16 with bf16 gives f32, since neither holds the other.
 */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  if ((a === "f16" && b === "bf16") || (a === "bf16" && b === "f16")) return "f32";
  return DTYPES.indexOf(a) > DTYPES.indexOf(b) ? a : b;
}

/** Rounds a float to the nearest bf16, ties to even, and returns its 16 bits. */
export function toBf16Bits(value: number): number {
  const scratch = new DataView(new ArrayBuffer(4));
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Rounds a number to what the type can hold; integers wrap, booleans become 0 or 1. */
export function roundTo(dtype: DType, value: number): number {
  switch (dtype) {
    case "f32":
      return Math.fround(value);
    case "f16":
      return Math.f16round(value);
    case "bf16":
      return new Float32Array(new Uint32Array([toBf16Bits(value) << 16]).buffer)[0]!;
    case "i32":
      return value | 0;
    case "u32":
      return value >>> 0;
    case "bool":
      return value ? 1 : 0;
  }
}

/** Allocates a host array fit for a type. */
export function hostArrayFor(dtype: DType, size: number): HostData {
  if (isFloat(dtype)) return new Float32Array(size);
  return dtype === "i32" ? new Int32Array(size) : dtype === "u32" ? new Uint32Array(size) : new Uint8Array(size);
}
