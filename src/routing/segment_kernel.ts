/**
 * Kernel of the body `segment`: the product of each row's token with its expert's matrix, and its transpose.
 *
 *   y[assignment] = x[token] weight[e] (+ bias[e])        dx[assignment] = dY[assignment] weight[e]ᵀ
 *
 * A workgroup multiplies a block of one expert's rows (`execute_block.ts`), gathered in the load and scattered in the store;
 * no row is copied. Forward, assignments without a row are cleared by the same dispatch. Backward, dx goes to its token's row
 * where a token has one assignment (and tokens without a row are cleared), to its assignment's row otherwise, to be added up
 * by `execute_combine.ts`.
 *
 * @module
 */
import type { AdapterTraits } from "../core/kernel.ts";
import type { Shape } from "../core/shape.ts";
import type { KernelText, Variant } from "../ops/kernel_text.ts";
import { type TextureMatrix, textureMatrix } from "../ops/texture_matrix.ts";
import { type BlockShape, ExpertBlock, hardwareBlockRows, softwareBlockRows } from "./execute_block.ts";
import type { BlockRow, Columns } from "./execute_product.ts";
import { clearRow } from "./execute_forward_kernel.ts";
import { expertMatrices, repaysTextures } from "./execute_textures.ts";

/** Static sizes of a product of rows with experts' matrices. */
export interface SegmentShape extends BlockShape {
  /** Columns of the result. */
  readonly width: number;
  /** Length of the sums. */
  readonly depth: number;
}

/** How the operands lie in textures. */
export interface SegmentTextures {
  /** What is multiplied, a line for each token or assignment. */
  readonly rows: TextureMatrix;
  /** The matrices as they are stored. */
  readonly matrix: TextureMatrix;
}

/** Which of the two products it is. */
export interface SegmentProduct {
  /** Class of adapters. */
  readonly variant: Variant;
  /** `"forward"` multiplies tokens by matrices [depth, width], `"backward"` assignments by transposed ones [width, depth]. */
  readonly pass: "forward" | "backward";
  /** Row of the result. */
  readonly target: "token" | "assignment";
  /** Whether each result gets its expert's bias. */
  readonly bias: boolean;
  /** Software adapters only: operands are read from textures 0 (rows) and 1 (matrices), not from their buffers. */
  readonly textures?: SegmentTextures | null;
}

/** Operands by accessor number. */
export const SEGMENT_INPUTS: readonly string[] = [
  ...["rows", "matrix", "bias", "unused", "unused", "weight"],
  ...["expertOffsets", "rowToken", "rowAssign", "assignRow"],
];

function blockOf(shape: SegmentShape, variant: Variant): ExpertBlock<SegmentShape> {
  const rows = variant === "software" ? softwareBlockRows(shape) : hardwareBlockRows(shape, shape.width);
  return new ExpertBlock(shape, variant, rows, shape.width);
}

/** Whether one invocation may run the product of a block. */
export function segmentFits(shape: SegmentShape, variant: Variant): boolean {
  const { depth, width } = shape;
  return blockOf(shape, variant).canRun([{ depth, width }]);
}

/** Decides whether a product reads its operands, rows [.., depth] and matrices as they are stored, from textures. */
export function segmentTextures(
  { assignments, experts, depth, width }: SegmentShape,
  [rows, matrix]: readonly [Shape, Shape],
  adapter: AdapterTraits,
): SegmentTextures | null {
  const isAligned = depth % 4 === 0 && width % 4 === 0;
  if (!isAligned || !repaysTextures({ assignments, experts, width: depth, inner: width }, adapter)) return null;
  const { textureSide } = adapter;
  const rowLines = textureMatrix({ batch: 1, rows: rows[0]!, columns: depth }, textureSide);
  const matrices = expertMatrices(matrix as readonly [number, number, number], textureSide);
  return rowLines && matrices && { rows: rowLines, matrix: matrices };
}

/** Generates the kernel. */
export function segmentKernel(shape: SegmentShape, product: SegmentProduct): KernelText {
  const { variant, pass, target } = product;
  const block = blockOf(shape, variant);
  // Assignments that nobody reads are left as they are.
  const isCleared = pass === "forward" || target === "token";
  return block.kernel({
    inputs: SEGMENT_INPUTS,
    outputs: ["out"],
    weighted: false,
    assigned: true,
    ...(isCleared ? { dropped: clearRow(block, "st0") } : {}),
    body: block.eachTile(shape.width, (columns) => tile(block, columns, product)),
  });
}

/** One tile of columns. */
function tile(
  block: ExpertBlock<SegmentShape>,
  columns: Columns,
  { pass, target, bias, textures }: SegmentProduct,
): string {
  const { depth, width } = block.shape;
  const layout = pass === "forward" ? "N" : "T";
  const line = ({ token, assign }: BlockRow) => pass === "forward" ? token : assign;
  return block.product({
    name: "y",
    depth,
    columns,
    ...(textures
      ? {
        rows: { load: "tx0", texture: textures.rows, offset: 0, line },
        matrix: { load: "tx1", layout, texture: textures.matrix },
      }
      : {
        rows: { load: "ld0", width: depth, at: (row) => `${line(row)} * ${depth}u` },
        matrix: { load: "ld1", layout },
      }),
  }) + block.eachOutput("y", columns, (row, column, value) => {
    const sum = bias ? `${value} + ${block.get("ld2", `expert * ${width}u`, column, columns)}` : value;
    return block.put("st0", `${target === "token" ? row.token : row.assign} * ${width}u`, column, columns, sum);
  });
}
