/**
 * Primitives of the body `valueRow`: sums of a memory's rows, and the gradients of weights and values. Each is linear in
 * both of its float operands, and the three are each other's derivatives, so derivatives of any order run in kernels.
 *
 * Letters: T tokens, K rows of a token, M rows of the memory, W width of a row.
 *
 * @module
 */
import { expandTo, reshapeTo, sumOver, times } from "../core/arithmetic.ts";
import type { Lowering } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { group } from "../ops/group.ts";
import { sumRows, takeRows } from "../ops/rows.ts";
import { dispatchReadDots, dispatchReadSums, dispatchValueRows, valueRowsFit } from "./value_rows_kernel.ts";

/** Numbers [T, K] or [T, W], repeated along the axis they miss: [T, K, W]. */
function spreadOver(x: Tensor, axis: 1 | 2, count: number): Tensor {
  const [tokens, size] = x.shape as readonly [number, number];
  return axis === 1
    ? expandTo(reshapeTo(x, [tokens, 1, size]), [tokens, count, size])
    : expandTo(reshapeTo(x, [tokens, size, 1]), [tokens, size, count]);
}

/** Sums Σ_k weights[t, k] · values[rows[t, k]]: values f32[M, W], rows u32[T, K], weights f32[T, K] -> [T, W]. */
export function sumValueRows(values: Tensor, rows: Tensor, weights: Tensor): Tensor {
  return apply(valueRowsPrimitive, [values, rows, weights]);
}

/** Products dOut[t] · values[rows[t, k]]: values f32[M, W], rows u32[T, K], dOut f32[T, W] -> [T, K]. */
function dotValueRows(values: Tensor, rows: Tensor, dOut: Tensor): Tensor {
  return apply(readDotsPrimitive, [values, rows, dOut]);
}

/** Sums of weights[t, k] · dOut[t] by row: dOut f32[T, W], weights f32[T, K], rows u32[T, K] -> [M, W]. */
function sumByRow(dOut: Tensor, weights: Tensor, rows: Tensor, count: number): Tensor {
  const flat = reshapeTo(rows, [rows.size]);
  const { order, offsets } = group(flat, count);
  return apply(readSumsPrimitive, [dOut, weights, flat, order, offsets], { count });
}

/** Values and dOut may come from casts and views; of an empty axis there is nothing to compute. */
function lowering(
  build: Extract<Lowering<unknown>, { as: "kernel" }>["build"],
  prologue: readonly number[],
): Lowering<unknown> {
  return {
    as: "kernel",
    build,
    prologue,
    accepts([values, rows]) {
      const [count = 0, width = 0] = values!.shape;
      const [tokens = 0, reads = 0] = rows!.shape;
      return count * width * tokens * reads > 0 && valueRowsFit(reads, width);
    },
  };
}

/** Primitive of the sums. */
export const valueRowsPrimitive: Primitive = definePrimitive<unknown>({
  name: "valueRows",
  kind: "composite",
  shape: ([values, rows]) => [{ shape: [rows!.shape[0]!, values!.shape[1]!], dtype: "f32" }],
  expand([values, rows, weights]) {
    return [sumOver(times(takeRows(values!, rows!), spreadOver(weights!, 2, values!.shape[1]!)), [1])];
  },
  vjp: ([dOut], [values, rows, weights]) => [
    sumByRow(dOut!, weights!, rows!, values!.shape[0]!),
    null,
    dotValueRows(values!, rows!, dOut!),
  ],
  lower: lowering(dispatchValueRows, [0, 2]),
});

/** Primitive of the gradient of weights. */
export const readDotsPrimitive: Primitive = definePrimitive<unknown>({
  name: "valueRowDots",
  kind: "composite",
  shape: ([, rows]) => [{ shape: rows!.shape, dtype: "f32" }],
  expand([values, rows, dOut]) {
    return [sumOver(times(takeRows(values!, rows!), spreadOver(dOut!, 1, rows!.shape[1]!)), [2])];
  },
  vjp: ([ct], [values, rows, dOut]) => [
    sumByRow(dOut!, ct!, rows!, values!.shape[0]!),
    null,
    sumValueRows(values!, rows!, ct!),
  ],
  lower: lowering(dispatchReadDots, [0, 2]),
});

/** Primitive of the gradient of values: dOut, weights, rows u32[T · K], and the order and offsets of their groups. */
export const readSumsPrimitive: Primitive = definePrimitive<{ readonly count: number }>({
  name: "valueRowSums",
  kind: "composite",
  shape: ([dOut], { count }) => [{ shape: [count, dOut!.shape[1]!], dtype: "f32" }],
  expand([dOut, weights, rows], { count }) {
    const [, reads] = weights!.shape as readonly [number, number];
    const [tokens, width] = dOut!.shape as readonly [number, number];
    const terms = times(spreadOver(dOut!, 1, reads), spreadOver(weights!, 2, width));
    return [sumRows(reshapeTo(terms, [tokens * reads, width]), rows!, count)];
  },
  vjp([ct], [dOut, weights, rows]) {
    const own = reshapeTo(rows!, weights!.shape);
    return [sumValueRows(ct!, own, weights!), dotValueRows(ct!, own, dOut!), null, null, null];
  },
  lower: {
    as: "kernel",
    build: (kernel) => dispatchReadSums(kernel),
    prologue: [0, 1],
    accepts: ([dOut, weights], { count }) => count * dOut!.shape[1]! * weights!.shape[0]! * weights!.shape[1]! > 0,
  },
});
