/**
 * A seeded generator of test data. Tests never draw from `Math.random`: a failure must repeat.
 *
 * @module
 */

/** Draws that depend on the seed alone. */
export interface RandomSource {
  /** A number in [low, high). */
  uniform(low?: number, high?: number): number;
  /** A whole number in low..high-1. */
  integer(low: number, high: number): number;
  /** A standard normal number. */
  normal(): number;
  /** `count` standard normal numbers. */
  normals(count: number): Float64Array;
}

/** Makes a generator (splitmix32). */
export function randomSource(seed: number): RandomSource {
  let state = seed >>> 0;
  function uniform(low = 0, high = 1): number {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return low + (high - low) * (((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32);
  }
  function normal(): number {
    return Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }
  return {
    uniform,
    integer: (low, high) => Math.floor(uniform(low, high)),
    normal,
    normals(count) {
      // Several times faster than Float64Array.from, and a measured process draws its data before it starts.
      const values = new Float64Array(count);
      for (let i = 0; i < count; i++) values[i] = normal();
      return values;
    },
  };
}
