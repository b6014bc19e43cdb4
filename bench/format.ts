/**
 * Numbers with units, for people.
 *
 * @module
 */
import type { Work } from "./harness.ts";

/** A number with about three digits. */
export function formatNumber(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size >= 1 ? value.toFixed(2) : value.toPrecision(2);
}

/** A number of a unit with the prefix that keeps it short: `1.50 GB`. */
export function formatUnits(value: number, unit: string): string {
  for (const [prefix, factor] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (value >= factor) return `${formatNumber(value / factor)} ${prefix}${unit}`;
  }
  return `${formatNumber(value)} ${unit}`;
}

/** A count with its noun. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** A time, from microseconds to seconds. */
export function formatMs(ms: number): string {
  if (ms >= 1000) return `${formatNumber(ms / 1000)} s`;
  return ms >= 0.1 ? `${formatNumber(ms)} ms` : `${formatNumber(ms * 1000)} us`;
}

/** What a call does: arithmetic, traffic and items. */
export function formatWork({ flop, bytes, items }: Work): string {
  return [
    ...(flop > 0 ? [formatUnits(flop, "FLOP")] : []),
    formatUnits(bytes, "B"),
    ...(items === undefined ? [] : [`${items.count} ${items.name}`]),
  ].join(", ");
}

/** Rates at which a call of this many milliseconds does its work. */
export function formatRates({ flop, bytes, items }: Work, ms: number): string {
  return [
    ...(flop > 0 ? [`${formatNumber(flop / ms / 1e6)} GFLOP/s`] : []),
    `${formatNumber(bytes / ms / 1e6)} GB/s`,
    ...(items === undefined ? [] : [formatUnits(items.count / ms * 1e3, `${items.name}/s`)]),
  ].join(", ");
}
