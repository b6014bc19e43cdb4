/**
 * One WGSL module: its bindings, how elements are loaded and stored for each dtype, and the text around a body.
 *
 * @module
 */
import { computeType } from "../core/arithmetic.ts";
import type { DType } from "../core/dtype.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import { windowBytes } from "../core/windows.ts";
import {
  type BindingWindow,
  bindingWindows,
  type Part,
  plainView,
  typeBytes,
  uniformView,
  type View,
  windowedView,
} from "./views.ts";

/** A buffer of a program: a value of the graph, or a kernel's own scratch. */
export type BufferRef = string;

/** One binding of a dispatch. */
export interface Binding {
  /** The buffer, or the texture. */
  readonly buffer: BufferRef;
  /** Whether the kernel writes it. */
  readonly access: "read" | "read_write";
  /** Whether it is a texture, which a kernel either reads or writes, never both. */
  readonly texture?: true;
  /** The stretch of the buffer that is bound, in bytes; absent for all of it. */
  readonly window?: BindingWindow;
  /** Whether it is bound as a uniform buffer rather than a storage buffer. */
  readonly uniform?: true;
}

/** A texture that holds a buffer of f32 as it is, line behind line, four elements a texel. */
export interface TexelSource {
  /** The texture. */
  readonly texture: BufferRef;
  /** Texels of a line, a power of two; Infinity if there is one line only. */
  readonly line: number;
}

/** Options of {@linkcode ModuleWriter}. */
export interface ModuleOptions {
  /** Buffers this dispatch writes: they are bound once, read and write. */
  readonly written: Iterable<BufferRef>;
  /** Says how much of a buffer one binding may show. */
  readonly adapter: Pick<AdapterTraits, "bindingBytes">;
  /** Bytes of a buffer. */
  bytesOf(buffer: BufferRef): number;
  /** Buffers read that are the same memory as a written one: read to written. */
  readonly inPlace?: ReadonlyMap<BufferRef, BufferRef>;
  /** Lanes in which the written ones of these are stored, 4 by default. */
  readonly width?: 1 | 4;
  /** What this dispatch works on, if it is one of several. */
  readonly part?: Part | undefined;
  /** Bytes up to which a buffer that is only read is bound as a uniform buffer; 0 by default. */
  readonly uniformBytes?: number;
  /** Buffers that are read from textures where four elements are loaded together; none by default. */
  readonly texels?: ReadonlyMap<BufferRef, TexelSource>;
}

/** Names of four elements that are computed together. */
export const LANES = ["x", "y", "z", "w"] as const;

/** Uniform buffers of a kernel at most; every adapter has a few more. */
const MOST_UNIFORMS = 8;

/**
 * Bytes up to which kernels of an adapter should bind what they only read as a uniform buffer. The software driver loads
 * from storage buffers lane by lane, with a test and a branch for each element, and from uniform buffers without.
 */
export function uniformBytesFor({ software }: Pick<AdapterTraits, "software">): number {
  // What every adapter can bind.
  return software ? 65_536 : 0;
}

/** WGSL type in which `lanes` elements of a dtype are computed. */
export function wgslType(dtype: DType, lanes: 1 | 4): string {
  const scalar = computeType(dtype);
  return lanes === 1 ? scalar : `vec4<${scalar}>`;
}

/** WGSL element type in a buffer of `lanes` elements. */
function storageType(dtype: DType, lanes: 1 | 4): string {
  if (dtype === "bf16") return lanes === 1 ? "u32" : "vec2<u32>";
  const scalar = dtype === "bool" ? "u32" : dtype;
  return lanes === 1 ? scalar : `vec4<${scalar}>`;
}

/** WGSL type of four elements in a uniform buffer, where arrays have a stride of 16 bytes; null if they are shorter. */
function uniformType(dtype: DType): string | null {
  return dtype === "bf16" || dtype === "f16" ? null : storageType(dtype, 4);
}

/** Where a texture has the four elements from an index on. */
function texelPlace({ line }: TexelSource, index: string): string {
  if (line === Infinity) return `vec2<u32>((${index}) >> 2u, 0u)`;
  return `vec2<u32>(((${index}) >> 2u) & ${line - 1}u, (${index}) >> ${2 + Math.log2(line)}u)`;
}

const BF16 = `
fn bf16_to_f32(bits: u32) -> f32 { return bitcast<f32>(bits << 16u); }
fn bf16_from_f32(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, 0x7fc0u, (bits & 0x7fffffffu) > 0x7f800000u);
}
fn bf16_unpack(words: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
fn bf16_pack(value: vec4<f32>) -> vec2<u32> {
  return vec2<u32>(
    bf16_from_f32(value.x) | (bf16_from_f32(value.y) << 16u),
    bf16_from_f32(value.z) | (bf16_from_f32(value.w) << 16u),
  );
}`;

