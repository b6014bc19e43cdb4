/**
 * Which operands of the experts' kernels lie in textures on software adapters, where a kernel reads those for a fraction of
 * what a load from a buffer costs (see `ops/texture_matrix.ts`).
 *
 * @module
 */
import type { AdapterTraits } from "../core/kernel.ts";
import { type TextureMatrix, textureMatrix } from "../ops/texture_matrix.ts";
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
}

/** Multiply-adds of one product from which the copies of its operands to textures are repaid. */
export const EXPERT_TEXTURE_WORK: number = 2 ** 22;
/** Rows of an expert from which copying its matrices is. */
const TEXTURE_ROWS = 32;

/** Whether an adapter reads textures, and products of these sizes repay the copies of their operands. */
export function repaysTextures(
  { assignments, experts, width, inner }: Pick<ExpertShape, "assignments" | "experts" | "width" | "inner">,
  { software, textureSide, tuning }: AdapterTraits,
): boolean {
  if (!software || textureSide === 0) return false;
  const least = tuning?.expertTextureWork ?? EXPERT_TEXTURE_WORK;
  return assignments * width * inner >= least &&
    (least === 0 || assignments / Math.min(experts, assignments) >= TEXTURE_ROWS);
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
  const matrices = (depth: number, columns: number) => {
    const found = textureMatrix({ batch: experts, rows: depth, columns }, side);
    // One matrix in several stripes would have to be left in the middle of the depth.
    return found !== null && experts === 1 && found.stripes > 1 ? null : found;
  };
  const found = {
    tokens: rows(tokens, width),
    up: matrices(width, inner),
    down: matrices(inner, width),
    inner: rows(assignments, inner),
    preactivation: rows(assignments, body === "glu" ? 2 * inner : inner),
  };
  return Object.values(found).includes(null) ? null : found as ExecuteTextures;
}

/** Column of texels, for a row that starts at `x`. */
export function texelOf(x: string, column: string): string {
  return `${x} + (${column} >> 2u)`;
}
