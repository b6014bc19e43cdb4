/**
 * The contract between a primitive and the compiler: how an op becomes WGSL. Nothing here touches a device.
 *
 * @module
 */
import type { DType } from "./dtype.ts";
import type { Aval, Shape } from "./shape.ts";

/** Traits of the adapter a kernel is built for. */
export interface AdapterTraits {
  /** Name as the driver reports it. */
  readonly name: string;
  /** A CPU driver: pay for loads, not arithmetic; no workgroup memory. */
  readonly software: boolean;
  /** Whether `shader-f16` is enabled. */
  readonly f16: boolean;
  /** Bytes of workgroup memory a kernel may use. */
  readonly workgroupBytes: number;
  /** Largest number of invocations in a workgroup. */
  readonly workgroupInvocations: number;
  /** Storage buffers one kernel may bind. */
  readonly storageBuffers: number;
  /** Bytes that one binding may show of a buffer; absent where there is no such limit. */
  readonly bindingBytes?: number;
  /** Largest side of a texture that kernels may write and read back, or 0 where they cannot. */
  readonly textureSide: number;
  /** What was measured on this adapter; absent where the defaults hold. */
  readonly tuning?: KernelTuning;
}

/** A register tile of a product on software adapters. */
export interface TileChoice {
  /** Rows of one lane, a power of two from 4 up. */
  readonly rows: number;
  /** Columns of one lane, in groups of four; a power of two. */
  readonly columns: number;
  /** Lanes side by side along the columns (1, 2, 4 or 8); the others go along the rows. */
  readonly lanesN: number;
}

/** Size of a product: small below 2^22 multiply-adds, large from 2^27 on. */
export type WorkClass = "small" | "medium" | "large";

/** What stays on chip between the two products of an expert: its hidden rows, its rows of the result, or nothing. */
export type ExpertKernelName = "hidden-resident" | "output-resident" | "pair";

/** Rows by columns of the result that a workgroup owns on hardware adapters. */
export type SharedTileName = "32x64" | "64x64" | "64x128" | "128x128";

/**
 * Choices between kernels that compute the same, by what was measured on an adapter. What is absent is chosen by built-in
 * rules.
 */
export interface KernelTuning {
  /** Multiply-adds from which the operands of a product are copied to textures first; Infinity never, 0 always. */
  readonly textureWork?: number;
  /** The same for the products of `execute`. */
  readonly expertTextureWork?: number;
  /** Multiply-adds from which such a product of `execute` takes wider register tiles. */
  readonly expertWideWork?: number;
  /** Elements from which row kernels of software adapters read their operands through textures. */
  readonly rowTextureElements?: number;
  /** Register tiles of products that read textures. */
  readonly textureTiles?: Readonly<Partial<Record<WorkClass, TileChoice>>>;
  /** Register tiles of products that read buffers, where the result is wide enough: right operand plain or transposed. */
  readonly bufferTiles?: Readonly<Partial<Record<"plain" | "transposed", TileChoice>>>;
  /** Form of the kernels of `execute` on hardware adapters, where it can be had. */
  readonly expertKernel?: ExpertKernelName;
  /** Workgroup tiles of products on hardware adapters. */
  readonly sharedTiles?: Readonly<Partial<Record<WorkClass, SharedTileName>>>;
}

/** How wide one expression is: `t` is the WGSL type of a value of the node's dtype, `b` the boolean of that width. */
export interface ExprWidth {
  /** 1 for scalars, 4 for vec4. */
  readonly lanes: 1 | 4;
  /** WGSL type of the output: `f32`, `vec4<f32>`, `u32`, `vec4<bool>`, … f16 and bf16 are computed as f32. */
  readonly t: string;
  /** WGSL types of the inputs. */
  readonly inputs: readonly string[];
}

/**
 * Where an element is: a linear index and, on demand, coordinates. Strings are WGSL u32 expressions without side
 * effects; `coords` costs divisions, `linear` is free when the index came in linear.
 */
export interface Index {
  /** Shape the index runs over. */
  readonly shape: Shape;
  /** Linear index expression. */
  linear(): string;
  /** One coordinate expression for each axis. */
  coords(): readonly string[];
}