interface Bound extends Binding {
  readonly name: string;
  /** Of an element, or of the whole array of a uniform buffer. */
  readonly type: string;
}

interface BoundTexture {
  readonly texture: BufferRef;
  readonly access: "read" | "write";
  readonly name: string;
}

/** Collects what a body uses and writes the module's text. */
export class ModuleWriter {
  readonly #bound: Bound[] = [];
  /** By the name of a buffer's first binding. */
  readonly #views = new Map<string, View>();
  readonly #preludes = new Map<string, string>();
  readonly #textures: BoundTexture[] = [];
  readonly #written: ReadonlySet<BufferRef>;
  readonly #inPlace: ReadonlyMap<BufferRef, BufferRef>;
  readonly #width: 1 | 4;
  readonly #bytesOf: (buffer: BufferRef) => number;
  readonly #windowBytes: number;
  readonly #part: Part | undefined;
  readonly #uniformBytes: number;
  readonly #texels: ReadonlyMap<BufferRef, TexelSource>;
  #usesF16 = false;

  /** @param options What the dispatch writes, and how large buffers and bindings are. */
  constructor(options: ModuleOptions) {
    const { written, adapter, bytesOf, inPlace = new Map(), width = 4, part, uniformBytes = 0 } = options;
    this.#written = new Set(written);
    this.#inPlace = inPlace;
    this.#width = width;
    this.#bytesOf = bytesOf;
    this.#windowBytes = windowBytes(adapter);
    this.#part = part;
    this.#uniformBytes = Math.min(uniformBytes, this.#windowBytes);
    this.#texels = options.texels ?? new Map();
  }

  /** Adds module-level text once. */
  prelude(key: string, text: string): void {
    if (!this.#preludes.has(key)) this.#preludes.set(key, text);
  }

  #bind(buffer: BufferRef, dtype: DType, lanes: 1 | 4): View {
    const uniform = this.#uniformOf(buffer, dtype);
    if (uniform !== null) return uniformView(uniform, lanes);
    const type = storageType(dtype, lanes);
    const access = this.#written.has(buffer) ? "read_write" : "read";
    const known = this.#bound.find((bound) => bound.buffer === buffer && bound.type === type);
    if (known) return this.#views.get(known.name)!;
    const twin = this.#bound.find((bound) => bound.buffer === buffer);
    if (twin && access === "read_write") {
      throw new Error(`a kernel writes ${buffer} both as ${twin.type} and as ${type}; one dispatch must use one width`);
    }
    if (dtype === "f16") this.#usesF16 = true;
    if (dtype === "bf16") this.prelude("bf16", BF16);
    const windows = bindingWindows(dtype, this.#bytesOf(buffer), this.#windowBytes, this.#partOf(buffer));
    const names = windows.map((window) => {
      const name = `b${this.#bound.length}`;
      this.#bound.push({ buffer, access, name, type, ...(window && { window }) });
      return name;
    });
    const [name] = names as [string];
    const view = windows.length === 1 ? plainView(name) : windowedView(names, {
      type,
      access,
      length: this.#windowBytes / typeBytes(dtype, lanes),
      define: (text) => this.prelude(`${name} windows`, text),
    });
    this.#views.set(name, view);
    return view;
  }

  /** Name of the uniform buffer as which a buffer is bound, or null if it is not. */
  #uniformOf(buffer: BufferRef, dtype: DType): string | null {
    const uniforms = this.#bound.filter((bound) => bound.uniform);
    const known = uniforms.find((bound) => bound.buffer === buffer);
    if (known) return known.name;
    const bytes = this.#bytesOf(buffer);
    const four = uniformType(dtype);
    // The element of a scalar is loaded once for all lanes, however it is bound.
    const suits = four !== null && bytes > 16 && bytes <= this.#uniformBytes && uniforms.length < MOST_UNIFORMS;
    if (!suits || this.#written.has(buffer) || this.#partOf(buffer) !== undefined) return null;
    if (this.#bound.some((bound) => bound.buffer === buffer)) return null;
    const name = `b${this.#bound.length}`;
    const window = { offset: 0, size: bytes };
    this.#bound.push({ buffer, access: "read", name, type: `array<${four}, ${bytes / 16}>`, window, uniform: true });
    return name;
  }

  /** The part of this dispatch, if it binds no more of a buffer. */
  #partOf(buffer: BufferRef): Part | undefined {
    return this.#part?.buffers.has(buffer) ? this.#part : undefined;
  }

  /** The index into what is bound of a buffer. */
  #indexIn(buffer: BufferRef, index: string): string {
    const part = this.#partOf(buffer);
    if (part === undefined) return index;
    return index === part.index.whole ? part.index.own : `(${index}) - ${part.start}u`;
  }

