/**
 * The loss curves of a report: training and validation in bits per byte against the step, as SVG. Colors are CSS variables of
 * the page, so one picture serves light and dark.
 *
 * @module
 */
import { type Markup, showControls } from "./html.ts";
import { type AxisRange, CHART_MARGIN, drawChart } from "./svg_chart.ts";
import { tickInterval } from "./ticks.ts";

/** A point of a curve: step and bits per byte. */
export type CurvePoint = readonly [step: number, bitsPerByte: number];

/** A horizontal line to hold the curves against. */
export interface Baseline {
  /** What reaches it, such as `gzip -9`. */
  readonly name: string;
  /** Where it lies. */
  readonly bitsPerByte: number;
}

/** What the chart shows. */
export interface LossCurves {
  /** Training loss; thinned to what the width can show. */
  readonly training: readonly CurvePoint[];
  /** Validation loss. */
  readonly validation: readonly CurvePoint[];
  /** Lines to hold the curves against. */
  readonly baselines: readonly Baseline[];
}

/** The chart and what a caption should add to it. */
export interface LossChart {
  /** The SVG element. */
  readonly svg: Markup;
  /** True if the first steps lie above the top of the chart. */
  readonly clipped: boolean;
}

const HEIGHT = 380;
/** Room for the names of the baselines. */
const RIGHT = 128;
const MAX_POINTS = 400;
const LABEL_HEIGHT = 16;

/**
 * Draws the curves.
 *
 * @param curves At least one point in all; values that are not finite are left out.
 * @returns The chart.
 */
export function drawLossChart(curves: LossCurves): LossChart {
  const training = thin(curves.training.filter(isFinitePoint), MAX_POINTS);
  const validation = curves.validation.filter(isFinitePoint);
  const lastStep = Math.max(1, ...training.map(([step]) => step), ...validation.map(([step]) => step));
  const y = verticalRange([...training, ...validation], curves.baselines);
  const stepInterval = Math.max(1, tickInterval(lastStep, 8));

  const svg = drawChart({
    height: HEIGHT,
    right: RIGHT,
    across: { name: "training step", last: lastStep, interval: stepInterval, format: formatTick },
    range: y,
    digits: y.interval < 0.5 ? 2 : 1,
    series: [
      curve(training, { color: "var(--training)", width: 1.5, isDotted: training.length === 1 }),
      {
        ...curve(validation, { color: "var(--validation)", width: 2.5, isDotted: validation.length <= 40 }),
        markLine: { silent: true, symbol: "none", data: baselineLines(curves.baselines, y) },
      },
    ],
    kind: "loss",
    label: "Loss curves",
  });
  const clipped = [...training, ...validation].some(([, value]) => value > y.max);
  return { svg, clipped };
}

/**
 * Leaves the steep first steps off the top where the rest would be pressed flat: the range ends above the worst point of the
 * last nine tenths of the run.
 */
function verticalRange(points: readonly CurvePoint[], baselines: readonly Baseline[]): AxisRange {
  const lastStep = Math.max(0, ...points.map(([step]) => step));
  const settled = points.filter(([step]) => step >= lastStep * 0.1).map(([, value]) => value);
  const lines = baselines.map(({ bitsPerByte }) => bitsPerByte);
  const low = Math.min(...settled, ...lines);
  const high = Math.max(...settled, ...lines);
  const interval = tickInterval(Math.max(high - low, 0.1) * 1.1, 6);
  const min = Math.max(0, Math.floor((low - interval * 0.2) / interval) * interval);
  return { min, max: Math.ceil((high + interval * 0.2) / interval) * interval, interval };
}

function curve(
  data: readonly CurvePoint[],
  { color, width, isDotted }: { readonly color: string; readonly width: number; readonly isDotted: boolean },
): Record<string, unknown> {
  return {
    type: "line",
    silent: true,
    data: data.map(([step, value]) => [step, value]),
    showSymbol: isDotted,
    symbol: "circle",
    symbolSize: 7,
    lineStyle: { color, width, cap: "round", join: "round" },
    itemStyle: { color, borderColor: "var(--surface)", borderWidth: 1.5 },
  };
}

/** Dashed lines labeled beside the plot; labels that would touch are pushed apart. */
function baselineLines(baselines: readonly Baseline[], y: AxisRange): readonly Record<string, unknown>[] {
  const pixelsPerBit = (HEIGHT - CHART_MARGIN.top - CHART_MARGIN.bottom) / (y.max - y.min);
  let lowestLabel = -Infinity;
  return [...baselines].sort((a, b) => b.bitsPerByte - a.bitsPerByte).map(({ name, bitsPerByte }) => {
    const at = (y.max - bitsPerByte) * pixelsPerBit;
    const label = Math.max(at, lowestLabel + LABEL_HEIGHT);
    lowestLabel = label;
    return {
      yAxis: bitsPerByte,
      lineStyle: { color: "var(--baseline)", width: 1.5, type: [5, 4] },
      label: {
        formatter: `${showControls(name)}  ${bitsPerByte.toFixed(2)}`,
        position: "end",
        distance: [6, 0],
        offset: [0, label - at],
        color: "var(--secondary)",
        fontSize: 13,
      },
    };
  });
}

/** Means of equal runs of points, so that noise is averaged and not sampled. */
function thin(points: readonly CurvePoint[], most: number): readonly CurvePoint[] {
  if (points.length <= most) return points;
  const size = Math.ceil(points.length / most);
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const part = points.slice(i * size, (i + 1) * size);
    const sum = part.reduce(
      ([steps, values], [step, value]) => [steps + step, values + value] as const,
      [0, 0] as const,
    );
    return [sum[0] / part.length, sum[1] / part.length] as const;
  });
}

function isFinitePoint([step, value]: CurvePoint): boolean {
  return Number.isFinite(step) && Number.isFinite(value);
}

function formatTick(step: number): string {
  return step.toLocaleString("en-US", { maximumFractionDigits: 1 });
}
