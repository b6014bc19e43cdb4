/**
 * Matrix products: the primitive, and the public `matmul` with batches, vectors and transposed operands.
 *
 * @module
 */
import { castTo, expandTo, reshapeTo, sumOver } from "../core/arithmetic.ts";
import { isFloat, promote } from "../core/dtype.ts";
import { DTypeError, ShapeError } from "../core/errors.ts";
import { hostFill } from "../core/host.ts";
import { definePrimitive, type HostArray, type Primitive } from "../core/primitive.ts";
import { type Aval, broadcastShapes, formatAval, sameShape, type Shape, sizeOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { type MatmulAttrs, matmulLowering, matmulSizes } from "./matmul_lowering.ts";

function shapeRule([a, b]: readonly Aval[], attrs: MatmulAttrs): readonly Aval[] {
  const { transA, transB } = attrs;
  if (!isFloat(a!.dtype) || !isFloat(b!.dtype)) {
    throw new DTypeError("dtype/matmul", {
      summary: `Cannot multiply ${formatAval(a!)} by ${formatAval(b!)}: matrix products need float tensors`,
      facts: [["op", "matmul(a, b)"]],
      fix: `cast integers first: cast(x, "f32")`,
      details: { a: a!.dtype, b: b!.dtype },
    });
  }
  const innerA = a!.shape.at(transA ? -2 : -1)!;
  const innerB = b!.shape.at(transB ? -1 : -2)!;
  if (innerA !== innerB) throw innerMismatch(a!, b!, attrs, innerA, innerB);
  const [batchA, batchB] = [a!.shape.slice(0, -2), b!.shape.slice(0, -2)];
  const batch = sizeOf(batchA) === 1 ? batchB : batchA;
  if (sizeOf(batchA) !== 1 && sizeOf(batchB) !== 1 && !sameShape(batchA, batchB)) {
    throw new ShapeError("shape/matmul-batch", {
      summary: `Cannot multiply: batches differ, [${batchA.join(", ")}] and [${batchB.join(", ")}]`,
      facts: [["op", "matmul(a, b)"], ["a", formatAval(a!)], ["b", formatAval(b!)]],
      fix: "give both operands the same leading axes, or one of them none",
      details: { a: a!.shape, b: b!.shape },
    });
  }
  const { rows, columns } = matmulSizes(a!.shape, b!.shape, attrs);
  return [{ shape: [...batch, rows, columns], dtype: promote(a!.dtype, b!.dtype) }];
}

function innerMismatch(a: Aval, b: Aval, { transA, transB }: MatmulAttrs, innerA: number, innerB: number): ShapeError {
  const op = transA || transB
    ? `matmul(a, b, { ${
      [transA ? "transposeA: true" : "", transB ? "transposeB: true" : ""].filter(Boolean).join(", ")
    } })`
    : "matmul(a, b)";
  const [rows, columns] = b.shape.slice(-2);
  const fits = b.shape.length > 1 && (transB ? rows : columns) === innerA;
  const wanted = b.shape.length === 1 ? `${innerA}` : transB ? `..., ${rows}, ${innerA}` : `..., ${innerA}, ${columns}`;
  return new ShapeError("shape/matmul-inner", {
    summary: `Cannot multiply: inner dimensions differ, ${innerA} and ${innerB}`,
    facts: [["op", op], ["a", formatAval(a)], ["b", formatAval(b)]],
    fix: fits
      ? `b fits the other way round: ${transB ? "leave transposeB out" : "pass { transposeB: true }"}`
      : `b should be [${wanted}]`,
    details: { a: a.shape, b: b.shape, transA, transB },
  });
}

function hostRule([a, b]: readonly HostArray[], attrs: MatmulAttrs): readonly HostArray[] {
  const [aval] = shapeRule([a!, b!], attrs);
  const { rows, columns, inner, sharedA, sharedB } = matmulSizes(a!.shape, b!.shape, attrs);
  const [rowStep, leftStep] = attrs.transA ? [1, rows] : [inner, 1];
  const [columnStep, rightStep] = attrs.transB ? [inner, 1] : [1, columns];
  return [
    hostFill(aval!, (i) => {
      const column = i % columns;
      const row = Math.floor(i / columns) % rows;
      const matrix = Math.floor(i / (columns * rows));
      const left = (sharedA ? 0 : matrix * rows * inner) + row * rowStep;
      const right = (sharedB ? 0 : matrix * inner * columns) + column * columnStep;
      let total = 0;
      for (let k = 0; k < inner; k++) total += a!.data[left + k * leftStep]! * b!.data[right + k * rightStep]!;
      return total;
    }),
  ];
}

/**
 * Primitive behind {@linkcode matmul}: [...batch, M, K] by [...batch, K, N], where one operand may have no batch, or
 * one of size 1. Operands are f32, f16 or bf16; sums are taken in f32 and rounded once to the wider of the two types.
 */
export const matmulPrimitive: Primitive = definePrimitive<MatmulAttrs>({
  name: "matmul",
  kind: "bilinear",
  shape: shapeRule,
  host: hostRule,
  transpose([ct], [a, b], { transA, transB }) {
    // With C = op(A) op(B): d op(A) = dC op(B)ᵀ and d op(B) = op(A)ᵀ dC; a transposed operand swaps the factors.
    const pulledA = transA
      ? multiply(b!, ct!, { transA: transB, transB: true })
      : multiply(ct!, b!, { transA: false, transB: !transB });
    return [likeOperand(pulledA, a!), pulledB(a!, b!, ct!, { transA, transB })];
  },
  batch([a, b], [mappedA, mappedB], attrs) {
    // Aligning the ranks keeps the mapped axis first on both sides of the broadcast.
    const rank = Math.max(a!.shape.length - (mappedA ? 1 : 0), b!.shape.length - (mappedB ? 1 : 0));
    return [multiply(withRank(a!, mappedA!, rank), withRank(b!, mappedB!, rank), attrs)];
  },
  lower: matmulLowering,
});

function pulledB(a: Tensor, b: Tensor, ct: Tensor, { transA, transB }: MatmulAttrs): Tensor {
  if (sizeOf(b.shape.slice(0, -2)) === 1 && a.shape.length > 2 && !transA) {
    // A shared right matrix sums over the batch: one long product instead of many short ones and a reduction.
    const rows = reshapeTo(a, [sizeOf(a.shape.slice(0, -1)), a.shape.at(-1)!]);
    const rowsCt = reshapeTo(ct, [sizeOf(ct.shape.slice(0, -1)), ct.shape.at(-1)!]);
    return likeOperand(pulledB(rows, b, rowsCt, { transA, transB }), b);
  }
  const pulled = transB
    ? multiply(ct, a, { transA: true, transB: transA })
    : multiply(a, ct, { transA: !transA, transB: false });
  return likeOperand(pulled, b);
}

/** Sums the batches an operand was shared over and returns to its shape and type. */
function likeOperand(pulled: Tensor, operand: Tensor): Tensor {
  const isShared = sizeOf(operand.shape.slice(0, -2)) === 1;
  const batchAxes = isShared ? pulled.shape.slice(0, -2).map((_, axis) => axis) : [];
  return castTo(reshapeTo(sumOver(pulled, batchAxes), operand.shape), operand.dtype);
}

function withRank(x: Tensor, isMapped: boolean, rank: number): Tensor {
  if (!isMapped) return x;
  const [size, ...rest] = x.shape;
  return reshapeTo(x, [size!, ...new Array<number>(rank - rest.length).fill(1), ...rest]);
}

/** Gives an operand the whole batch, or none if it is the same matrix for all of it. */
function withBatch(x: Tensor, batch: Shape): Tensor {
  const own = x.shape.slice(0, -2);
  const matrix = x.shape.slice(-2);
  if (sizeOf(own) === 1) return reshapeTo(x, matrix);
  const padded = [...new Array<number>(batch.length - own.length).fill(1), ...own];
  return expandTo(reshapeTo(x, [...padded, ...matrix]), [...batch, ...matrix]);
}

/** Product of tensors of rank 2 or more whose leading axes broadcast. */
function multiply(a: Tensor, b: Tensor, attrs: MatmulAttrs): Tensor {
  const batch = broadcastShapes("matmul(a, b)", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const left = withBatch(a, batch);
  const right = withBatch(b, batch);
  if (left.shape.length > 2 && right.shape.length === 2 && !attrs.transA) {
    // Rows of all matrices stacked: [..., M, K] by [K, N] is one product.
    const [rows, inner] = [sizeOf(left.shape.slice(0, -1)), left.shape.at(-1)!];
    const product = apply(matmulPrimitive, [reshapeTo(left, [rows, inner]), right], attrs);
    return reshapeTo(product, [...batch, left.shape.at(-2)!, product.shape[1]!]);
  }
  const product = apply(matmulPrimitive, [left, right], attrs);
  return reshapeTo(product, [...batch, ...product.shape.slice(-2)]);
}

/** Options of {@linkcode matmul}. */
export interface MatmulOptions {
  /** Reads the last two axes of `a` swapped, without copying. Ignored if `a` is a vector. */
  readonly transposeA?: boolean;
  /** Reads the last two axes of `b` swapped, without copying. Ignored if `b` is a vector. */
  readonly transposeB?: boolean;
}

/**
 * Multiplies matrices.
 *
 * Shapes: `a` [..., M, K], `b` [..., K, N] -> [..., M, N]; leading axes broadcast. A vector `a` [K] counts as one row
 * and a vector `b` [K] as one column, and that axis is dropped from the result. f16 and bf16 are accumulated in f32
 * and rounded once; operands of two float types give the wider one. An empty inner dimension gives zeros.
 *
 * @param options Which operands are stored transposed.
 * @returns The product.
 * @throws {ShapeError} If an operand is a scalar, the inner dimensions differ, or the leading axes do not broadcast.
 * @throws {DTypeError} If an operand is not a float tensor.
 *
 * @example A matrix by a vector
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, matmul, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const product = matmul(tensor([[1, 2], [3, 4]]), tensor([10, 1]));
 * assertEquals([...await product.data()], [12, 34]);
 * ```
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false } = options;
  for (const [name, operand] of [["a", a], ["b", b]] as const) {
    if (operand.shape.length > 0) continue;
    throw new ShapeError("shape/matmul-rank", {
      summary: `Cannot multiply matrices: ${name} is a scalar`,
      facts: [["op", "matmul(a, b)"], ["a", formatAval(a)], ["b", formatAval(b)]],
      fix: "scale with mul(x, factor)",
      details: { a: a.shape, b: b.shape },
    });
  }
  const isRow = a.shape.length === 1;
  const isColumn = b.shape.length === 1;
  const innerA = a.shape.at(transposeA && !isRow ? -2 : -1)!;
  const innerB = b.shape.at(isColumn || transposeB ? -1 : -2)!;
  if (innerA !== innerB) {
    throw innerMismatch(a, b, { transA: transposeA, transB: transposeB }, innerA, innerB);
  }
  const product = multiply(isRow ? reshapeTo(a, [1, a.size]) : a, isColumn ? reshapeTo(b, [b.size, 1]) : b, {
    transA: transposeA && !isRow,
    transB: transposeB && !isColumn,
  });
  const [rows, columns] = product.shape.slice(-2) as [number, number];
  return reshapeTo(product, [...product.shape.slice(0, -2), ...(isRow ? [] : [rows]), ...(isColumn ? [] : [columns])]);
}
