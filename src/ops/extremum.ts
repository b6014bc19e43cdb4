/**
 * The largest and smallest elements along axes, and where they are.
 *
 * @module
 */
import { castTo, expandTo, iota, reshapeTo, sumOver, times, wgslLiteral } from "../core/arithmetic.ts";
import { type DType, isFloat } from "../core/dtype.ts";
import { DTypeError, ShapeError } from "../core/errors.ts";
import { hostReduce } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { formatAval, normalizeAxes, normalizeAxis, type Shape } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { equal, logicalOr } from "./compare.ts";
import { wgslIsNaN } from "./elementwise.ts";
import { isNaN, reciprocal } from "./unary.ts";
import { where } from "./select.ts";

/** Options of every reduction. */
export interface ReduceOptions {
  /** Axis or axes to reduce, negative from the end; all by default. */
  readonly axis?: number | readonly number[];
  /** Whether reduced axes stay, with size 1. */
  readonly keepDims?: boolean;
}

/** A shape with some axes set to 1. */
export function keptShape(shape: Shape, axes: readonly number[]): Shape {
  return shape.map((n, i) => axes.includes(i) ? 1 : n);
}

/** Puts reduced axes back with size 1 if the options want them. */
export function finish(
  reduced: Tensor,
  x: Tensor,
  axes: readonly number[],
  { keepDims = false }: ReduceOptions,
): Tensor {
  return keepDims ? reshapeTo(reduced, keptShape(x.shape, axes)) : reduced;
}

const LARGEST: Readonly<Record<DType, number>> = {
  f32: Infinity,
  f16: Infinity,
  bf16: Infinity,
  i32: 2147483647,
  u32: 4294967295,
  bool: 1,
};
const SMALLEST: Readonly<Record<DType, number>> = {
  f32: -Infinity,
  f16: -Infinity,
  bf16: -Infinity,
  i32: -2147483648,
  u32: 0,
  bool: 0,
};

/** `isLax`: a NaN among the elements may get lost. */
function extremumPrimitive(name: "max" | "min", { isLax = false }: { readonly isLax?: boolean } = {}): Primitive {
  const isMax = name === "max";
  const identity = isMax ? SMALLEST : LARGEST;
  const primitive: Primitive = definePrimitive<{ axes: readonly number[] }>({
    name: isLax ? `${name}Lax` : name,
    kind: "smooth",
    shape: ([x], { axes }) => [{ shape: x!.shape.filter((_, i) => !axes.includes(i)), dtype: x!.dtype }],
    host: ([x], { axes }) => [hostReduce(x!, axes, identity[x!.dtype], isMax ? Math.max : Math.min)],
    vjp([ct], [x], [y], { axes }) {
      const kept = keptShape(x!.shape, axes);
      const isBest = castTo(equal(x!, reshapeTo(y!, kept)), "f32");
      const share = reciprocal(reshapeTo(sumOver(isBest, axes), kept)); // one divided by the number of ties
      const shared = times(reshapeTo(castTo(ct!, "f32"), kept), share);
      return [castTo(times(isBest, expandTo(shared, x!.shape)), x!.dtype)];
    },
    batch: ([x], _mapped, { axes }) => [apply(primitive, [x!], { axes: axes.map((axis) => axis + 1) })],
    lower: {
      as: "reduce",
      axes: ({ axes }) => axes,
      identity: (dtype) => wgslLiteral(identity[dtype], dtype),
      // The built-in functions may drop NaN. If b is NaN, the comparison is false and b is taken.
      combine: (a, b, t) =>
        t.includes("f32") && !isLax
          ? `select(${b}, ${a}, (${a} ${isMax ? ">" : "<"} ${b}) | ${wgslIsNaN(a, t)})`
          : `${name}(${a}, ${b})`,
    },
  });
  return primitive;
}

/** Primitive behind {@linkcode max}. */
export const maxPrimitive: Primitive = extremumPrimitive("max");
/**
 * The largest element where NaN need not be found, at a fifth of the arithmetic: for shifts of exponentials, whose sum is NaN
 * anyway if an element is.
 */
export const laxMaxPrimitive: Primitive = extremumPrimitive("max", { isLax: true });
/** Primitive behind {@linkcode min}. */
export const minPrimitive: Primitive = extremumPrimitive("min");

function expectNotEmpty(op: string, x: Tensor, axes: readonly number[]): void {
  const empty = axes.find((axis) => x.shape[axis] === 0);
  if (empty === undefined) return;
  throw new ShapeError("shape/empty-reduction", {
    summary: `Cannot take the ${op} of ${formatAval(x)} over axis ${empty}: the axis is empty`,
    facts: [["op", `${op}(x, { axis })`]],
    fix: "reduce an axis with at least one element",
    details: { op, shape: x.shape, axis: empty },
  });
}

