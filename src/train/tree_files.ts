/**
 * Trees of tensors as safetensors files: an array for each leaf, named by its path.
 *
 * @module
 */
import { CheckpointError, type DType, type HostData, leavesOf, mapTree, read, type Tensor, tensor } from "../../mod.ts";
import { decodeSafetensors, encodeSafetensors, type NamedArray, type SafetensorsDType } from "./safetensors.ts";

const FILE_TYPES: Readonly<Record<DType, SafetensorsDType>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  i32: "I32",
  u32: "U32",
  bool: "BOOL",
};

const SHOWN_PROBLEMS = 5;

/** What {@linkcode decodeTree} needs besides the bytes. */
export interface DecodeOptions<T> {
  /** A tree with the structure, shapes and types that are wanted; its values are not looked at. */
  readonly like: T;
  /** What messages call the file. */
  readonly name: string;
}

/**
 * Reads trees from the device, all in one round trip, and writes each as a safetensors file.
 *
 * @param trees The trees by name; a name becomes the file name `name.safetensors`.
 * @param metadata Free text for every file.
 * @returns The files' bytes by file name.
 */
export async function encodeTrees(
  trees: Readonly<Record<string, unknown>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<ReadonlyMap<string, Uint8Array>> {
  const named = Object.entries(trees).map(([name, tree]) => [name, leavesOf(tree)] as const);
  const values = await read(named.map(([, leaves]) => leaves.map(([, leaf]) => leaf)));
  return new Map(named.map(([name, leaves], i) => {
    const arrays = new Map(leaves.map(([path, leaf], j) => [arrayName(path), arrayOf(leaf, values[i]![j]!)]));
    return [`${name}.safetensors`, encodeSafetensors(arrays, metadata)];
  }));
}

/**
 * Reads a tree back. Every bit of it is as it was written.
 *
 * @param bytes A safetensors file.
 * @returns A tree like `like`, its tensors on the host until they are used.
 * @throws {CheckpointError} If the file is broken, or holds other arrays than the tree has leaves.
 */
export function decodeTree<T>(bytes: Uint8Array, { like, name }: DecodeOptions<T>): T {
  const { arrays } = decodeSafetensors(bytes, { name });
  const wanted = new Map(leavesOf(like).map(([path, leaf]) => [arrayName(path), leaf]));
  expectSameArrays(arrays, wanted, name);
  return mapTree(like, (leaf, path) => {
    const values = valuesOf(arrays.get(arrayName(path))!, leaf.dtype);
    return tensor(values, { shape: leaf.shape, dtype: leaf.dtype });
  });
}

/** The path of a leaf without the leading dot, indexes as other programs write them: `blocks.0.attention.qkv.weight`. */
function arrayName(path: string): string {
  return path.replaceAll(/\[(\d+)\]/g, ".$1").replace(/^\./, "");
}

function arrayOf({ dtype, shape }: Tensor, values: HostData): NamedArray {
  return { dtype: FILE_TYPES[dtype], shape, data: packed(values, dtype) };
}

/** Host values in the file's own width. */
function packed(values: HostData, dtype: DType): Uint8Array {
  // bf16 arrives widened to f32, so its bits are the upper halves.
  if (dtype === "bf16") return bytesOf(Uint16Array.from(new Uint32Array(Float32Array.from(values).buffer), upperHalf));
  if (dtype === "f16") return bytesOf(Float16Array.from(values));
  if (dtype === "bool") return Uint8Array.from(values);
  if (dtype === "f32") return bytesOf(Float32Array.from(values));
  return bytesOf(dtype === "i32" ? Int32Array.from(values) : Uint32Array.from(values));
}

function upperHalf(word: number): number {
  return word >>> 16;
}

function bytesOf({ buffer }: { readonly buffer: ArrayBuffer }): Uint8Array {
  return new Uint8Array(buffer);
}

/** A file's values as the host keeps them. */
function valuesOf({ data }: NamedArray, dtype: DType): HostData {
  const { buffer, byteOffset, byteLength } = data;
  if (dtype === "bool") return data;
  if (dtype === "bf16") {
    const bits = Uint32Array.from(new Uint16Array(buffer, byteOffset, byteLength / 2), (half) => half << 16);
    return new Float32Array(bits.buffer);
  }
  if (dtype === "f16") return Float32Array.from(new Float16Array(buffer, byteOffset, byteLength / 2));
  const length = byteLength / 4;
  if (dtype === "f32") return new Float32Array(buffer, byteOffset, length);
  return dtype === "i32" ? new Int32Array(buffer, byteOffset, length) : new Uint32Array(buffer, byteOffset, length);
}

function expectSameArrays(
  arrays: ReadonlyMap<string, NamedArray>,
  wanted: ReadonlyMap<string, Tensor>,
  name: string,
): void {
  const problems: (readonly [array: string, problem: string])[] = [];
  for (const [array, { dtype, shape }] of wanted) {
    const found = arrays.get(array);
    const [expected, actual] = [describe(FILE_TYPES[dtype], shape), found && describe(found.dtype, found.shape)];
    if (expected !== actual) problems.push([array, `${actual ?? "missing"}, the model has ${expected}`]);
  }
  for (const [array, { dtype, shape }] of arrays) {
    if (!wanted.has(array)) problems.push([array, `${describe(dtype, shape)}, the model has no such array`]);
  }
  if (problems.length === 0) return;
  const more = problems.length - SHOWN_PROBLEMS;
  throw new CheckpointError("checkpoint/arrays", {
    summary: `Cannot load ${name}: ${problems.length} of its arrays ${
      problems.length === 1 ? "does" : "do"
    } not fit the model`,
    facts: [...problems.slice(0, SHOWN_PROBLEMS), ...(more > 0 ? [["...", `${more} more`] as const] : [])],
    fix: "use the config.json that was written with the file",
    details: { name, problems },
  });
}

function describe(dtype: SafetensorsDType, shape: readonly number[]): string {
  return `${dtype}[${shape.join(", ")}]`;
}
