/**
 * How far a kernel may be from the float64 oracle, and the comparison itself.
 *
 * @module
 */
import { AssertionError } from "@std/assert";
import type { DType } from "../../src/core/dtype.ts";

/** Allowed difference: `absolute + relative · |expected|`. */
export interface Tolerance {
  /** Share of the expected value. */
  readonly relative: number;
  /** Added to it, and scaled by the largest expected value where that exceeds 1. */
  readonly absolute: number;
}

/** Exact agreement. */
export const EXACT: Tolerance = { relative: 0, absolute: 0 };

/** About 32 units in the last place: WGSL lets exp, log and pow be off by several, and chains add up. */
const BASE: Readonly<Record<DType, Tolerance>> = {
  f32: { relative: 4e-6, absolute: 2e-6 },
  f16: { relative: 4e-3, absolute: 2e-3 },
  bf16: { relative: 3e-2, absolute: 2e-2 },
  i32: EXACT,
  u32: EXACT,
  bool: EXACT,
};

/**
 * The tolerance of a type.
 *
 * @param reductionLength Terms summed for one element: rounding errors grow like the square root of their number.
 */
export function toleranceFor(dtype: DType, reductionLength = 1): Tolerance {
  const { relative, absolute } = BASE[dtype];
  const growth = Math.sqrt(Math.max(1, reductionLength));
  return { relative: relative * growth, absolute: absolute * growth };
}

/** The coarser of some tolerances. */
export function coarsest(tolerances: readonly Tolerance[]): Tolerance {
  return {
    relative: Math.max(0, ...tolerances.map(({ relative }) => relative)),
    absolute: Math.max(0, ...tolerances.map(({ absolute }) => absolute)),
  };
}

/** Asserts that numbers agree; NaN agrees with NaN, an infinity with itself. Names the worst element. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
  label: string,
): void {
  if (actual.length !== expected.length) {
    throw new AssertionError(`${label}: ${actual.length} elements, expected ${expected.length}`);
  }
  const finite = Array.from(expected).filter(Number.isFinite).map(Math.abs);
  const scale = finite.reduce((most, value) => Math.max(most, value), 1);
  let worst = -1;
  let worstExcess = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (Object.is(a, e) || a === e) continue;
    const allowed = tolerance.relative * Math.abs(e) + tolerance.absolute * scale;
    const difference = Math.abs(a - e);
    const excess = difference <= allowed && Number.isFinite(e)
      ? 0
      : Number.isFinite(difference)
      ? difference
      : Infinity;
    if (excess > worstExcess) [worst, worstExcess] = [i, excess];
  }
  if (worst < 0) return;
  throw new AssertionError(
    `${label}: element ${worst} is ${actual[worst]}, expected ${
      expected[worst]
    } (off by ${worstExcess}; relative ${tolerance.relative}, absolute ${tolerance.absolute})`,
  );
}
