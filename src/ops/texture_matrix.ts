/**
 * Matrices in textures: on software adapters a kernel reads four elements from a texture for a fraction of what a load
 * from a buffer costs, so operands of large products are copied to one first.
 *
 * A batch of matrices [B, R, C] lies in texels of four neighbors of a row. Rows are padded with zeros to a multiple of
 * four elements, matrices to a multiple of four rows, so that a product may walk either axis four elements at a time
 * without looking for the end. Row r of matrix b is line b * R' + r of the texture; lines past its height go on in a
 * second stripe beside the first, and so on. Where four rows share a line, the driver can copy rows of any multiple of 16
 * elements, and not of 64 alone. One such texture serves a value as left and as right operand, transposed or not.
 *
 * @module
 */
import {
  COPIED_ELEMENTS,
  type KernelContext,
  type Operand,
  type TextureOperand,
  type TextureRegion,
} from "../core/kernel.ts";
import { ceilDiv, COMPONENTS, dispatchKernelText, type KernelText, linearGrid, times } from "./kernel_text.ts";

/** How a batch of matrices lies in a texture. */
export interface TextureMatrix {
  /** Number of matrices. */
  readonly batch: number;
  /** Rows of one matrix. */
  readonly rows: number;
  /** Elements of a row. */
  readonly columns: number;
  /** Texels of a row. */
  readonly texels: number;
  /** Rows that lie one after the other in a line. */
  readonly together: 1 | 4;
  /** Lines from one matrix to the next. */
  readonly lines: number;
  /** Texels from one stripe to the next. */
  readonly stripe: number;
  /** Lines of a stripe. */
  readonly height: number;
  /** Stripes side by side. */
  readonly stripes: number;
}

/** Rows that a stripe of one long matrix is a multiple of: no tile of a product lies across two stripes then. */
const STRIPE_ROWS = 128;
/** Rows a multiple of this many texels long are padded: lines a large power of two apart compete for the same cache. */
const CROWDED_TEXELS = 32;
/** Texels of such a padding: one line of the cache. */
const PADDING_TEXELS = 4;
/** Texels that a texture may have: 256 MiB. */
const MAX_TEXELS = 2 ** 24;

/** Sizes of a batch of matrices. */
export type MatrixSizes = Pick<TextureMatrix, "batch" | "rows" | "columns">;

/**
 * Lays a batch of matrices out in a texture.
 *
 * @param side Largest side of a texture.
 * @param together Rows that share a line. Where it is 4, rows are whole texels and there are fours of them.
 * @returns The layout, or null if the texture would be too large.
 */
export function textureMatrix(
  { batch, rows, columns }: MatrixSizes,
  side: number,
  together: 1 | 4 = 1,
): TextureMatrix | null {
  const texels = ceilDiv(columns, 4);
  const lines = ceilDiv(rows, 4) * 4 / together;
  const width = texels * together;
  const stripe = width + (width % CROWDED_TEXELS === 0 ? PADDING_TEXELS : 0);
  const total = batch * lines;
  // One line and one texel are left for textureSize() to add.
  const unit = batch === 1 ? STRIPE_ROWS / together : lines;
  const most = Math.floor((side - 1) / unit) * unit;
  if (most === 0) return null;
  const height = Math.min(total, most);
  const stripes = ceilDiv(total, height);
  if (stripes * stripe >= side || stripes * stripe * height > MAX_TEXELS) return null;
  return { batch, rows, columns, texels, together, lines, stripe, height, stripes };
}

/** Rows of a matrix that a product may have in one line: four where the driver can copy them then. */
export function rowsTogether({ rows, columns }: MatrixSizes, side: number): 1 | 4 {
  return rows % 4 === 0 && columns % (COPIED_ELEMENTS / 4) === 0 && columns < side ? 4 : 1;
}

/**
 * Size of the texture. No side is a power of two: llvmpipe compiles a kernel once for textures whose sides are and once for
 * those whose sides are not, which takes longer than a kernel runs.
 */
function textureSize({ stripe, stripes, height }: TextureMatrix): { readonly width: number; readonly height: number } {
  const unlike = (length: number) => (length & (length - 1)) === 0 ? length + 1 : length;
  return { width: unlike(stripe * stripes), height: unlike(height) };
}

/** Where a line is, as u32 expressions: the texel its row starts at, and its line in the stripe. */
export function textureLine({ stripe, height, stripes }: TextureMatrix, line: string): { x: string; y: string } {
  return stripes === 1
    ? { x: "0u", y: line }
    : { x: `((${line}) / ${height}u * ${stripe}u)`, y: `((${line}) % ${height}u)` };
}

