/**
 * The safetensors format: named arrays and text metadata in one file, on plain data. Every way in which a file can be
 * broken is a typed error that names the array and the values.
 *
 * Our own code, because npm has no maintained library for it.
 *
 * Source: the format section of the `safetensors` project's README, and the checks of its reference implementation.
 *
 * @module
 */
import { CheckpointError } from "../../mod.ts";
import { findDuplicateKey } from "./json_keys.ts";

/** Name of an element type in a safetensors file. */
export type SafetensorsDType =
  | "BOOL"
  | "F4"
  | "F6_E2M3"
  | "F6_E3M2"
  | "U8"
  | "I8"
  | "F8_E5M2"
  | "F8_E4M3"
  | "F8_E8M0"
  | "F8_E4M3FNUZ"
  | "F8_E5M2FNUZ"
  | "I16"
  | "U16"
  | "F16"
  | "BF16"
  | "I32"
  | "U32"
  | "F32"
  | "C64"
  | "F64"
  | "I64"
  | "U64";

/** Bits of one element. */
const BITS: Readonly<Record<SafetensorsDType, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** One array of a file, in the file's own terms. */
export interface NamedArray {
  /** Element type. */
  readonly dtype: SafetensorsDType;
  /** Sizes of the axes; empty for a scalar. */
  readonly shape: readonly number[];
  /** The elements, little-endian in row-major order. */
  readonly data: Uint8Array;
}

/** The content of a file. */
export interface SafetensorsFile {
  /** The arrays by name, in the order of their data. */
  readonly arrays: ReadonlyMap<string, NamedArray>;
  /** Free text by name. */
  readonly metadata: Readonly<Record<string, string>>;
}

const LENGTH_BYTES = 8;
const ALIGNMENT = 8;
const METADATA = "__metadata__";
/** The reference implementation refuses longer headers. */
const MAX_HEADER_BYTES = 100_000_000;

/**
 * Writes arrays as a safetensors file. Wide element types come first and names are sorted, so the same arrays always give
 * the same bytes and each array is aligned to its element size.
 *
 * @param arrays The arrays by name; `__metadata__` is not a name.
 * @param metadata Free text by name.
 * @returns The file.
 * @throws {CheckpointError} If a shape and its bytes do not agree, or a name is reserved.
 *
 * @example There and back
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decodeSafetensors, encodeSafetensors } from "@switchyard/switchyard/train";
 *
 * const arrays = new Map([["bias", { dtype: "U8", shape: [3], data: new Uint8Array([1, 2, 3]) } as const]]);
 * const file = decodeSafetensors(encodeSafetensors(arrays, { step: "120" }));
 * assertEquals(file.arrays.get("bias")?.data, new Uint8Array([1, 2, 3]));
 * assertEquals(file.metadata, { step: "120" });
 * ```
 */
export function encodeSafetensors(
  arrays: ReadonlyMap<string, NamedArray>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const ordered = [...arrays].sort(([a, { dtype: x }], [b, { dtype: y }]) => BITS[y] - BITS[x] || compareText(a, b));
  const entries: string[] = [];
  if (Object.keys(metadata).length > 0) entries.push(`${JSON.stringify(METADATA)}:${JSON.stringify(metadata)}`);
  let end = 0;
  for (const [name, { dtype, shape, data }] of ordered) {
    expectWritable(name, { dtype, shape, data });
    const offsets = [end, end += data.length];
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: offsets })}`);
  }
  const header = new TextEncoder().encode(`{${entries.join(",")}}`);
  const headerBytes = Math.ceil(header.length / ALIGNMENT) * ALIGNMENT;

  const bytes = new Uint8Array(LENGTH_BYTES + headerBytes + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(header, LENGTH_BYTES);
  bytes.fill(0x20, LENGTH_BYTES + header.length, LENGTH_BYTES + headerBytes);
  let at = LENGTH_BYTES + headerBytes;
  for (const [, { data }] of ordered) {
    bytes.set(data, at);
    at += data.length;
  }
  return bytes;
}

/**
 * Reads a safetensors file and checks all of it: header, names, types, and that the arrays cover the data without gap,
 * overlap or rest.
 *
 * @param bytes The file.
 * @param options `name` is what messages call the file.
 * @returns The arrays and metadata. Data is not copied unless it would be misaligned for a typed array.
 * @throws {CheckpointError} If the file breaks the format anywhere.
 */
export function decodeSafetensors(bytes: Uint8Array, options: { readonly name?: string } = {}): SafetensorsFile {
  const file = options.name ?? "safetensors data";
  const headerBytes = readHeaderLength(bytes, file);
  const start = LENGTH_BYTES + headerBytes;
  const header = readHeader(bytes.subarray(LENGTH_BYTES, start), file);
  const entries: [name: string, Entry][] = [];
  let metadata: Readonly<Record<string, string>> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA) metadata = readMetadata(value, file);
    else entries.push([name, readEntry(name, value, file)]);
  }
  entries.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  expectCovered(entries, bytes.length - start, file);
  const arrays = new Map(entries.map(([name, { dtype, shape, begin, end }]) => {
    const view = bytes.subarray(start + begin, start + end);
    return [name, { dtype, shape, data: view.byteOffset % ALIGNMENT === 0 ? view : view.slice() }];
  }));
  return { arrays, metadata };
}

interface Entry {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

type Facts = readonly (readonly [name: string, value: string])[];

/** The error of a file that breaks the format. */
function broken(file: string, code: string, why: string, facts: Facts = []): CheckpointError {
  const summary = `Cannot read ${file}: ${why}`;
  return new CheckpointError(`safetensors/${code}`, {
    summary,
    facts,
    details: { file, ...Object.fromEntries(facts) },
  });
}

function readHeaderLength(bytes: Uint8Array, file: string): number {
  if (bytes.length < LENGTH_BYTES) {
    throw broken(
      file,
      "truncated",
      `it has ${bytes.length} bytes, and the header's length alone takes ${LENGTH_BYTES}`,
    );
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw broken(
      file,
      "header-size",
      `its header should take ${length} bytes, more than the ${MAX_HEADER_BYTES} allowed`,
    );
  }
  if (BigInt(bytes.length - LENGTH_BYTES) < length) {
    throw broken(
      file,
      "truncated",
      `its header should take ${length} bytes, and ${bytes.length - LENGTH_BYTES} are left`,
    );
  }
  return Number(length);
}

