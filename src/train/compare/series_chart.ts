/**
 * Validation loss of several variants against bytes of training text: mean lines with a band of one standard deviation.
 *
 * @module
 */
import { formatCount, type Markup } from "../html.ts";
import { type AxisRange, drawChart } from "../svg_chart.ts";
import { tickInterval } from "../ticks.ts";
import type { MeanPoint } from "./mean_curve.ts";

/** A line of the chart. */
export interface Series {
  /** CSS color. */
  readonly color: string;
  /** At least one point. */
  readonly points: readonly MeanPoint[];
  /** Whether it is drawn broken, as what others are held against. */
  readonly isReference: boolean;
}

/** The chart and what a caption should add to it. */
export interface SeriesChart {
  /** The SVG element. */
  readonly svg: Markup;
  /** True if the first points lie above the top of the chart. */
  readonly clipped: boolean;
}

const HEIGHT = 340;
const RIGHT = 24;
/** Part of the training from which on all points have to be in the picture. */
const SHOWN_FROM = 0.3;

/**
 * Draws lines.
 *
 * @param series At least one.
 * @param label What the chart shows, for readers that cannot see it; plain text.
 * @returns The chart.
 */
export function drawSeries(series: readonly Series[], label: string): SeriesChart {
  const points = series.flatMap((line) => line.points);
  const last = Math.max(1, ...points.map(({ x }) => x));
  const interval = tickInterval(last, 8);
  const y = verticalRange(points, last);
  const svg = drawChart({
    height: HEIGHT,
    right: RIGHT,
    across: { name: "bytes of training text", last, interval, format: formatTick },
    range: y,
    digits: y.interval < 0.1 ? 3 : 2,
    series: [...series.flatMap(band), ...series.map(line)],
    kind: "series",
    label,
  });
  return { svg, clipped: points.some(({ mean }) => mean > y.max) };
}

function line({ color, points, isReference }: Series): Record<string, unknown> {
  return {
    type: "line",
    silent: true,
    data: points.map(({ x, mean }) => [x, mean]),
    showSymbol: points.length === 1,
    symbol: "circle",
    symbolSize: 6,
    lineStyle: { color, width: 2, cap: "round", join: "round", type: isReference ? [6, 4] : "solid" },
    itemStyle: { color },
  };
}

/** Two invisible lines on top of each other, with the area between them filled. */
function band({ color, points }: Series, index: number): readonly Record<string, unknown>[] {
  if (points.every(({ deviation }) => deviation === 0)) return [];
  const common = {
    type: "line",
    silent: true,
    stack: `band ${index}`,
    showSymbol: false,
    lineStyle: { width: 0, opacity: 0 },
  };
  return [
    { ...common, data: points.map(({ x, mean, deviation }) => [x, mean - deviation]) },
    { ...common, data: points.map(({ x, deviation }) => [x, 2 * deviation]), areaStyle: { color, opacity: 0.14 } },
  ];
}

/** A count without decimals that say nothing: 20 k rather than 20.0 k. */
function formatTick(bytes: number): string {
  return formatCount(bytes).replace(/\.(\d*?)0+(?=\D|$)/, (_, kept: string) => kept === "" ? "" : `.${kept}`);
}

/** The first points, which lie far above the others, may leave the picture at the top. */
function verticalRange(points: readonly MeanPoint[], last: number): AxisRange {
  const shown = points.filter(({ x }) => x >= last * SHOWN_FROM);
  const low = Math.min(...shown.map(({ mean, deviation }) => mean - deviation));
  const high = Math.max(...shown.map(({ mean, deviation }) => mean + deviation));
  const interval = tickInterval(Math.max(high - low, 0.02) * 1.1, 6);
  const min = Math.max(0, Math.floor(low / interval) * interval);
  return { min, max: Math.ceil(high / interval) * interval, interval };
}