  /** An expression that loads one element, or four from an index that is a multiple of 4. */
  load(buffer: BufferRef, dtype: DType, index: string, lanes: 1 | 4): string {
    const shared = this.#inPlace.get(buffer);
    if (shared !== undefined) {
      if (lanes === this.#width) return this.load(shared, dtype, index, lanes);
      return `${this.load(shared, dtype, index, 4)}[(${index}) & 3u]`;
    }
    const texels = lanes === 4 ? this.#texels.get(buffer) : undefined;
    if (texels !== undefined) {
      return `textureLoad(${this.texture(texels.texture, "read")}, ${texelPlace(texels, index)})`;
    }
    const view = this.#bind(buffer, dtype, lanes);
    const at = this.#indexIn(buffer, index);
    if (dtype === "bf16" && lanes === 1) {
      return `bf16_to_f32((${view.load(`(${at}) >> 1u`)} >> (16u * ((${at}) & 1u))) & 0xffffu)`;
    }
    const place = view.load(lanes === 1 ? at : `(${at}) >> 2u`);
    switch (dtype) {
      case "bool":
        return `(${place} != ${lanes === 1 ? "0u" : "vec4<u32>(0u)"})`;
      case "f16":
        return `${wgslType(dtype, lanes)}(${place})`;
      case "bf16":
        return `bf16_unpack(${place})`;
      default:
        return place;
    }
  }

  /** A statement that stores one element, or four. */
  store(buffer: BufferRef, dtype: DType, index: string, value: string, lanes: 1 | 4): string {
    const view = this.#bind(buffer, dtype, lanes);
    const at = this.#indexIn(buffer, index);
    const place = lanes === 1 ? at : `(${at}) >> 2u`;
    switch (dtype) {
      case "bool":
        return view.store(
          place,
          lanes === 1 ? `select(0u, 1u, ${value})` : `select(vec4<u32>(0u), vec4<u32>(1u), ${value})`,
        );
      case "f16":
        return view.store(place, `${storageType(dtype, lanes)}(${value})`);
      case "bf16":
        if (lanes === 1) throw new Error("unreachable: bf16 is stored four elements at a time");
        return view.store(place, `bf16_pack(${value})`);
      default:
        return view.store(place, value);
    }
  }

  /** A statement that stores one of four elements, whose first has an index that is a multiple of 4. */
  storeLane(buffer: BufferRef, dtype: DType, index: string, four: string, lane: typeof LANES[number]): string {
    const view = this.#bind(buffer, dtype, 4);
    if (dtype === "bf16" || view.storeLane === undefined) throw new Error("unreachable: elements are stored by fours");
    const value = `${four}.${lane}`;
    const stored = dtype === "bool" ? `select(0u, 1u, ${value})` : dtype === "f16" ? `f16(${value})` : value;
    return view.storeLane(`(${this.#indexIn(buffer, index)}) >> 2u`, lane, stored);
  }

  /**
   * Names a texture. It is bound as a storage texture even where it is read: the software driver inlines such a read and
   * calls a function for a sampled one, three times as many instructions.
   */
  texture(texture: BufferRef, access: "read" | "write"): string {
    const known = this.#textures.find((bound) => bound.texture === texture);
    if (known?.access === access) return known.name;
    if (known) throw new Error(`a kernel both reads and writes the texture ${texture}`);
    const name = `t${this.#textures.length}`;
    this.#textures.push({ texture, access, name });
    return name;
  }

  /** Bindings in order: buffers, then textures. */
  get bindings(): readonly Binding[] {
    return [
      ...this.#bound,
      ...this.#textures.map(({ texture, access }): Binding => ({
        buffer: texture,
        access: access === "read" ? "read" : "read_write",
        texture: true,
      })),
    ];
  }

  /** The module's text. */
  render(workgroupSize: readonly [number, number, number], head: string, body: string): string {
    const lines = this.#bound.map(({ name, type, access, uniform }, i) =>
      `@group(0) @binding(${i}) ${
        uniform ? `var<uniform> ${name}: ${type}` : `var<storage, ${access}> ${name}: array<${type}>`
      };`
    );
    this.#textures.forEach(({ name, access }, i) =>
      lines.push(
        `@group(0) @binding(${this.#bound.length + i}) var ${name}: texture_storage_2d<rgba32float, ${access}>;`,
      )
    );
    const preludes = [...this.#preludes.values()].join("\n");
    const text = `${lines.join("\n")}\n${preludes}\n@compute @workgroup_size(${workgroupSize.join(", ")})
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_id) lid: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
${head}
${body}
}
`;
    // WGSL constants may not overflow to infinity, so infinity comes from a variable the compiler cannot see through.
    const infinity = text.includes("inf()")
      ? "var<private> infinity_bits: u32 = 0x7f800000u;\nfn inf() -> f32 { return bitcast<f32>(infinity_bits); }\n"
      : "";
    return `${this.#usesF16 ? "enable f16;\n" : ""}${infinity}${text}`;
  }
}
