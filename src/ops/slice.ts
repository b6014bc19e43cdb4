/**
 * Picking regularly spaced elements, and its transpose: placing them among zeros.
 *
 * @module
 */
import { castTo, fullLike, reshapeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import { hostView } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { formatAval, normalizeAxes, normalizeAxis, type Shape } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { where } from "./select.ts";
import type { AxesOptions } from "./view.ts";

/** Per axis: output coordinate `c` reads input coordinate `start + step·c`. */
interface SliceAttrs {
  readonly start: readonly number[];
  readonly size: Shape;
  readonly step: readonly number[];
}

/** Per axis: input coordinate `c` goes to output coordinate `low + (interior + 1)·c`; the rest is zero. */
interface PadAttrs {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior: readonly number[];
}

/** Primitive behind {@linkcode slice} and {@linkcode flip}. */
export const slicePrimitive: Primitive = definePrimitive<SliceAttrs>({
  name: "slice",
  kind: "linear",
  shape: ([x], { size }) => [{ shape: size, dtype: x!.dtype }],
  host: ([x], { start, size, step }) => [hostView(x!, size, (at) => at.map((c, i) => start[i]! + step[i]! * c))],
  transpose: ([ct], [x], attrs) => [placeSlice(ct!, x!.shape, attrs)],
  batch: ([x], _mapped, { start, size, step }, n) => [
    sliceBy(x!, { start: [0, ...start], size: [n, ...size], step: [1, ...step] }),
  ],
  lower: {
    as: "view",
    sources(index, view, { start, step }, [x]) {
      const coords = index.coords().map((c, i) => strided(c, start[i]!, step[i]!));
      return [{ input: 0, index: view.at(x!.shape, coords) }];
    },
    lanes({ start, step }, [x], output) {
      const last = x!.shape.length - 1;
      const aligned = last >= 0 && step[last] === 1 && start[last]! % 4 === 0 && x!.shape[last]! % 4 === 0;
      return aligned && output.shape[last]! % 4 === 0 ? "contiguous" : "scattered";
    },
  },
});

function strided(coordinate: string, start: number, step: number): string {
  const scaled = Math.abs(step) === 1 ? coordinate : `(${coordinate} * ${Math.abs(step)}u)`;
  if (step < 0) return `(${start}u - ${scaled})`;
  return start === 0 ? scaled : `(${scaled} + ${start}u)`;
}

function sliceBy(x: Tensor, attrs: SliceAttrs): Tensor {
  const isWhole = attrs.size.every((n, i) => n === x.shape[i] && (n <= 1 || attrs.step[i] === 1));
  return isWhole ? x : apply(slicePrimitive, [x], attrs);
}

/** The transpose of a slice. A negative step is a flip and a positive one. */
function placeSlice(ct: Tensor, shape: Shape, { start, size, step }: SliceAttrs): Tensor {
  const reversed = step.flatMap((s, axis) => s < 0 ? [axis] : []);
  const low = shape.map((_, i) => size[i] === 0 ? 0 : step[i]! < 0 ? start[i]! + step[i]! * (size[i]! - 1) : start[i]!);
  const interior = step.map((s) => Math.abs(s) - 1);
  const high = shape.map((n, i) => n - low[i]! - spanOf(size[i]!, interior[i]!));
  return padBy(flip(ct, { axis: reversed }), { low, high, interior });
}

function spanOf(size: number, interior: number): number {
  return size === 0 ? 0 : (size - 1) * (interior + 1) + 1;
}

/** Primitive behind {@linkcode pad}: places elements among zeros. */
export const padPrimitive: Primitive = definePrimitive<PadAttrs>({
  name: "pad",
  kind: "linear",
  shape: ([x], attrs) => [{ shape: paddedShape(x!.shape, attrs), dtype: x!.dtype }],
  host([x], attrs) {
    const { low, interior } = attrs;
    return [hostView(x!, paddedShape(x!.shape, attrs), (at) => {
      const from = at.map((c, i) => (c - low[i]!) / (interior[i]! + 1));
      return from.every((c, i) => Number.isInteger(c) && c >= 0 && c < x!.shape[i]!) ? from : null;
    })];
  },
  transpose: ([ct], [x], { low, interior }) => [
    sliceBy(ct!, { start: low, size: x!.shape, step: interior.map((gap) => gap + 1) }),
  ],
  batch: ([x], _mapped, { low, high, interior }) => [
    padBy(x!, { low: [0, ...low], high: [0, ...high], interior: [0, ...interior] }),
  ],
  lower: {
    as: "view",
    sources(index, view, { low, high, interior }, [x]) {
      const conditions: string[] = [];
      const coords = index.coords().map((c, i) => {
        const [from, gap, n] = [low[i]!, interior[i]!, x!.shape[i]!];
        // Below `low` the difference wraps around to a huge number, so one comparison checks both ends.
        const offset = from === 0 ? c : `(${c} - ${from}u)`;
        if (from > 0 || high[i]! > 0) conditions.push(`${offset} < ${spanOf(n, gap)}u`);
        if (gap === 0) return offset;
        conditions.push(`${offset} % ${gap + 1}u == 0u`);
        return `(${offset} / ${gap + 1}u)`;
      });
      const source = { input: 0, index: view.at(x!.shape, coords) };
      return [conditions.length === 0 ? source : { ...source, when: `(${conditions.join(" && ")})` }];
    },
    lanes({ low, interior }, [x], output) {
      const last = output.shape.length - 1;
      const inFours = last >= 0 && [low[last]!, x!.shape[last]!, output.shape[last]!].every((n) => n % 4 === 0);
      return inFours && interior[last] === 0 ? "contiguous" : "scattered";
    },
  },
});

function paddedShape(shape: Shape, { low, high, interior }: PadAttrs): Shape {
  return shape.map((n, i) => low[i]! + spanOf(n, interior[i]!) + high[i]!);
}

function padBy(x: Tensor, attrs: PadAttrs): Tensor {
  return paddedShape(x.shape, attrs).every((n, i) => n === x.shape[i]) ? x : apply(padPrimitive, [x], attrs);
}

/** Part of one axis, as Python's `start:stop:step`: negative places count from the end, those beyond it are clipped. */
export interface SliceRange {
  /** First element, by default the first in the direction of the step. */
  readonly start?: number;
  /** Place before which to end, by default past the last in the direction of the step. */
  readonly stop?: number;
  /** Distance between elements, 1 by default. Negative runs backwards. */
  readonly step?: number;
}

function resolveRange({ start, stop, step = 1 }: SliceRange, n: number): { start: number; size: number; step: number } {
  const [least, most] = step > 0 ? [0, n] : [-1, n - 1];
  const clip = (place: number) => Math.min(Math.max(place < 0 ? place + n : place, least), most);
  const first = start === undefined ? (step > 0 ? 0 : n - 1) : clip(start);
  const end = stop === undefined ? (step > 0 ? n : -1) : clip(stop);
  const size = Math.max(0, Math.ceil((end - first) / step));
  return { start: size === 0 ? 0 : first, size, step };
}

function expectRange(x: Tensor, axis: number, range: SliceRange): void {
  const bad = Object.entries(range).find(([name, value]) =>
    value !== undefined && (!Number.isInteger(value) || (name === "step" && value === 0))
  );
  if (bad === undefined) return;
  throw new ShapeError("shape/slice", {
    summary: `Cannot slice axis ${axis} of ${formatAval(x)}: ${bad[0]} is ${bad[1]}`,
    facts: [["op", "slice(x, ranges)"]],
    fix: "use whole numbers, and a step other than 0",
    details: { shape: x.shape, axis, range },
  });
}

/**
 * Takes a part of a tensor.
 *
 * @param ranges One entry for each axis: a range, null for the whole axis, or a number that picks one element and drops
 * the axis. Axes without an entry stay whole.
 * @throws {ShapeError} If there are more entries than axes, a number is out of range, or a step is 0.
 *
 * @example The second row, every other column backwards
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, slice, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const x = tensor([[1, 2, 3], [4, 5, 6]]);
 * assertEquals([...await slice(x, [1, { step: -2 }]).data()], [6, 4]);
 * ```
 */
export function slice(x: Tensor, ranges: readonly (SliceRange | number | null)[]): Tensor {
  if (ranges.length > x.shape.length) {
    throw new ShapeError("shape/slice", {
      summary: `Cannot slice ${formatAval(x)}: ${ranges.length} ranges for ${x.shape.length} axes`,
      facts: [["op", "slice(x, ranges)"]],
      fix: "give at most one range for each axis",
      details: { shape: x.shape, ranges: ranges.length },
    });
  }
  const resolved = x.shape.map((n, axis) => {
    const range = ranges[axis] ?? {};
    if (typeof range !== "number") {
      expectRange(x, axis, range);
      return resolveRange(range, n);
    }
    if (Number.isInteger(range) && range >= -n && range < n) return { start: (range + n) % n, size: 1, step: 1 };
    throw new ShapeError("shape/slice", {
      summary: `Cannot pick element ${range} on axis ${axis} of ${formatAval(x)}`,
      facts: [["op", "slice(x, ranges)"]],
      fix: n === 0 ? "the axis is empty" : `use a whole number in ${-n}..${n - 1}`,
      details: { shape: x.shape, axis, element: range },
    });
  });
  const taken = sliceBy(x, {
    start: resolved.map(({ start }) => start),
    size: resolved.map(({ size }) => size),
    step: resolved.map(({ step }) => step),
  });
  return reshapeTo(taken, taken.shape.filter((_, axis) => typeof ranges[axis] !== "number"));
}

/**
 * Takes a part of one axis and keeps the others whole.
 *
 * @throws {ShapeError} If the axis does not exist, or the range is not of whole numbers.
 */
export function sliceAxis(x: Tensor, axis: number, range: SliceRange): Tensor {
  const at = normalizeAxis("sliceAxis", axis, x.shape.length);
  return slice(x, x.shape.map((_, i) => i === at ? range : null));
}

/**
 * Reverses the order of elements along axes, all by default.
 *
 * @throws {ShapeError} If an axis does not exist.
 */
export function flip(x: Tensor, { axis }: AxesOptions = {}): Tensor {
  const axes = normalizeAxes("flip", axis, x.shape.length);
  return sliceBy(x, {
    start: x.shape.map((n, i) => axes.includes(i) ? Math.max(0, n - 1) : 0),
    size: x.shape,
    step: x.shape.map((_, i) => axes.includes(i) ? -1 : 1),
  });
}

/** How much to add on one axis: on both ends, at each end, or at each end and between neighbors. */
export type PadWidth =
  | number
  | readonly [low: number, high: number]
  | readonly [low: number, high: number, interior: number];

/** Options of {@linkcode pad}. */
export interface PadOptions {
  /** The value added, 0 by default. */
  readonly value?: number;
}

/**
 * Surrounds a tensor with a value, and with an interior width also spaces its elements apart.
 *
 * @param widths One entry for each axis.
 * @throws {ShapeError} If the number of entries differs from the rank, or a width is not a whole number from 0 up.
 *
 * @example One zero before, two after
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, pad, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await pad(tensor([5, 6]), [[1, 2]]).data()], [0, 5, 6, 0, 0]);
 * ```
 */
export function pad(x: Tensor, widths: readonly PadWidth[], { value = 0 }: PadOptions = {}): Tensor {
  const triples = widths.map((width) => typeof width === "number" ? [width, width, 0] : [...width, 0].slice(0, 3));
  if (widths.length !== x.shape.length || triples.flat().some((n) => !Number.isInteger(n) || n < 0)) {
    throw new ShapeError("shape/pad", {
      summary: `Cannot pad ${formatAval(x)} by ${JSON.stringify(widths)}`,
      facts: [["op", "pad(x, widths)"]],
      fix: `give ${x.shape.length} widths, each a whole number from 0 up, [low, high] or [low, high, interior]`,
      details: { shape: x.shape, widths },
    });
  }
  const [low, high, interior] = [0, 1, 2].map((part) => triples.map((triple) => triple[part]!));
  const attrs = { low: low!, high: high!, interior: interior! };
  const padded = padBy(x, attrs);
  if (value === 0 || padded === x) return padded;
  const isInside = castTo(padBy(fullLike(x.shape, "u32", 1), attrs), "bool");
  return where(isInside, padded, fullLike(padded.shape, padded.dtype, value));
}
