/**
 * The mean of several curves and the spread around it.
 *
 * @module
 */
import { spreadOf } from "./statistics.ts";

/** A curve: points in the order of their first number. */
export type Curve = readonly (readonly [x: number, y: number])[];

/** A point of a mean curve. */
export interface MeanPoint {
  /** Where it is. */
  readonly x: number;
  /** The mean there. */
  readonly mean: number;
  /** The standard deviation there; 0 of a single curve. */
  readonly deviation: number;
}

/**
 * Averages curves at the points of the first one, as far as all of them reach; others are read between their points.
 *
 * @param curves The curves.
 * @returns The mean curve; empty if a curve is.
 */
export function meanCurve(curves: readonly Curve[]): readonly MeanPoint[] {
  const [first] = curves;
  if (first === undefined || curves.some((curve) => curve.length === 0)) return [];
  const from = Math.max(...curves.map((curve) => curve[0]![0]));
  const until = Math.min(...curves.map((curve) => curve.at(-1)![0]));
  // Where the time decides, runs end at different points; the end is what matters most.
  const places = [...new Set([...first.map(([x]) => x), until])].filter((x) => x >= from && x <= until);
  return places.sort((a, b) => a - b).map((x) => {
    const { mean, deviation } = spreadOf(curves.map((curve) => valueAt(curve, x)));
    return { x, mean, deviation: curves.length < 2 ? 0 : deviation };
  });
}

/** The value of a curve at a place that it reaches. */
function valueAt(curve: Curve, x: number): number {
  const after = curve.findIndex(([place]) => place >= x);
  const [right, high] = curve[after]!;
  if (right === x || after === 0) return high;
  const [left, low] = curve[after - 1]!;
  return low + (high - low) * (x - left) / (right - left);
}
