/**
 * Taking rows by index and adding rows by index: two primitives, each the transpose of the other.
 *
 * Both see an index past the end as "none": the row taken is zero, the row added is dropped. What users call is in
 * `gather.ts` and `scatter.ts`.
 *
 * @module
 */
import { castTo, fullLike, iota, plus, reshapeTo, times, transposeTo } from "../core/arithmetic.ts";
import { bytesPerElement } from "../core/dtype.ts";
import { hostFill } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Shape, sizeOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { spread } from "../core/vmap.ts";
import { less } from "./compare.ts";
import { group } from "./group.ts";
import { buildSegmentSum } from "./segment_kernel.ts";
import { where } from "./select.ts";

/** Marks an index that names no row. */
const NO_ROW = 0xffffffff;

/** Swaps axes 0 and 1. */
function swapLeading(x: Tensor): Tensor {
  return transposeTo(x, x.shape.map((_, axis) => axis === 0 ? 1 : axis === 1 ? 0 : axis));
}

/** Numbers 0, step, 2·step, … along axis 0 of a shape. */
function multiples(shape: Shape, step: number): Tensor {
  return times(iota(shape, "u32", 0), fullLike(shape, "u32", step));
}

/** Primitive behind {@linkcode takeRows}: x [N, ...R] and u32 indices [...I] -> [...I, ...R]. A view, so it fuses. */
export const takeRowsPrimitive: Primitive = definePrimitive<null>({
  name: "takeRows",
  kind: "linear",
  shape: ([x, indices]) => [{ shape: [...indices!.shape, ...x!.shape.slice(1)], dtype: x!.dtype }],
  host([x, indices]) {
    const [rows, ...rest] = x!.shape as [number, ...number[]];
    const width = sizeOf(rest);
    return [hostFill({ shape: [...indices!.shape, ...rest], dtype: x!.dtype }, (i) => {
      const row = indices!.data[Math.floor(i / width)]!;
      return row < rows ? x!.data[row * width + i % width]! : 0;
    })];
  },
  transpose: ([ct], [x, indices]) => [sumRows(ct!, indices!, x!.shape[0]!), null],
  batch([x, indices], [isXMapped, areIndicesMapped], _attrs, batch) {
    if (!isXMapped) return [takeRows(x!, indices!)];
    if (!areIndicesMapped) {
      const together = takeRows(swapLeading(x!), indices!);
      const rank = indices!.shape.length;
      return [
        transposeTo(together, together.shape.map((_, axis) => axis === 0 ? rank : axis <= rank ? axis - 1 : axis)),
      ];
    }
    const [, rows, ...rest] = x!.shape as [number, number, ...number[]];
    const own = plus(indices!, multiples(indices!.shape, rows));
    return [takeRows(reshapeTo(x!, [batch * rows, ...rest]), where(less(indices!, rows), own, NO_ROW))];
  },
  lower: {
    as: "view",
    sources(index, view, _attrs, [x, indices]) {
      const coords = index.coords();
      const rank = indices!.shape.length;
      const row = view.value(1, view.at(indices!.shape, coords.slice(0, rank)));
      const at = view.at(x!.shape, [row, ...coords.slice(rank)]);
      return [{ input: 0, index: at, when: `(${row} < ${x!.shape[0]}u)` }];
    },
    lanes(_attrs, [x], output) {
      return x!.shape.length > 1 && output.shape.at(-1)! % 4 === 0 ? "contiguous" : "scattered";
    },
  },
});

/** Takes rows of x [N, ...R] by u32 indices [...I]; a row past the end is zero. */
export function takeRows(x: Tensor, indices: Tensor): Tensor {
  return apply(takeRowsPrimitive, [x, indices]);
}

/** Primitive behind {@linkcode sumRows}: values [A, D], ids u32 [A], and the order and offsets of the ids' groups. */
export const segmentSumPrimitive: Primitive = definePrimitive<{ segments: number }>({
  name: "segmentSum",
  kind: "linear",
  shape: ([values], { segments }) => [{ shape: [segments, values!.shape[1]!], dtype: values!.dtype }],
  host([values, ids], { segments }) {
    const [, columns] = values!.shape as [number, number];
    const data = new Float64Array(segments * columns);
    ids!.data.forEach((id, row) => {
      if (id >= segments) return;
      for (let c = 0; c < columns; c++) data[id * columns + c]! += values!.data[row * columns + c]!;
    });
    return [hostFill({ shape: [segments, columns], dtype: values!.dtype }, (i) => data[i]!)];
  },
  transpose: ([ct], [, ids]) => [takeRows(ct!, ids!), null, null, null],
  batch([values, ids], [areValuesMapped, areIdsMapped], { segments }, batch) {
    if (!areIdsMapped) {
      const [, rows, columns] = values!.shape as [number, number, number];
      const side = reshapeTo(swapLeading(values!), [rows, batch * columns]);
      return [swapLeading(reshapeTo(sumRows(side, ids!, segments), [segments, batch, columns]))];
    }
    const [rows, columns] = values!.shape.slice(areValuesMapped ? 1 : 0) as [number, number];
    const own = plus(ids!, multiples(ids!.shape, segments));
    const shared = reshapeTo(where(less(ids!, segments), own, NO_ROW), [batch * rows]);
    const all = areValuesMapped ? values! : spread(values!, batch);
    const sums = sumRows(reshapeTo(all, [batch * rows, columns]), shared, batch * segments);
    return [reshapeTo(sums, [batch, segments, columns])];
  },
  lower: { as: "kernel", build: buildSegmentSum, prologue: [0] },
});

/**
 * Adds rows with equal ids: values [...I, ...R] and u32 ids [...I] -> [segments, ...R]. Ids past the end are dropped.
 * Half precision is added in f32 and rounded once.
 */
export function sumRows(values: Tensor, ids: Tensor, segments: number): Tensor {
  const rest = values.shape.slice(ids.shape.length);
  if (segments === 0 || values.size === 0) return fullLike([segments, ...rest], values.dtype, 0);
  const wide = bytesPerElement(values.dtype) === 2 ? castTo(values, "f32") : values;
  const flatIds = reshapeTo(ids, [ids.size]);
  const { order, offsets } = group(flatIds, segments);
  const flat = reshapeTo(wide, [ids.size, sizeOf(rest)]);
  const sums = apply(segmentSumPrimitive, [flat, flatIds, order, offsets], { segments });
  return castTo(reshapeTo(sums, [segments, ...rest]), values.dtype);
}