/** Tools a view has while it maps an output index to input indices. */
export interface ViewContext {
  /** An index from coordinates. */
  at(shape: Shape, coords: readonly string[]): Index;
  /** An index from a linear expression. */
  linear(shape: Shape, expression: string): Index;
  /** Scalar value of another input at an index, for views whose reading place depends on data (take). */
  value(input: number, index: Index): string;
}

/** One place a view may read from; the first whose `when` holds is taken, and zero if none does. */
export interface ViewSource {
  /** Number of the input. */
  readonly input: number;
  /** Where to read; must be in bounds when `when` holds (it is clamped otherwise). */
  readonly index: Index;
  /** WGSL bool expression; absent means always. */
  readonly when?: string;
}

/** How four consecutive outputs of a view lie in its input: together, all the same element, or apart. */
export type LaneLayout = "contiguous" | "splat" | "scattered";

/** A buffer that a kernel's dispatch reads or writes. */
export interface Operand extends Aval {
  /** Unique within the kernel. */
  readonly id: number;
}

/** A two-dimensional array of vec4<f32> that one dispatch writes and later ones read. */
export interface TextureOperand {
  /** Texels in a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** Unique within the program. */
  readonly name: string;
}

/** Lines that lie one behind the other in a buffer, and the rectangle of a texture that they become. */
export interface TextureRegion {
  /** Element of the buffer at which the first line starts: a multiple of 4. */
  readonly start: number;
  /** Column of the texture, in texels, that the rectangle starts at. */
  readonly x: number;
  /** Row of the texture that it starts in, the first by default. */
  readonly y?: number;
  /** Texels of a line. */
  readonly width: number;
  /** Number of lines. */
  readonly height: number;
}

/** Elements that a line copied to a texture is a multiple of: WebGPU wants 256 bytes. */
export const COPIED_ELEMENTS = 64;

/** WGSL access to operands inside one dispatch. Index expressions count elements, and are u32. */
export interface Code {
  /** Loads one element (lanes 1) or four consecutive ones (lanes 4; the index is a multiple of 4). bool loads as bool, f16/bf16 as f32. */
  load(operand: Operand, index: string, lanes?: 1 | 4): string;
  /** A statement that stores one element or four. */
  store(operand: Operand, index: string, value: string, lanes?: 1 | 4): string;
  /** The vec4<f32> at column `x` and row `y` (u32) of a texture; outside of it, any value. */
  texel(texture: TextureOperand, x: string, y: string): string;
  /** A statement that writes a vec4<f32> to a texture. A dispatch that writes one may not read it. */
  setTexel(texture: TextureOperand, x: string, y: string, value: string): string;
}

/** One dispatch of a hand-written kernel. */
export interface DispatchSpec {
  /** Name for people and profiles. */
  readonly label: string;
  /** Invocations needed (one axis; the compiler folds and bounds-checks), or explicit workgroups. */
  readonly grid: { readonly threads: number } | { readonly workgroups: readonly [number, number, number] };
  /** Defaults to 64 by 1 by 1. */
  readonly workgroupSize?: readonly [number, number, number];
  /** Operands read. One that is also written must appear in `writes` only. */
  readonly reads: readonly Operand[];
  /** Operands written; each element of an output that is read must be written by some dispatch. */
  readonly writes: readonly Operand[];
  /** Module-level WGSL: functions, constants, workgroup variables. May use the operands through `code`. */
  prelude?(code: Code): string;
  /**
   * Body of the entry point. In scope: `id` (u32, the folded invocation number, already bounds-checked with
   * `grid.threads`), `wg` (vec3<u32> workgroup id), `lid` (vec3<u32> local id), `lane` (u32 local index), and `inf()`.
   */
  body(code: Code): string;
}

