/**
 * What a kernel sees of a buffer: all of it, the stretch that one of several dispatches works on, or several windows that
 * together show what one binding cannot.
 *
 * @module
 */
import { bytesPerElement, type DType } from "../core/dtype.ts";
import { bytesInBuffer } from "../core/windows.ts";

/** A stretch of a buffer, in bytes. */
export interface BindingWindow {
  /** Where it starts. */
  readonly offset: number;
  /** How long it is. */
  readonly size: number;
}

/** The stretch of elements that one of several dispatches of a kernel works on. */
export interface Part {
  /** Its first element, a multiple of 128. */
  readonly start: number;
  /** Elements it has. */
  readonly count: number;
  /** Buffers of which the kernel binds that stretch alone. */
  readonly buffers: ReadonlySet<string>;
  /** Text of the index that counts from the beginning of the buffers, and of the one that counts from the part's. */
  readonly index: { readonly whole: string; readonly own: string };
}

/**
 * The stretches of a buffer that a dispatch binds, in order; null for all of it.
 *
 * @param bytes Of the buffer.
 * @param mostBytes Of one window.
 * @param part What the dispatch binds of the buffer, if it is one of several.
 */
export function bindingWindows(
  dtype: DType,
  bytes: number,
  mostBytes: number,
  part: Part | undefined,
): readonly (BindingWindow | null)[] {
  if (part !== undefined) {
    const size = bytesInBuffer({ shape: [part.count], dtype });
    return [{ offset: part.start * bytesPerElement(dtype), size }];
  }
  if (bytes <= mostBytes) return [null];
  return Array.from({ length: Math.ceil(bytes / mostBytes) }, (_, i) => {
    const offset = i * mostBytes;
    return { offset, size: Math.min(mostBytes, bytes - offset) };
  });
}

/** Bytes of one element of a buffer's WGSL array. */
export function typeBytes(dtype: DType, lanes: 1 | 4): number {
  return lanes === 1 ? dtype === "f16" ? 2 : 4 : 4 * bytesPerElement(dtype);
}

/** How a module reads and writes the array of a buffer. */
export interface View {
  /** An expression. */
  load(index: string): string;
  /** A statement. */
  store(index: string, value: string): string;
  /** A statement that stores one component of an element; absent where that cannot be. */
  storeLane?(index: string, lane: "x" | "y" | "z" | "w", value: string): string;
}

/** A buffer that is bound once. */
export function plainView(name: string): View {
  return {
    load: (index) => `${name}[${index}]`,
    store: (index, value) => `${name}[${index}] = ${value};`,
    storeLane: (index, lane, value) => `${name}[${index}].${lane} = ${value};`,
  };
}

/** A buffer that is bound once as a uniform buffer, an array of four elements each whatever is read of it. */
export function uniformView(name: string, lanes: 1 | 4): View {
  return {
    load: (index) => lanes === 4 ? `${name}[${index}]` : `${name}[(${index}) >> 2u][(${index}) & 3u]`,
    store: () => {
      throw new Error("unreachable: uniform buffers are only read");
    },
  };
}

/** A buffer that is bound as several windows of `length` array elements each: functions choose among them. */
export function windowedView(
  names: readonly string[],
  { type, access, length, define }: {
    readonly type: string;
    readonly access: "read" | "read_write";
    readonly length: number;
    readonly define: (text: string) => void;
  },
): View {
  const [first] = names as [string];
  const choose = (use: (element: string) => string) =>
    names.map((name, i) => {
      const bound = use(i === 0 ? `${name}[i]` : `${name}[i - ${i * length}u]`);
      return i === names.length - 1 ? `  ${bound}` : `  if (i < ${(i + 1) * length}u) { ${bound} }`;
    }).join("\n");
  const load = `fn ${first}_load(i: u32) -> ${type} {\n${choose((element) => `return ${element};`)}\n}`;
  const store = `fn ${first}_store(i: u32, value: ${type}) {\n${choose((element) => `${element} = value; return;`)}\n}`;
  define(access === "read" ? load : `${load}\n${store}`);
  return {
    load: (index) => `${first}_load(${index})`,
    store: (index, value) => `${first}_store(${index}, ${value});`,
  };
}
