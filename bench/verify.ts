/**
 * Comparing what a contender computed with its definition, in float64 on the host.
 *
 * @module
 */
import type { HostData } from "../mod.ts";

/** A benchmark's result is wrong: its time would mean nothing. */
export class WrongResultError extends Error {
  /** The name of the class. */
  override readonly name = "WrongResultError";
}

/** Some units in the last place of f32, for a result that one operation rounds. */
const ONE_ROUNDING = 8e-6;

/**
 * Compares numbers: errors may grow with the root of the terms that are summed for one of them.
 *
 * @param terms Terms summed for one element.
 * @throws {WrongResultError} Naming the worst element.
 */
export function expectClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  terms: number,
): void {
  if (actual.length !== expected.length) {
    throw new WrongResultError(`${what}: ${actual.length} elements, expected ${expected.length}`);
  }
  let scale = 0;
  for (let i = 0; i < expected.length; i++) scale = Math.max(scale, Math.abs(expected[i]!));
  const allowed = ONE_ROUNDING * Math.sqrt(terms) * scale;
  for (let i = 0; i < expected.length; i++) {
    const isFine = Math.abs(actual[i]! - expected[i]!) <= allowed;
    if (!isFine) {
      throw new WrongResultError(`${what}: element ${i} is ${actual[i]}, expected ${expected[i]} ± ${allowed}`);
    }
  }
}

/** Compares integers. */
export function expectEqual(what: string, actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (actual.length !== expected.length) {
    throw new WrongResultError(`${what}: ${actual.length} elements, expected ${expected.length}`);
  }
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] !== expected[i]) {
      throw new WrongResultError(`${what}: element ${i} is ${actual[i]}, expected ${expected[i]}`);
    }
  }
}

/** The tanh form of gelu. */
export function hostGelu(x: number): number {
  return 0.5 * x * (1 + Math.tanh(GELU_SCALE * (x + GELU_CUBE * x ** 3)));
}

/** The derivative of {@linkcode hostGelu}. */
export function hostGeluSlope(x: number): number {
  const bent = Math.tanh(GELU_SCALE * (x + GELU_CUBE * x ** 3));
  return 0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * GELU_SCALE * (1 + 3 * GELU_CUBE * x * x);
}

const GELU_SCALE = Math.sqrt(2 / Math.PI);
const GELU_CUBE = 0.044715;

/** Rows of a matrix that stand for all: the first, one in the middle, the last. */
export function sampleRows(rows: number): readonly number[] {
  return [...new Set([0, rows >> 1, rows - 1])];
}

/** A matrix on the host, given by its elements and the steps between them. */
export interface HostMatrix {
  /** The elements, perhaps of more than this matrix. */
  readonly data: HostData | Float64Array;
  /** Where the matrix starts. */
  readonly offset: number;
  /** Elements from one row to the next. */
  readonly rowStep: number;
  /** Elements from one column to the next. */
  readonly columnStep: number;
}

/** One row of the product of two matrices. */
export function hostProductRow(
  a: HostMatrix,
  b: HostMatrix,
  { row, inner, columns }: { readonly row: number; readonly inner: number; readonly columns: number },
): Float64Array {
  const result = new Float64Array(columns);
  for (let k = 0; k < inner; k++) {
    const factor = a.data[a.offset + row * a.rowStep + k * a.columnStep]!;
    const start = b.offset + k * b.rowStep;
    for (let j = 0; j < columns; j++) result[j]! += factor * b.data[start + j * b.columnStep]!;
  }
  return result;
}