/** What a hand-written kernel builds on. */
export interface KernelContext {
  /** The adapter. */
  readonly adapter: AdapterTraits;
  /** The node's inputs. */
  readonly inputs: readonly Operand[];
  /** The node's outputs. */
  readonly outputs: readonly Operand[];
  /** Whether stores to the output carry elementwise work along: then the text of each store is long. */
  readonly hasEpilogue: boolean;
  /** Whether anything reads an output. One that nothing reads need not be written. */
  isRead(output: Operand): boolean;
  /** A temporary buffer, alive during this kernel only. Its bytes are garbage at first. */
  scratch(shape: Shape, dtype: DType): Operand;
  /**
   * A texture that holds an input in some layout, made once for all kernels of the program that ask for the same input
   * in the same layout. If `isNew`, this kernel has to add the dispatch that fills it. Sides may not exceed
   * `adapter.textureSide`.
   */
  texture(
    operand: Operand,
    layout: string,
    size: { readonly width: number; readonly height: number },
  ): { readonly texture: TextureOperand; readonly isNew: boolean };
  /**
   * Fills a texture with an input as it lies in its buffer, by a copy of the driver's, which costs a tenth of a dispatch
   * that does the same. Lines have a multiple of {@linkcode COPIED_ELEMENTS} elements.
   *
   * @returns Whether it did: not if the input is not a buffer of f32. Then this kernel has to add a dispatch.
   */
  copyToTexture(label: string, operand: Operand, texture: TextureOperand, regions: readonly TextureRegion[]): boolean;
  /** Adds a dispatch; they run in order. */
  dispatch(spec: DispatchSpec): void;
}

/** How a primitive becomes WGSL. */
export type Lowering<A> =
  | {
    /** A function of its inputs' elements. Fused into consumers. */
    readonly as: "expr";
    /** Expression of the argument expressions; must work for scalars and, unless `scalar`, for vec4. */
    wgsl(args: readonly string[], attrs: A, width: ExprWidth): string;
    /** Module-level functions the expression needs, once per module for each width used. */
    prelude?(width: ExprWidth, attrs: A): string;
    /** True for expressions that exist for scalars only. */
    readonly scalar?: true;
    /** Rough cost in additions, 1 by default: expensive values are stored, not recomputed. */
    readonly cost?: number;
    /** Whether the result goes to a buffer whatever it costs, because its type is what matters. */
    readonly stored?: true;
  }
  | {
    /** A function of the index alone (constants, counters). */
    readonly as: "index";
    /** Scalar WGSL expression of the node's dtype. */
    wgsl(index: Index, attrs: A, aval: Aval): string;
    /** Whether every element is the same. */
    readonly uniform?: true;
  }
  | {
    /** Elements picked from the inputs. Fused into consumers. */
    readonly as: "view";
    /** Places to read for an output index. */
    sources(index: Index, view: ViewContext, attrs: A, inputs: readonly Aval[]): readonly ViewSource[];
    /** How four consecutive outputs lie in input `input`. Default scattered. */
    lanes?(attrs: A, inputs: readonly Aval[], output: Aval, input: number): LaneLayout;
    /** The output holds the same elements at the same linear index (reshape). */
    readonly linear?: true;
  }
  | {
    /** A monoid over axes; output without those axes. */
    readonly as: "reduce";
    /** Axes reduced, ascending. */
    axes(attrs: A): readonly number[];
    /** Set by the compiler when it splits a long reduction: parts, as a new last axis of the output. */
    parts?(attrs: A): number;
    /** Neutral element, as a scalar WGSL expression of the type. */
    identity(dtype: DType): string;
    /** WGSL expression that joins two values (scalars or vec4 of type `t`). */
    combine(a: string, b: string, t: string): string;
  }
  | {
    /** A hand-written kernel. */
    readonly as: "kernel";
    /** Emits the dispatches. */
    build(kernel: KernelContext, attrs: A): void;
    /** Inputs whose views and casts may be fused into `load`; others arrive as plain buffers. */
    readonly prologue?: readonly number[];
    /** Those of them that are so large that what is otherwise stored for its type's sake is computed in `load` as well. */
    readonly unstored?: readonly number[];
    /** Whether elementwise consumers of the single output may be fused into `store`. */
    readonly epilogue?: boolean;
    /** False sends this node to its expansion instead (composites only), say for a shape the kernel cannot take. */
    accepts?(inputs: readonly Aval[], attrs: A, adapter: AdapterTraits): boolean;
    /** Whether bf16 results are stored four elements at a time. Others are computed in f32, with a cast behind. */
    packs?(inputs: readonly Aval[], attrs: A): boolean;
  }
  | {
    /** A composite without a kernel: always expanded. */
    readonly as: "inline";
  };

/** Tagged template for WGSL text: joins and nothing else, so that editors can highlight it. */
export function wgsl(parts: TemplateStringsArray, ...values: readonly (string | number)[]): string {
  return String.raw({ raw: parts.raw }, ...values);
}
