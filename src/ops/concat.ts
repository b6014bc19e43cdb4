/**
 * Joining tensors along an axis, and taking them apart again.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { promote } from "../core/dtype.ts";
import { ShapeError } from "../core/errors.ts";
import { coordinatesOf, hostFill } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, formatAval, normalizeAxis, stridesOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { spread } from "../core/vmap.ts";
import { sliceAxis } from "./slice.ts";
import { type AxisOptions, unsqueeze } from "./view.ts";

/** Operands of one node. Each may be a storage buffer of its own, and an adapter may allow only 8 in a kernel. */
const MAX_OPERANDS = 6;

function joinedShape(inputs: readonly Aval[], axis: number): number[] {
  return inputs[0]!.shape.with(axis, inputs.reduce((sum, { shape }) => sum + shape[axis]!, 0));
}

/** Where each input begins along the axis, and the end of the last. */
function boundaries(inputs: readonly Aval[], axis: number): number[] {
  const starts = [0];
  for (const { shape } of inputs) starts.push(starts.at(-1)! + shape[axis]!);
  return starts;
}

/** Primitive behind {@linkcode concat}: at most six operands of one type. */
export const concatPrimitive: Primitive = definePrimitive<{ axis: number }>({
  name: "concat",
  kind: "linear",
  shape: (inputs, { axis }) => [{ shape: joinedShape(inputs, axis), dtype: inputs[0]!.dtype }],
  host(inputs, { axis }) {
    const shape = joinedShape(inputs, axis);
    const starts = boundaries(inputs, axis);
    const strides = inputs.map((input) => stridesOf(input.shape));
    return [hostFill({ shape, dtype: inputs[0]!.dtype }, (i) => {
      const at = coordinatesOf(i, shape);
      const part = starts.findLastIndex((start, k) =>
        k < inputs.length && start <= at[axis]! && at[axis]! < starts[k + 1]!
      );
      at[axis]! -= starts[part]!;
      return inputs[part]!.data[at.reduce((sum, c, k) => sum + c * strides[part]![k]!, 0)]!;
    })];
  },
  transpose([ct], inputs, { axis }) {
    const starts = boundaries(inputs, axis);
    return inputs.map((_, k) => sliceAxis(ct!, axis, { start: starts[k]!, stop: starts[k + 1]! }));
  },
  batch: (inputs, mapped, { axis }, n) => [
    apply(concatPrimitive, inputs.map((input, i) => mapped[i] ? input : spread(input, n)), { axis: axis + 1 }),
  ],
  lower: {
    as: "view",
    sources(index, view, { axis }, inputs) {
      const starts = boundaries(inputs, axis);
      const coords = index.coords();
      return inputs.flatMap((input, k) => {
        if (input.shape[axis] === 0) return [];
        // Sources are tried in order, so only the upper end needs a check.
        const place = starts[k] === 0 ? coords[axis]! : `(${coords[axis]} - ${starts[k]}u)`;
        const source = { input: k, index: view.at(input.shape, coords.with(axis, place)) };
        const isLast = starts[k + 1] === starts.at(-1);
        return [isLast ? source : { ...source, when: `(${coords[axis]} < ${starts[k + 1]}u)` }];
      });
    },
    lanes({ axis }, inputs, output) {
      const last = output.shape.length - 1;
      const sizes = axis === last ? inputs.map(({ shape }) => shape[last]!) : [output.shape[last]!];
      return sizes.every((n) => n % 4 === 0) ? "contiguous" : "scattered";
    },
  },
});

/**
 * Joins tensors along an axis, the first by default. Their types are promoted to a common one.
 *
 * @throws {ShapeError} If there is no tensor, or sizes differ on another axis.
 *
 * @example Rows below rows
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { concat, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const joined = concat([tensor([[1, 2]]), tensor([[3, 4], [5, 6]])]);
 * assertEquals([...await joined.data()], [1, 2, 3, 4, 5, 6]);
 * ```
 */
