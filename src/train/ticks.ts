/**
 * Round numbers for chart axes.
 *
 * @module
 */

/**
 * Finds the smallest of 1, 2, 2.5 and 5 times a power of ten that cuts a span into at most `parts` parts.
 *
 * @param span The length of the axis, above 0.
 * @param parts Most intervals.
 * @returns The interval between ticks.
 */
export function tickInterval(span: number, parts: number): number {
  const raw = span / parts;
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= raw * (1 - 1e-9)) ?? 10;
  return factor * power;
}
