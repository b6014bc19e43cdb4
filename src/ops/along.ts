/**
 * Picking elements along the last axis, row by row, and its transpose: adding elements to the places they came from.
 *
 * Rows are everything before the last axis, equal in both operands. An index past the end picks zero and is dropped
 * when adding. What users call is `takeAlong` in `gather.ts`.
 *
 * @module
 */
import { castTo, fullLike, iota, plus, reshapeTo, times, wgslLiteral } from "../core/arithmetic.ts";
import { bytesPerElement } from "../core/dtype.ts";
import { hostFill } from "../core/host.ts";
import { type KernelContext, type Operand, wgsl } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, sizeOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { spread } from "../core/vmap.ts";
import { less } from "./compare.ts";
import { sumRows } from "./rows.ts";
import { where } from "./select.ts";

/** Indices of a row up to which every element looks at all of them; more go through a grouping. */
const FEW = 32;

function lastOf(aval: Aval): number {
  return aval.shape.at(-1)!;
}

function withLast(aval: Aval, size: number): Aval {
  return { shape: aval.shape.with(-1, size), dtype: aval.dtype };
}

function spreadAll(inputs: readonly Tensor[], mapped: readonly boolean[], batch: number): readonly Tensor[] {
  return inputs.map((input, i) => mapped[i] ? input : spread(input, batch));
}

/** Primitive behind {@linkcode pickAlong}: x [...M, N] and u32 indices [...M, K] -> [...M, K]. A view, so it fuses. */
export const pickAlongPrimitive: Primitive = definePrimitive<null>({
  name: "pickAlong",
  kind: "linear",
  shape: ([x, indices]) => [withLast(x!, lastOf(indices!))],
  host([x, indices]) {
    const [n, k] = [lastOf(x!), lastOf(indices!)];
    return [hostFill(withLast(x!, k), (i) => {
      const place = indices!.data[i]!;
      return place < n ? x!.data[Math.floor(i / k) * n + place]! : 0;
    })];
  },
  transpose: ([ct], [x, indices]) => [addAlong(ct!, indices!, lastOf(x!)), null],
  batch: (inputs, mapped, _attrs, batch) => [apply(pickAlongPrimitive, spreadAll(inputs, mapped, batch))],
  lower: {
    as: "view",
    sources(index, view, _attrs, [x]) {
      const place = view.value(1, index);
      const at = view.at(x!.shape, index.coords().with(-1, place));
      return [{ input: 0, index: at, when: `(${place} < ${lastOf(x!)}u)` }];
    },
  },
});

/** Picks elements of each row of x [...M, N] by u32 indices [...M, K]. */
export function pickAlong(x: Tensor, indices: Tensor): Tensor {
  return apply(pickAlongPrimitive, [x, indices]);
}

/** Primitive behind {@linkcode addAlong}: values [...M, K] and u32 indices [...M, K] -> [...M, size], K small. */
export const addAlongPrimitive: Primitive = definePrimitive<{ size: number }>({
  name: "addAlong",
  kind: "linear",
  shape: ([values], { size }) => [withLast(values!, size)],
  host([values, indices], { size }) {
    const k = lastOf(values!);
    const output = withLast(values!, size);
    const data = new Float64Array(sizeOf(output.shape));
    values!.data.forEach((value, i) => {
      const place = indices!.data[i]!;
      if (place < size) data[Math.floor(i / k) * size + place]! += value;
    });
    return [hostFill(output, (i) => data[i]!)];
  },
  transpose: ([ct], [, indices]) => [pickAlong(ct!, indices!), null],
  batch: (inputs, mapped, attrs, batch) => [apply(addAlongPrimitive, spreadAll(inputs, mapped, batch), attrs)],
  lower: { as: "kernel", build: buildAddAlong, prologue: [0] },
});

/** One invocation for four elements of a row (one where its length is not a multiple of 4). */
function buildAddAlong(kernel: KernelContext): void {
  const [values, indices] = kernel.inputs as [Operand, Operand];
  const [output] = kernel.outputs as [Operand];
  const k = lastOf(values);
  const size = lastOf(output);
  if (sizeOf(output.shape) === 0) return;
  const lanes = size % 4 === 0 ? 4 : 1;
  const t = lanes === 4 ? `vec4<${output.dtype}>` : output.dtype;
  const zero = wgslLiteral(0, output.dtype);
  const own = lanes === 4 ? "vec4<u32>(first, first + 1u, first + 2u, first + 3u)" : "first";
  kernel.dispatch({
    label: "add along",
    grid: { threads: sizeOf(output.shape) / lanes },
    reads: [values, indices],
    writes: [output],
    body: (code) =>
      wgsl`
    let first = (id % ${size / lanes}u) * ${lanes}u;
    let row = id / ${size / lanes}u;
    let own = ${own};
    var sum = ${t}(${zero});
    for (var j = 0u; j < ${k}u; j++) {
      let place = ${code.load(indices, `row * ${k}u + j`)};
      sum += select(${t}(${zero}), ${t}(${code.load(values, `row * ${k}u + j`)}), own == ${
        lanes === 4 ? "vec4<u32>(place)" : "place"
      });
    }
    ${code.store(output, `id * ${lanes}u`, "sum", lanes)}`,
  });
}

/**
 * Adds values [...M, K] into rows of `size` zeros at u32 indices [...M, K], in the order of K. Half precision is added
 * in f32 and rounded once.
 */
export function addAlong(values: Tensor, indices: Tensor, size: number): Tensor {
  const k = lastOf(values);
  const output = withLast(values, size);
  if (values.size === 0 || size === 0) return fullLike(output.shape, output.dtype, 0);
  const wide = bytesPerElement(values.dtype) === 2 ? castTo(values, "f32") : values;
  if (k <= FEW) return castTo(apply(addAlongPrimitive, [wide, indices], { size }), values.dtype);
  const rows = values.size / k;
  const starts = times(iota([rows, k], "u32", 0), fullLike([rows, k], "u32", size));
  const own = reshapeTo(indices, [rows, k]);
  const places = where(less(own, size), plus(own, starts), 0xffffffff);
  return castTo(reshapeTo(sumRows(reshapeTo(wide, [rows, k]), places, rows * size), output.shape), values.dtype);
}