/** Texels one invocation copies where rows are a multiple of them: a line of the cache. */
const TEXELS_EACH = 4;

/** Copies a batch of matrices to a texture: input `a`, texture 0. */
function textureFill(matrix: TextureMatrix): KernelText {
  const { batch, rows, columns, texels, together } = matrix;
  const each = texels % TEXELS_EACH === 0 ? TEXELS_EACH : 1;
  const padded = ceilDiv(rows, 4) * 4;
  const count = batch * padded * texels / each;
  const perGroup = count < 8192 ? 8 : 64;
  const grid = linearGrid(ceilDiv(count, perGroup), "group");
  const { x, y } = textureLine(matrix, together === 1 ? "line" : `line / ${together}u`);
  const start = together === 1 ? x : `${x} + line % ${together}u * ${texels}u`;
  const load = columns % 4 === 0
    ? "value = ld0v(at);\n"
    : COMPONENTS.map((part, j) => `if (q * 4u + ${j}u < ${columns}u) { value.${part} = ld0(at + ${j}u); }\n`).join("");
  const isPadded = padded !== rows;
  const copy = (i: number): string =>
    `{\nlet q = first + ${i}u;\nlet at = row * ${columns}u + q * 4u;\nvar value = vec4<f32>();\n` +
    (isPadded ? `if (line % ${padded}u < ${rows}u) {\n${load}}\n` : load) +
    "tw0v(x + q, y, value);\n}\n";
  return {
    inputs: [{ name: "a", kind: "f32" }],
    outputs: [],
    preludes: "",
    body: `${grid.text}let item = group * ${perGroup}u + lane;\nif (item >= ${count}u) { return; }\n` +
      `let first = item % ${texels / each}u * ${each}u;\nlet line = item / ${texels / each}u;\n` +
      `let row = ${isPadded ? `line / ${padded}u * ${rows}u + line % ${padded}u` : "line"};\n` +
      `let x = ${start};\nlet y = ${y};\n${times(each, copy)}`,
    workgroupSize: [perGroup, 1, 1],
    workgroups: grid.workgroups,
  };
}

/** A texture for what belongs to an operand, which a kernel fills itself if it is new. */
export function textureToFill(
  kernel: KernelContext,
  operand: Operand,
  layout: string,
  matrix: TextureMatrix,
): { readonly texture: TextureOperand; readonly isNew: boolean } {
  return kernel.texture(operand, `${layout} ${layoutName(matrix)}`, textureSize(matrix));
}

/** Sizes of the matrices of a layout, for people. */
function sizesText({ batch, rows, columns }: TextureMatrix): string {
  return `${batch === 1 ? "" : `${batch}x`}${rows}x${columns}`;
}

/** Name of a layout: equal ones hold the same matrices at the same places. */
function layoutName(matrix: TextureMatrix): string {
  return `${sizesText(matrix)}${matrix.together === 1 ? "" : ` by ${matrix.together}`}`;
}

/**
 * A texture that holds an operand, filled here unless another kernel of the program has done so.
 *
 * @param use `"again"` makes a second one, so that the first need not be kept until here.
 */
export function textureOf(
  kernel: KernelContext,
  operand: Operand,
  matrix: TextureMatrix,
  use: "shared" | "again" = "shared",
): TextureOperand {
  const name = `${layoutName(matrix)}${use === "again" ? " again" : ""}`;
  const { texture, isNew } = kernel.texture(operand, name, textureSize(matrix));
  if (!isNew) return texture;
  const label = `to texture ${sizesText(matrix)}${use === "again" ? " again" : ""}`;
  const regions = copiedRegions(matrix);
  if (regions === null || !kernel.copyToTexture(label, operand, texture, regions)) {
    dispatchKernelText(kernel, label, textureFill(matrix), [operand], [], [texture]);
  }
  return texture;
}

/** Whether the driver can copy a matrix from a buffer of f32, so that no kernel has to. */
export function isCopied(matrix: TextureMatrix): boolean {
  return copiedRegions(matrix) !== null;
}

/** The stripes of a matrix as a driver's copy fills them; null if there is padding, which has to be zero. */
function copiedRegions(
  { batch, rows, columns, texels, together, lines, stripe, height, stripes }: TextureMatrix,
): readonly TextureRegion[] | null {
  const length = together * columns;
  if (length % COPIED_ELEMENTS !== 0 || rows % 4 !== 0) return null;
  return Array.from({ length: stripes }, (_, i) => ({
    start: i * height * length,
    x: i * stripe,
    width: together * texels,
    height: Math.min(height, batch * lines - i * height),
  }));
}
