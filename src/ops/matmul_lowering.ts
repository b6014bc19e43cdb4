/**
 * From the `matmul` primitive to kernels: which variant a product takes, how its depth is split, and its dispatches.
 *
 * @module
 */
import type { AdapterTraits, KernelContext, Lowering, Operand } from "../core/kernel.ts";
import { type Shape, sizeOf } from "../core/shape.ts";
import { dispatchKernelText, type Variant, variantOf } from "./kernel_text.ts";
import { hardwareSplits } from "./matmul_hardware.ts";
import { matmulKernel, matmulSplits, matmulSplitSum } from "./matmul_kernel.ts";
import { matmulClass, type MatmulShape, type MatmulTextures } from "./matmul_shape.ts";
import { storageTile, textureTile } from "./matmul_software.ts";
import { isCopied, type MatrixSizes, rowsTogether, textureMatrix, textureOf } from "./texture_matrix.ts";

/** Which operand is stored transposed. */
export interface MatmulAttrs {
  /** The left operand is [K, M]. */
  readonly transA: boolean;
  /** The right operand is [N, K]. */
  readonly transB: boolean;
}

/** Sizes of one product of batches of matrices. */
export interface MatmulSizes {
  /** Number of matrices in the result. */
  readonly batch: number;
  /** Rows of the result. */
  readonly rows: number;
  /** Columns of the result. */
  readonly columns: number;
  /** Length of the sums. */
  readonly inner: number;
  /** Whether all products share one left matrix. */
  readonly sharedA: boolean;
  /** Whether all products share one right matrix. */
  readonly sharedB: boolean;
}

/** Reads the sizes off valid operand shapes. */
export function matmulSizes(a: Shape, b: Shape, { transA, transB }: MatmulAttrs): MatmulSizes {
  const batchA = sizeOf(a.slice(0, -2));
  const batchB = sizeOf(b.slice(0, -2));
  return {
    batch: batchA === 1 ? batchB : batchA,
    rows: a.at(transA ? -1 : -2)!,
    inner: a.at(transA ? -2 : -1)!,
    columns: b.at(transB ? -2 : -1)!,
    sharedA: batchA === 1,
    sharedB: batchB === 1,
  };
}

function splitsFor(shape: MatmulShape, variant: Variant): number {
  const needed = matmulSplits(shape);
  return variant === "software" ? needed : Math.max(needed, hardwareSplits(shape));
}

/** Multiply-adds from which a product repays two more dispatches and the copies of its operands to textures. */
export const TEXTURE_WORK: number = 2 ** 21;
/** Share of that from which it does where the driver copies both operands: that costs a tenth of a kernel that does. */
const COPIED_SHARE = 1 / 4;
/** Uses of each copied element below which the copy is not repaid: that many rows or columns of the result. */
const TEXTURE_USES = 32;

/** How the operands of a product lie in textures, or null if it reads them from their buffers. */
function texturesFor(shape: MatmulShape, { software, textureSide, tuning }: AdapterTraits): MatmulTextures | null {
  if (!software || textureSide === 0) return null;
  const { batch, m, n, k } = shape;
  const batchOf = (operand: "a" | "b") => shape.batched === "both" || shape.batched === operand ? batch : 1;
  const [rowsA, columnsA] = shape.layoutA === "N" ? [m, k] : [k, m];
  const [rowsB, columnsB] = shape.layoutB === "N" ? [k, n] : [n, k];
  const layoutOf = (sizes: MatrixSizes) => textureMatrix(sizes, textureSide, rowsTogether(sizes, textureSide));
  const a = layoutOf({ batch: batchOf("a"), rows: rowsA, columns: columnsA });
  const b = layoutOf({ batch: batchOf("b"), rows: rowsB, columns: columnsB });
  if (a === null || b === null) return null;
  const least = (tuning?.textureWork ?? TEXTURE_WORK) * (isCopied(a) && isCopied(b) ? COPIED_SHARE : 1);
  const pays = batch * m * n * k >= least && (least === 0 || Math.min(m, n) >= TEXTURE_USES);
  return pays ? { a, b } : null;
}

function build(kernel: KernelContext, attrs: MatmulAttrs): void {
  const [a, b] = kernel.inputs as [Operand, Operand];
  const [output] = kernel.outputs as [Operand];
  const { batch, rows, columns, inner, sharedA, sharedB } = matmulSizes(a.shape, b.shape, attrs);
  if (batch * rows * columns === 0) return;
  const shape: MatmulShape = {
    batch,
    m: rows,
    n: columns,
    k: inner,
    layoutA: attrs.transA ? "T" : "N",
    layoutB: attrs.transB ? "T" : "N",
    batched: sharedA && batch > 1 ? "b" : sharedB && batch > 1 ? "a" : "both",
  };
  const { adapter } = kernel;
  const variant = variantOf(adapter);
  const splits = splitsFor(shape, variant);
  const label = `matmul ${batch === 1 ? "" : `${batch}x`}${rows}x${inner}x${columns}${attrs.transA ? " Ta" : ""}${
    attrs.transB ? " Tb" : ""
  }`;
  const layouts = inner === 0 ? null : texturesFor(shape, adapter);
  const textures = layouts === null ? [] : [textureOf(kernel, a, layouts.a), textureOf(kernel, b, layouts.b)];
  const { tuning = {} } = adapter;
  const sharedTile = tuning.sharedTiles?.[matmulClass(shape)];
  const text = matmulKernel(shape, {
    variant,
    splits,
    tile: layouts ? textureTile(shape, tuning.textureTiles) : storageTile(shape, tuning.bufferTiles),
    ...(layouts && { textures: layouts }),
    ...(sharedTile && { sharedTile }),
    longStores: kernel.hasEpilogue && splits === 1,
  });
  function multiply(c: Operand): void {
    dispatchKernelText(kernel, label, text, layouts === null ? [a, b] : [], [c], textures);
  }
  if (splits === 1) return multiply(output);
  const partials = kernel.scratch([splits, batch, rows, columns], "f32");
  multiply(partials);
  dispatchKernelText(kernel, `${label} parts`, matmulSplitSum(splits, batch * rows * columns), [partials], [output]);
}

/** Lowering of the `matmul` primitive. */
export const matmulLowering: Lowering<MatmulAttrs> = { as: "kernel", build, prologue: [0, 1], epilogue: true };
