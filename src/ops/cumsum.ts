/**
 * Running sums along an axis.
 *
 * Kernel: the tensor is [outer, n, inner]. Short axes take one invocation for each line. Long ones are cut into about √n
 * chunks of √n: chunk sums, running sums of those, then each chunk from its own start. No invocation loops more than √n
 * times, which also keeps it under the 65,535 iterations that the software adapter allows. The order of additions is
 * fixed. Memory: one partial sum a chunk.
 *
 * @module
 */
import { castTo, computeType, wgslLiteral } from "../core/arithmetic.ts";
import { bytesPerElement, isFloat, roundTo } from "../core/dtype.ts";
import { type Code, type KernelContext, type Operand, wgsl } from "../core/kernel.ts";
import { definePrimitive, type HostArray, type Primitive } from "../core/primitive.ts";
import { normalizeAxis, sizeOf } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";

/** Options of {@linkcode cumsum}. */
export interface CumsumOptions {
  /** Axis to sum along, negative from the end; the last by default. */
  readonly axis?: number;
  /** Whether sums run from the end: element i gets the sum from i on. */
  readonly reverse?: boolean;
  /** Whether an element is left out of its own sum, so that the first sum is 0. */
  readonly exclusive?: boolean;
}

interface CumsumAttrs {
  readonly axis: number;
  readonly reverse: boolean;
  readonly exclusive: boolean;
}

/** A tensor seen as lines along one axis. */
interface Lines {
  readonly outer: number;
  readonly length: number;
  readonly inner: number;
}

function linesOf({ shape }: { readonly shape: readonly number[] }, axis: number): Lines {
  return { outer: sizeOf(shape.slice(0, axis)), length: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}

function hostCumsum(x: HostArray, { axis, reverse, exclusive }: CumsumAttrs): HostArray {
  const { outer, length, inner } = linesOf(x, axis);
  const data = new Float64Array(x.data.length);
  for (let line = 0; line < outer * inner; line++) {
    const base = Math.floor(line / inner) * length * inner + line % inner;
    let total = 0;
    for (let i = 0; i < length; i++) {
      const at = base + (reverse ? length - 1 - i : i) * inner;
      const next = total + x.data[at]!;
      const wrapped = isFloat(x.dtype) ? next : roundTo(x.dtype, next);
      data[at] = exclusive ? total : wrapped;
      total = wrapped;
    }
  }
  return { shape: x.shape, dtype: x.dtype, data };
}

/** Lines up to here take one invocation. */
const SHORT_LINE = 256;
/** With this many lines the device is busy without chunks, as long as no line is longer than LONGEST_LOOP. */
const MANY_LINES = 16384;
const LONGEST_LOOP = 16384;

function buildCumsum(kernel: KernelContext, attrs: CumsumAttrs): void {
  const [input] = kernel.inputs as [Operand];
  const [output] = kernel.outputs as [Operand];
  const { outer, length, inner } = linesOf(input, attrs.axis);
  const isOnePass = length <= SHORT_LINE || (outer * inner >= MANY_LINES && length <= LONGEST_LOOP);
  const chunk = isOnePass ? Math.max(1, length) : Math.ceil(Math.sqrt(length));
  const chunks = Math.ceil(length / chunk);
  const t = computeType(input.dtype);
  const zero = wgslLiteral(0, input.dtype);

  /** Runs through a chunk's elements in summing order; `step` may use `at` and `total`. */
  function walk(start: string, step: string): string {
    const position = attrs.reverse ? `(${length - 1}u - i)` : "i";
    return wgsl`
  let line = (id / ${inner * chunks}u) * ${length * inner}u + id % ${inner}u;
  let begin = ((id / ${inner}u) % ${chunks}u) * ${chunk}u;
  var total: ${t} = ${start};
  for (var i = begin; i < min(begin + ${chunk}u, ${length}u); i++) {
    let at = line + ${position} * ${inner}u;
    ${step}
  }`;
  }
  function finalWalk(code: Code, start: string): string {
    const accumulate = `total += ${code.load(input, "at")};`;
    const store = code.store(output, "at", "total");
    return walk(
      start,
      attrs.exclusive ? `let own = ${code.load(input, "at")}; ${store} total += own;` : `${accumulate} ${store}`,
    );
  }

  const threads = outer * chunks * inner; // one for each line and chunk
  if (isOnePass) {
    kernel.dispatch({
      label: "cumsum",
      grid: { threads },
      reads: [input],
      writes: [output],
      body: (code) => finalWalk(code, zero),
    });
    return;
  }
  const sums = kernel.scratch([outer, chunks, inner], input.dtype);
  const starts = kernel.scratch([outer, chunks, inner], input.dtype);
  kernel.dispatch({
    label: "cumsum chunk sums",
    grid: { threads },
    reads: [input],
    writes: [sums],
    body: (code) => `${walk(zero, `total += ${code.load(input, "at")};`)}\n  ${code.store(sums, "id", "total")}`,
  });
  kernel.dispatch({
    label: "cumsum chunk starts",
    grid: { threads: outer * inner },
    reads: [sums],
    writes: [starts],
    body: (code) =>
      wgsl`
  let base = (id / ${inner}u) * ${chunks * inner}u + id % ${inner}u;
  var total: ${t} = ${zero};
  for (var i = 0u; i < ${chunks}u; i++) {
    let at = base + i * ${inner}u;
    ${code.store(starts, "at", "total")}
    total += ${code.load(sums, "at")};
  }`,
  });
  kernel.dispatch({
    label: "cumsum",
    grid: { threads },
    reads: [input, starts],
    writes: [output],
    body: (code) => finalWalk(code, code.load(starts, "id")),
  });
}

/** Primitive behind {@linkcode cumsum}. */
export const cumsumPrimitive: Primitive = definePrimitive<CumsumAttrs>({
  name: "cumsum",
  kind: "linear",
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  host: ([x], attrs) => [hostCumsum(x!, attrs)],
  transpose: ([ct], _, attrs) => [apply(cumsumPrimitive, [ct!], { ...attrs, reverse: !attrs.reverse })],
  batch: ([x], _mapped, attrs) => [apply(cumsumPrimitive, [x!], { ...attrs, axis: attrs.axis + 1 })],
  lower: { as: "kernel", build: buildCumsum, prologue: [0] },
});

/**
 * Sums elements along an axis up to and including each.
 *
 * Half precision is summed in f32 and rounded once; booleans are counted in u32, and integers wrap around.
 *
 * @throws {ShapeError} If the axis does not exist.
 *
 * @example Offsets of groups from their sizes
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { cumsum, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const sizes = tensor([2, 0, 3], { dtype: "u32" });
 * assertEquals([...await cumsum(sizes).data()], [2, 2, 5]);
 * assertEquals([...await cumsum(sizes, { exclusive: true }).data()], [0, 2, 2]);
 * ```
 */
export function cumsum(x: Tensor, { axis = -1, reverse = false, exclusive = false }: CumsumOptions = {}): Tensor {
  const attrs: CumsumAttrs = { axis: normalizeAxis("cumsum", axis, x.shape.length), reverse, exclusive };
  const counted = x.dtype === "bool" ? castTo(x, "u32") : x;
  const wide = bytesPerElement(x.dtype) === 2 ? castTo(counted, "f32") : counted;
  return castTo(apply(cumsumPrimitive, [wide], attrs), counted.dtype);
}