function readHeader(bytes: Uint8Array, file: string): Readonly<Record<string, unknown>> {
  let header: unknown;
  let text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (error) {
    throw broken(file, "header-json", "its header is not JSON", [[
      "parser",
      error instanceof Error ? error.message : "",
    ]]);
  }
  if (!text.startsWith("{")) {
    throw broken(file, "header-json", `its header begins with ${JSON.stringify(text[0])}, not with "{"`);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) {
    throw broken(file, "duplicate", `its header has the key ${JSON.stringify(duplicate)} twice`);
  }
  return header as Readonly<Record<string, unknown>>;
}

function readMetadata(value: unknown, file: string): Readonly<Record<string, string>> {
  if (!isObject(value)) throw broken(file, "metadata", `its ${METADATA} is ${JSON.stringify(value)}, not an object`);
  for (const [name, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      throw broken(file, "metadata", `its ${METADATA}.${name} is ${JSON.stringify(text)}, not text`);
    }
  }
  return value as Readonly<Record<string, string>>;
}

function readEntry(name: string, value: unknown, file: string): Entry {
  const array = `array ${JSON.stringify(name)}`;
  if (!isObject(value)) throw broken(file, "entry", `${array} is ${JSON.stringify(value)}, not an object`);
  const { dtype, shape, data_offsets: offsets, ...rest } = value;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw broken(file, "entry", `${array} has the unknown key ${JSON.stringify(unknown)}`);
  if (!isDType(dtype)) {
    throw broken(file, "dtype", `${array} has the unknown dtype ${JSON.stringify(dtype) ?? "(none)"}`);
  }
  if (!isCounts(shape)) throw broken(file, "shape", `${array} has the shape ${JSON.stringify(shape) ?? "(none)"}`);
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    throw broken(file, "offsets", `${array} has the data_offsets ${JSON.stringify(offsets) ?? "(none)"}`);
  }
  const [begin, end] = offsets as [number, number];
  const needed = bytesOf(dtype, shape);
  if (needed !== end - begin) {
    throw broken(file, "size", `${array} takes ${needed ?? "an impossible number of"} bytes and has ${end - begin}`, [
      ["dtype", dtype],
      ["shape", `[${shape.join(", ")}]`],
      ["offsets", `${begin}..${end}`],
    ]);
  }
  return { dtype, shape, begin, end };
}

function expectCovered(entries: readonly [name: string, Entry][], available: number, file: string): void {
  let covered = 0;
  let previous = "the start of the data";
  for (const [name, { begin, end }] of entries) {
    const array = JSON.stringify(name);
    if (end > available) {
      throw broken(file, "truncated", `array ${array} ends at byte ${end} of the data, and the file has ${available}`);
    }
    if (begin < covered) {
      throw broken(
        file,
        "overlap",
        `array ${array} begins at byte ${begin}, inside ${previous}, which ends at ${covered}`,
      );
    }
    if (begin > covered) {
      throw broken(file, "hole", `bytes ${covered}..${begin} of the data, before array ${array}, belong to no array`);
    }
    covered = end;
    previous = `array ${array}`;
  }
  if (covered < available) throw broken(file, "hole", `the last ${available - covered} bytes belong to no array`);
}

function expectWritable(name: string, { dtype, shape, data }: NamedArray): void {
  const unwritable = (why: string): CheckpointError =>
    new CheckpointError("safetensors/write", {
      summary: `Cannot write safetensors data: ${why}`,
      details: { name, dtype, shape },
    });
  if (name === METADATA) throw unwritable(`${METADATA} is not a name for an array`);
  if (!isDType(dtype)) throw unwritable(`array ${JSON.stringify(name)} has the unknown dtype ${JSON.stringify(dtype)}`);
  const needed = isCounts(shape) ? bytesOf(dtype, shape) : undefined;
  if (needed !== data.length) {
    throw unwritable(
      `array ${JSON.stringify(name)}, ${dtype}[${shape.join(", ")}], takes ${
        needed ?? "an impossible number of"
      } bytes and has ${data.length}`,
    );
  }
}

/** Bytes of an array, or undefined where they are not a whole, safe number. */
function bytesOf(dtype: SafetensorsDType, shape: readonly number[]): number | undefined {
  // A size of zero first, or the product of the others could overflow beside it.
  const elements = shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
  const bytes = elements * BITS[dtype] / 8;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

function isDType(value: unknown): value is SafetensorsDType {
  return typeof value === "string" && Object.hasOwn(BITS, value);
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Orders by code unit, which unlike a locale is the same everywhere. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
