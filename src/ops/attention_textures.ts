/**
 * Operands of attention in textures: on software adapters a load from a texture costs a fraction of one from a buffer.
 *
 * A texture holds the elements in the order of the buffer, so that the driver's copy can fill it, and in the layout of a
 * product's operand. Heads that lie beside each other in a position [B, S, H, C] do so in a line; of heads one after the
 * other [B, H, S, C], a line holds as many positions as the copy needs. Parts of a joint projection are turned on their
 * way to textures like those of [B, S, H, C].
 *
 * @module
 */
import { type AdapterTraits, COPIED_ELEMENTS } from "../core/kernel.ts";
import { type AttentionShape, isAligned, isJoint } from "./attention_shape.ts";
import { textureLine, type TextureMatrix, textureMatrix } from "./texture_matrix.ts";

/** How an operand lies in a texture. */
export interface AttentionTexture {
  /** Its layout: a matrix for each batch, or for each head. */
  readonly matrix: TextureMatrix;
  /** Positions of one head in a line. */
  readonly together: number;
}

/** Multiply-adds of one of the two products, unmasked, from which copies to textures are repaid. */
const TEXTURE_WORK = 2 ** 14;
/** Positions from which a copied row is used often enough. */
const TEXTURE_LENGTH = 8;

/** How the operands of an attention lie in textures, or null if its kernels read buffers. */
export function attentionTexture(
  shape: AttentionShape,
  { software, textureSide, tuning }: Pick<AdapterTraits, "software" | "textureSide" | "tuning">,
): AttentionTexture | null {
  if (!software || textureSide === 0) return null;
  const { batch, heads, length, channels } = shape;
  const least = tuning?.textureWork === undefined ? TEXTURE_WORK : Math.min(TEXTURE_WORK, tuning.textureWork);
  const work = batch * heads * length ** 2 * channels;
  if (work < least || (least > 0 && length < TEXTURE_LENGTH)) return null;
  if (heads > 1 && !isAligned(shape)) return null;
  const together = heads > 1 || isJoint(shape) ? 1 : positionsTogether(length, channels);
  const matrix = textureMatrix(
    { batch, rows: length / together, columns: channels * (heads > 1 ? heads : together) },
    textureSide,
  );
  // One long matrix would go on in another stripe in the middle of a head.
  if (matrix === null || (batch === 1 && matrix.stripes > 1)) return null;
  return { matrix, together };
}

/** Positions of a head that make lines which the driver can copy, with none left over; 1 where there are none. */
function positionsTogether(length: number, channels: number): number {
  let together = 1;
  while (channels * together % COPIED_ELEMENTS !== 0) together *= 2;
  // Lines come in fours.
  return channels % 4 === 0 && together <= COPIED_ELEMENTS / 4 && length % (4 * together) === 0 ? together : 1;
}

/** Declares `left` and `top`: the texel at which a head starts, given by `batch` and `head`. */
export function headInTexture({ matrix }: AttentionTexture, { heads, channels }: AttentionShape): string {
  const { x, y } = textureLine(matrix, `batch * ${matrix.lines}u`);
  return `let left = ${x}${heads > 1 ? ` + head * ${channels / 4}u` : ""};\nlet top = ${y};\n`;
}

/** Texel coordinates of channels 4c .. 4c + 3 of a position; both are u32 expressions. */
export function texelOf({ together }: AttentionTexture, channels: number, row: string, c: string): string {
  if (together === 1) return `left + ${c}, top + ${row}`;
  return `left + (${row}) % ${together}u * ${channels / 4}u + ${c}, top + (${row}) / ${together}u`;
}