function expectNumbers(op: string, x: Tensor): void {
  if (x.dtype !== "bool") return;
  throw new DTypeError("dtype/numeric", {
    summary: `Cannot take the ${op} of ${formatAval(x)}: booleans have no order`,
    facts: [["op", op]],
    fix: `use any(x) or all(x), or cast to "u32" first`,
    details: { op },
  });
}

/** Halves are compared as they are: taking one of them rounds nothing. */
function extremum(primitive: Primitive, x: Tensor, options: ReduceOptions): Tensor {
  const axes = normalizeAxes(primitive.name, options.axis, x.shape.length);
  expectNumbers(primitive.name, x);
  expectNotEmpty(primitive.name, x, axes);
  return axes.length === 0 ? x : finish(apply(primitive, [x], { axes }), x, axes, options);
}

/**
 * Takes the largest element over axes; NaN if there is one. Equal largest elements share the gradient equally.
 *
 * @throws {ShapeError} If a reduced axis is empty or does not exist.
 * @throws {DTypeError} If `x` is boolean.
 *
 * @example The largest of each row
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, max, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await max(tensor([[1, 3], [5, 2]]), { axis: -1 }).data()], [3, 5]);
 * ```
 */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return extremum(maxPrimitive, x, options);
}

/**
 * Takes the smallest element over axes; NaN if there is one. Equal smallest elements share the gradient equally.
 *
 * @throws {ShapeError} If a reduced axis is empty or does not exist.
 * @throws {DTypeError} If `x` is boolean.
 */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return extremum(minPrimitive, x, options);
}

/** Options of {@linkcode argmax} and {@linkcode argmin}. */
export interface ArgOptions {
  /** Axis to search, negative from the end; all elements in row-major order by default. */
  readonly axis?: number;
  /** Whether the axis stays, with size 1. */
  readonly keepDims?: boolean;
}

function placeOfBest(op: "argmax" | "argmin", x: Tensor, { axis, keepDims = false }: ArgOptions): Tensor {
  if (axis === undefined) {
    const flat = placeOfBest(op, reshapeTo(x, [x.size]), { axis: 0 });
    return keepDims ? reshapeTo(flat, x.shape.map(() => 1)) : flat;
  }
  const at = normalizeAxis(op, axis, x.shape.length);
  const numbers = x.dtype === "bool" ? castTo(x, "u32") : x;
  expectNotEmpty(op, x, [at]);
  const best = extremum(op === "argmax" ? maxPrimitive : minPrimitive, numbers, { axis: at, keepDims: true });
  // A row with NaN has a NaN best, which equals nothing: its first NaN wins.
  const isBest = isFloat(x.dtype) ? logicalOr(equal(numbers, best), isNaN(numbers)) : equal(numbers, best);
  const places = where(isBest, iota(x.shape, "u32", at), LARGEST.u32);
  return min(places, { axis: at, keepDims });
}

/**
 * Finds the index of the largest element along an axis; of equal ones the lowest index, and of NaN the first.
 *
 * @returns A u32 tensor.
 * @throws {ShapeError} If the axis is empty or does not exist.
 *
 * @example A tie goes to the lower index
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { argmax, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await argmax(tensor([[1, 3, 3], [5, 2, 0]]), { axis: -1 }).data()], [1, 0]);
 * ```
 */
export function argmax(x: Tensor, options: ArgOptions = {}): Tensor {
  return placeOfBest("argmax", x, options);
}

/**
 * Finds the index of the smallest element along an axis; of equal ones the lowest index, and of NaN the first.
 *
 * @returns A u32 tensor.
 * @throws {ShapeError} If the axis is empty or does not exist.
 */
export function argmin(x: Tensor, options: ArgOptions = {}): Tensor {
  return placeOfBest("argmin", x, options);
}

/**
 * Says whether any element over axes holds; numbers other than 0 count as true. False over an empty axis.
 *
 * @returns A bool tensor.
 */
export function any(x: Tensor, options: ReduceOptions = {}): Tensor {
  return overBooleans("any", maxPrimitive, x, options);
}

/**
 * Says whether all elements over axes hold; numbers other than 0 count as true. True over an empty axis.
 *
 * @returns A bool tensor.
 */
export function all(x: Tensor, options: ReduceOptions = {}): Tensor {
  return overBooleans("all", minPrimitive, x, options);
}

function overBooleans(op: string, primitive: Primitive, x: Tensor, options: ReduceOptions): Tensor {
  const axes = normalizeAxes(op, options.axis, x.shape.length);
  const flags = castTo(x, "bool");
  if (axes.length === 0) return flags;
  return castTo(finish(apply(primitive, [castTo(flags, "u32")], { axes }), x, axes, options), "bool");
}
