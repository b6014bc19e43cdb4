/**
 * Shapes of batched matrix products, how they are cut into tiles, and what the kernels of all adapters share.
 *
 * Letters: B batch, M rows, N columns, K depth, S depth splits. A is [B|1, M, K] (or [B|1, K, M]), B is [B|1, K, N]
 * (or [B|1, N, K]), C is [S, B, M, N].
 *
 * @module
 */
import type { SharedTileName, TileChoice, WorkClass } from "../core/kernel.ts";
import { ceilDiv, type KernelText, linearGrid, MAX_GRID, type Variant } from "./kernel_text.ts";
import type { TextureMatrix } from "./texture_matrix.ts";

/** Shape and layout of a batched product. */
export interface MatmulShape {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** "N": A is [M, K]; "T": A is [K, M]. */
  readonly layoutA: "N" | "T";
  /** "N": B is [K, N]; "T": B is [N, K]. */
  readonly layoutB: "N" | "T";
  /** Which operands carry the batch dimension; the other is shared by all batches. */
  readonly batched: "both" | "a" | "b";
}

/** Multiply-adds from which a product is of a class. */
const MEDIUM_WORK = 2 ** 22, LARGE_WORK = 2 ** 27;

/** Returns the class of a product, by what its kernel may cost to compile: larger register tiles take longer. */
export function matmulClass({ batch, m, n, k }: MatmulShape): WorkClass {
  const work = batch * m * n * k;
  return work >= LARGE_WORK ? "large" : work >= MEDIUM_WORK ? "medium" : "small";
}

/** How the operands of a product lie in textures. */
export interface MatmulTextures {
  /** The left operand as it is stored: [M, K], or [K, M]. */
  readonly a: TextureMatrix;
  /** The right operand as it is stored: [K, N], or [N, K]. */
  readonly b: TextureMatrix;
}

/** Register tile of the software variant. */
export interface MatmulTile extends TileChoice {
  /** Which tile index runs fastest over the workgroups. */
  readonly order: "rows" | "columns";
}

/** How a product is cut up; what is left out is chosen from the shape. */
export interface MatmulOptions {
  readonly variant: Variant;
  readonly splits?: number;
  readonly tile?: MatmulTile;
  /** Hardware only: the tile of a workgroup. */
  readonly sharedTile?: SharedTileName;
  /** Software only: operands are read from textures 0 and 1, not from inputs. */
  readonly textures?: MatmulTextures;
  /** Software only: a store is long, so it is written once for a row of the tile, in a loop over the rows. */
  readonly longStores?: boolean;
}

/** Operands of every product by their names in the kernels. */
export const OPERANDS: Pick<KernelText, "inputs" | "outputs"> = {
  inputs: [{ name: "a", kind: "f32" }, { name: "b", kind: "f32" }],
  outputs: [{ name: "c", kind: "f32" }],
};

/** Declares the tile coordinates `tn`, `tm`, `batch`, `split`, the operand offsets `a0`, `b0`, `c0` and the depth range. */
export function header(
  shape: MatmulShape,
  splits: number,
  tilesM: number,
  tilesN: number,
  order: MatmulTile["order"],
  step: number,
): { readonly text: string; readonly workgroups: KernelText["workgroups"] } {
  const { batch, m, n, k, batched } = shape;
  const grid = tileGrid(order === "columns" ? [tilesN, tilesM] : [tilesM, tilesN], batch * splits);
  const [fast, slow] = order === "columns" ? ["tn", "tm"] : ["tm", "tn"];
  const depth = ceilDiv(ceilDiv(k, splits), step) * step;
  const text = grid.text + `let ${fast} = inner;\nlet ${slow} = outer;\n` +
    (splits === 1
      ? "let batch = matrix;\nlet split = 0u;\n"
      : batch === 1
      ? "let batch = 0u;\nlet split = matrix;\n"
      : `let batch = matrix % ${batch}u;\nlet split = matrix / ${batch}u;\n`) +
    `let a0 = ${batched === "b" || batch === 1 ? "0u" : `batch * ${m * k}u`};\n` +
    `let b0 = ${batched === "a" || batch === 1 ? "0u" : `batch * ${k * n}u`};\n` +
    `let c0 = ${batch * splits === 1 ? "0u" : `matrix * ${m * n}u`};\n` +
    (splits === 1
      ? `let first = 0u;\nlet last = ${k}u;\n`
      : `let first = min(split * ${depth}u, ${k}u);\nlet last = min(first + ${depth}u, ${k}u);\n`);
  return { text, workgroups: grid.workgroups };
}

/**
 * A grid of tiles, declared as `inner`, `outer` and `matrix`: its three axes where they are short enough, so that the text
 * depends on no size.
 */
function tileGrid(
  [inner, outer]: readonly [number, number],
  matrices: number,
): { readonly text: string; readonly workgroups: KernelText["workgroups"] } {
  if (Math.max(inner, outer, matrices) <= MAX_GRID) {
    const text = "let inner = wg.x;\nlet outer = wg.y;\n" + `let matrix = ${matrices === 1 ? "0u" : "wg.z"};\n`;
    return { text, workgroups: [inner, outer, matrices] };
  }
  const grid = linearGrid(inner * outer * matrices, "tile");
  const text = `let inner = tile % ${inner}u;\nlet outer = (tile / ${inner}u) % ${outer}u;\n` +
    `let matrix = tile / ${inner * outer}u;\n`;
  return { text: grid.text + text, workgroups: grid.workgroups };
}
