/**
 * Which operands of the experts' kernels lie in textures on software adapters, where a kernel reads those for a fraction of
 * what a load from a buffer costs (see `ops/texture_matrix.ts`).
 *
 * @module
 */
import { type AdapterTraits, COPIED_ELEMENTS } from "../core/kernel.ts";
import { type TextureMatrix, textureMatrix } from "../ops/texture_matrix.ts";
import { ExpertBlock, softwareBlockRows } from "./execute_block.ts";
import { type ExpertShape, hasElements } from "./execute_shape.ts";

/** How the operands lie in textures. */
export interface ExecuteTextures {
  /** [T, D]: tokens, and the cotangent of the result. */
  readonly tokens: TextureMatrix;
  /** [E, D, F]: the matrices of the first product. */
  readonly up: TextureMatrix;
  /** [E, F, D]: the matrix of the second. */
  readonly down: TextureMatrix;
  /** [A, F]: activated rows, or rows times their weight. */
  readonly inner: TextureMatrix;
  /** [A, F] or [A, 2F]: cotangents of the pre-activations. */
  readonly preactivation: TextureMatrix;
  /** Groups of four columns that a lane of the kernels owns at most. */
  readonly mostGroups: 2 | 4;
}

/** Multiply-adds of one product from which the copies of its operands to textures are repaid. */
export const EXPERT_TEXTURE_WORK: number = 2 ** 21;
/** Multiply-adds of one product from which a wider tile repays the time it takes longer to compile. */
const WIDE_WORK = 2 ** 26;
/** Rows of an expert from which copying its matrices is: by the driver, and by kernels where lines do not suit it. */
const TEXTURE_ROWS = { copied: 8, filled: 32 };

/** Whether an adapter reads textures, and products of these sizes repay the copies of their operands. */
export function repaysTextures(
  { assignments, experts, width, inner }: Pick<ExpertShape, "assignments" | "experts" | "width" | "inner">,
  { software, textureSide, tuning }: AdapterTraits,
): boolean {
  if (!software || textureSide === 0) return false;
  const least = tuning?.expertTextureWork ?? EXPERT_TEXTURE_WORK;
  const way = width % COPIED_ELEMENTS === 0 && inner % COPIED_ELEMENTS === 0 ? "copied" : "filled";
  return assignments * width * inner >= least &&
    (least === 0 || assignments / Math.min(experts, assignments) >= TEXTURE_ROWS[way]);
}

/** Lays the matrices [E, rows, columns] of all experts out in a texture, or gives null. */
export function expertMatrices(
  [experts, rows, columns]: readonly [number, number, number],
  side: number,
): TextureMatrix | null {
  const found = textureMatrix({ batch: experts, rows, columns }, side);
  // One matrix in several stripes would have to be left in the middle of the depth.
  return found !== null && experts === 1 && found.stripes > 1 ? null : found;
}

/**
 * Decides whether kernels read textures, and how those look.
 *
 * @param tokens T.
 * @returns The layouts, or null where buffers are better, rows are no multiple of four, or a texture would be too large.
 */
export function executeTextures(shape: ExpertShape, tokens: number, adapter: AdapterTraits): ExecuteTextures | null {
  const { assignments, experts, width, inner, body } = shape;
  const { textureSide: side } = adapter;
  if (!hasElements(shape) || width % 4 !== 0 || inner % 4 !== 0 || !repaysTextures(shape, adapter)) return null;
  const rows = (count: number, columns: number) => textureMatrix({ batch: 1, rows: count, columns }, side);
  const found = {
    tokens: rows(tokens, width),
    up: expertMatrices([experts, width, inner], side),
    down: expertMatrices([experts, inner, width], side),
    inner: rows(assignments, inner),
    preactivation: rows(assignments, body === "glu" ? 2 * inner : inner),
  };
  if (Object.values(found).includes(null)) return null;
  const isWide = assignments * width * inner >= (adapter.tuning?.expertWideWork ?? WIDE_WORK);
  return { ...found as Omit<ExecuteTextures, "mostGroups">, mostGroups: isWide ? 4 : 2 };
}

/**
 * The block of kernels that read textures. They hold one product each (a gated one two), so wider tiles than those of the
 * fused kernels are still quick to compile.
 *
 * @param tiledWidth Columns that are cut over workgroups; left out, a workgroup walks all columns.
 */
export function textureBlock(shape: ExpertShape, { mostGroups }: ExecuteTextures, tiledWidth?: number): ExpertBlock {
  return new ExpertBlock(shape, "software", softwareBlockRows(shape), tiledWidth, mostGroups);
}
