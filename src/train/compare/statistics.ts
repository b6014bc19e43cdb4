/**
 * Means, spreads and differences of a few numbers.
 *
 * @module
 */

/** A mean and how far single values lie from it. */
export interface Spread {
  /** The mean; NaN of no values. */
  readonly mean: number;
  /** The standard deviation of a sample (divided by n − 1); NaN of fewer than two values. */
  readonly deviation: number;
  /** Number of values. */
  readonly count: number;
}

/**
 * Measures the mean and the spread of values.
 *
 * @param values Any number of finite values.
 * @returns Mean, sample standard deviation and count.
 */
export function spreadOf(values: readonly number[]): Spread {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: count < 2 ? NaN : Math.sqrt(squares / (count - 1)), count };
}

/**
 * Measures how two series differ, key by key: what both have in common, such as a seed's batches, cancels out.
 *
 * @param values Values by key.
 * @param reference Values to subtract, by key. Keys that only one of both has do not count.
 * @returns The spread of `values − reference`.
 */
export function pairedDifference(
  values: ReadonlyMap<number, number>,
  reference: ReadonlyMap<number, number>,
): Spread {
  return spreadOf([...values].flatMap(([key, value]) => {
    const other = reference.get(key);
    return other === undefined ? [] : [value - other];
  }));
}

/**
 * Finds the median.
 *
 * @param values Any number of finite values.
 * @returns The middle one, or the mean of the middle two; NaN of no values.
 */
export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length === 0
    ? NaN
    : Number.isInteger(middle)
    ? (sorted[middle - 1]! + sorted[middle]!) / 2
    : sorted[Math.floor(middle)]!;
}
