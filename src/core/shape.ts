/**
 * Shapes: sizes, strides, broadcasting, axis normalization and how a shape is printed.
 *
 * @module
 */
import type { DType } from "./dtype.ts";
import { ShapeError } from "./errors.ts";

/** Sizes of the axes of a tensor, outermost first. `[]` is a scalar. */
export type Shape = readonly number[];

/** What is known of a value without its data. */
export interface Aval {
  /** Sizes of the axes. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: DType;
}

/** Number of elements of a shape. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** Says whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** Row-major strides of a shape, in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis]!;
  }
  return strides;
}

/** Prints a value's type and shape, such as `f32[2, 3]`. */
export function formatAval(aval: Aval): string {
  return `${aval.dtype}[${aval.shape.join(", ")}]`;
}

/**
 * The shape two operands broadcast to, by the usual rule: align at the last axis, size 1 stretches.
 *
 * @throws {ShapeError} If two sizes differ and neither is 1.
 */
export function broadcastShapes(op: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const out: number[] = [];
  for (let i = 0; i < rank; i++) {
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) {
      throw new ShapeError("shape/broadcast", {
        summary: `Cannot broadcast: axis ${i - rank} is ${m} in one operand and ${n} in the other`,
        facts: [["op", op], ["a", `[${a.join(", ")}]`], ["b", `[${b.join(", ")}]`]],
        fix: "make the sizes equal, or make one of them 1",
        details: { op, a, b },
      });
    }
    out.push(m === 1 ? n : m);
  }
  return out;
}

/**
 * Turns a possibly negative axis into 0..rank-1.
 *
 * @throws {ShapeError} If the axis does not exist.
 */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new ShapeError("shape/axis", {
      summary: `Cannot use axis ${axis}: the tensor has rank ${rank}`,
      facts: [["op", op]],
      fix: rank === 0 ? "a scalar has no axes" : `use an axis in ${-rank}..${rank - 1}`,
      details: { op, axis, rank },
    });
  }
  return axis < 0 ? axis + rank : axis;
}

/**
 * Turns an axis, a list of axes or nothing (all axes) into ascending distinct axes.
 *
 * @throws {ShapeError} If an axis does not exist or is named twice.
 */
export function normalizeAxes(op: string, axis: number | readonly number[] | undefined, rank: number): number[] {
  if (axis === undefined) return Array.from({ length: rank }, (_, i) => i);
  const axes = (typeof axis === "number" ? [axis] : [...axis]).map((a) => normalizeAxis(op, a, rank));
  if (new Set(axes).size !== axes.length) {
    throw new ShapeError("shape/axis", {
      summary: `Cannot use axes [${axes.join(", ")}]: an axis is named twice`,
      facts: [["op", op]],
      fix: "name each axis once",
      details: { op, axes },
    });
  }
  return axes.sort((a, b) => a - b);
}

/**
 * Checks that every size is a non-negative integer.
 *
 * @throws {ShapeError} Naming the first that is not.
 */
export function expectShape(op: string, shape: Shape): void {
  const bad = shape.find((n) => !Number.isInteger(n) || n < 0);
  if (bad !== undefined) {
    throw new ShapeError("shape/size", {
      summary: `Cannot make a tensor of shape [${shape.join(", ")}]: size ${bad} is not a whole number from 0 up`,
      facts: [["op", op]],
      fix: "use non-negative integers",
      details: { op, shape },
    });
  }
}
