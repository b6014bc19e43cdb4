/**
 * The results of all variants in one picture: a row for each variant, a dot for each seed, a bar at the mean with a line one
 * standard deviation to either side, and a broken line through all rows at the reference's mean.
 *
 * @module
 */
import { formatNumber, html, type Markup } from "../html.ts";
import { tickInterval } from "../ticks.ts";
import { medianOf, spreadOf } from "./statistics.ts";

/** A row of the picture. */
export interface DotRow {
  /** The variant's name. */
  readonly name: string;
  /** A value for each seed; at least one. */
  readonly values: readonly number[];
  /** Whether its mean is the broken line. */
  readonly isReference: boolean;
}

const WIDTH = 920;
const ROW = 24;
const TOP = 6;
const AXIS = 44;
const LETTER = 7.4;
const RIGHT = 128;
/** A row this many times as far from the best as the median row is drawn at the edge. */
const FARTHEST = 5;

/**
 * Draws rows.
 *
 * @param rows At least one, in the order from top to bottom.
 * @param label What the picture shows, for readers that cannot see it.
 * @returns The SVG element.
 */
export function drawDots(rows: readonly DotRow[], label: string): Markup {
  const left = 20 + LETTER * Math.max(...rows.map(({ name }) => name.length));
  const range = horizontalRange(rows);
  const bottom = TOP + rows.length * ROW;
  const x = (value: number): number =>
    left + (WIDTH - left - RIGHT) * Math.min(1, Math.max(0, (value - range.min) / (range.max - range.min)));
  const ticks: Markup[] = [];
  for (let index = 0; range.min + index * range.interval <= range.max + range.interval / 2; index++) {
    const value = range.min + index * range.interval;
    ticks.push(
      html`<line class="grid" x1="${x(value).toFixed(1)}" x2="${x(value).toFixed(1)}" y1="${TOP}" y2="${bottom}" />
<text x="${x(value).toFixed(1)}" y="${bottom + 17}" text-anchor="middle">${formatNumber(value, range.digits)}</text>`,
    );
  }
  const reference = rows.find(({ isReference }) => isReference);
  const at = reference === undefined ? 0 : x(spreadOf(reference.values).mean).toFixed(1);
  const line = reference === undefined
    ? html``
    : html`<line class="reference" x1="${at}" x2="${at}" y1="${TOP}" y2="${bottom}" />`;
  return html`<svg class="dots" role="img" aria-label="${label}" viewBox="0 0 ${WIDTH} ${bottom + AXIS}">
${ticks}${line}${rows.map((row, index) => drawRow(row, { x, left, y: TOP + (index + 0.5) * ROW }))}
<text x="${((left + WIDTH - RIGHT) / 2).toFixed(1)}" y="${
    bottom + 38
  }" text-anchor="middle">validation bits per byte</text></svg>`;
}

interface Place {
  readonly x: (value: number) => number;
  readonly left: number;
  readonly y: number;
}

function drawRow({ name, values }: DotRow, { x, left, y }: Place): Markup {
  const { mean, deviation } = spreadOf(values);
  const spread = Number.isFinite(deviation) ? deviation : 0;
  const center = x(mean).toFixed(1);
  const text = `${formatNumber(mean, 3)}${Number.isFinite(deviation) ? ` ± ${formatNumber(deviation, 3)}` : ""}`;
  return html`<text class="name" x="${
    (left - 12).toFixed(1)
  }" y="${y}" text-anchor="end" dominant-baseline="central">${name}</text>
<line class="spread" x1="${x(mean - spread).toFixed(1)}" x2="${x(mean + spread).toFixed(1)}" y1="${y}" y2="${y}" />
<line class="mean" x1="${center}" x2="${center}" y1="${y - 6}" y2="${y + 6}" />
${values.map((value) => html`<circle cx="${x(value).toFixed(1)}" cy="${y}" r="3.2" />`)}
<text x="${WIDTH - RIGHT + 14}" y="${y}" dominant-baseline="central">${text}</text>`;
}

interface HorizontalRange {
  readonly min: number;
  readonly max: number;
  readonly interval: number;
  readonly digits: number;
}

function horizontalRange(rows: readonly DotRow[]): HorizontalRange {
  const values = rows.flatMap((row) => row.values);
  const low = Math.min(...values);
  const middle = medianOf(rows.map((row) => spreadOf(row.values).mean));
  const high = Math.min(Math.max(...values), low + FARTHEST * Math.max(middle - low, 0.01));
  const interval = tickInterval(Math.max(high - low, 0.01) * 1.1, 6);
  const min = Math.floor(low / interval) * interval;
  return {
    min,
    max: Math.ceil(high / interval) * interval,
    interval,
    digits: Math.max(0, Math.ceil(-Math.log10(interval) + 0.3)),
  };
}