export function concat(tensors: readonly Tensor[], { axis = 0 }: AxisOptions = {}): Tensor {
  const first = expectSome("concat", tensors);
  const at = normalizeAxis("concat", axis, first.shape.length);
  const misfit = tensors.find(({ shape }) =>
    shape.length !== first.shape.length || shape.some((n, i) => i !== at && n !== first.shape[i])
  );
  if (misfit !== undefined) {
    throw new ShapeError("shape/concat", {
      summary: `Cannot join ${formatAval(first)} and ${formatAval(misfit)} along axis ${at}`,
      facts: [["op", "concat(tensors, { axis })"]],
      fix: "make all other sizes equal",
      details: { axis: at, shapes: tensors.map(({ shape }) => shape) },
    });
  }
  const dtype = tensors.map((tensor) => tensor.dtype).reduce(promote);
  return joinAll(tensors.map((tensor) => castTo(tensor, dtype)), at);
}

function joinAll(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 1) return tensors[0]!;
  if (tensors.length <= MAX_OPERANDS) return apply(concatPrimitive, tensors, { axis });
  const parts: Tensor[] = [];
  for (let i = 0; i < tensors.length; i += MAX_OPERANDS) parts.push(joinAll(tensors.slice(i, i + MAX_OPERANDS), axis));
  return joinAll(parts, axis);
}

function expectSome(op: string, tensors: readonly Tensor[]): Tensor {
  if (tensors[0] !== undefined) return tensors[0];
  throw new ShapeError("shape/concat", {
    summary: `Cannot apply ${op} to no tensors: the result would have no shape`,
    facts: [["op", `${op}(tensors)`]],
    fix: "pass at least one tensor",
  });
}

/**
 * Joins tensors of one shape along a new axis: `axis` is its place in the result, the first by default.
 *
 * @throws {ShapeError} If there is no tensor, or shapes differ.
 *
 * @example Two vectors as columns
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, stack, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await stack([tensor([1, 2]), tensor([3, 4])], { axis: 1 }).data()], [1, 3, 2, 4]);
 * ```
 */
export function stack(tensors: readonly Tensor[], { axis = 0 }: AxisOptions = {}): Tensor {
  const first = expectSome("stack", tensors);
  const at = normalizeAxis("stack", axis, first.shape.length + 1);
  return concat(tensors.map((tensor) => unsqueeze(tensor, at)), { axis: at });
}

/**
 * Takes a tensor apart along an axis.
 *
 * @param parts A number of equal parts, or the size of each part.
 * @throws {ShapeError} If the axis does not divide into that many parts, or the sizes do not add up to it.
 *
 * @example Two halves, and three parts of chosen size
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { arange, splitAxis } from "@switchyard/switchyard";
 *
 * assertEquals(splitAxis(arange(6), 0, 2).map((part) => part.shape), [[3], [3]]);
 * assertEquals(splitAxis(arange(6), 0, [1, 2, 3]).map((part) => part.shape), [[1], [2], [3]]);
 * ```
 */
export function splitAxis(x: Tensor, axis: number, parts: number | readonly number[]): Tensor[] {
  const at = normalizeAxis("splitAxis", axis, x.shape.length);
  const n = x.shape[at]!;
  const sizes = typeof parts === "number"
    ? new Array<number>(Math.max(0, Math.trunc(parts) || 0)).fill(n / parts)
    : parts;
  const isPartition = sizes.every((size) => Number.isInteger(size) && size >= 0) &&
    sizes.reduce((sum, size) => sum + size, 0) === n;
  if (!isPartition || sizes.length === 0) {
    throw new ShapeError("shape/split", {
      summary: typeof parts === "number"
        ? `Cannot split axis ${at} of ${formatAval(x)} into ${parts} equal parts`
        : `Cannot split axis ${at} of ${formatAval(x)} into parts of size ${parts.join(", ")}`,
      facts: [["op", "splitAxis(x, axis, parts)"]],
      fix: `use a divisor of ${n}, or sizes that add up to ${n}`,
      details: { shape: x.shape, axis: at, parts },
    });
  }
  let start = 0;
  return sizes.map((size) => sliceAxis(x, at, { start, stop: start += size }));
}
