/**
 * The loss curves of a report: training and validation in bits per byte against the step, as SVG. Colors are CSS variables of
 * the page, so one picture serves light and dark.
 *
 * @module
 */
import { LineChart } from "echarts/charts";
import { GridComponent, MarkLineComponent } from "echarts/components";
import * as echarts from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { type Markup, showControls } from "./html.ts";
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

const WIDTH = 920;
const HEIGHT = 380;
const GRID = { left: 52, right: 128, top: 30, bottom: 46 };
const MAX_POINTS = 400;
const LABEL_HEIGHT = 16;

echarts.use([LineChart, GridComponent, MarkLineComponent, SVGRenderer]);

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

  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: HEIGHT });
  const axisLabel = { color: "var(--muted)", fontSize: 13 };
  const nameTextStyle = { color: "var(--secondary)", fontSize: 13 };
  chart.setOption({
    animation: false,
    textStyle: { fontFamily: "inherit" },
    grid: GRID,
    xAxis: {
      type: "value",
      name: "training step",
      nameLocation: "middle",
      nameGap: 30,
      nameTextStyle,
      min: 0,
      max: lastStep,
      interval: stepInterval,
      axisLabel: { ...axisLabel, showMaxLabel: lastStep % stepInterval === 0, formatter: formatTick },
      axisLine: { lineStyle: { color: "var(--axis)" } },
      axisTick: { show: false },
      splitLine: { show: false },
    },
    yAxis: {
      type: "value",
      name: "bits per byte",
      nameGap: 14,
      nameTextStyle: { ...nameTextStyle, align: "left", padding: [0, 0, 0, -44] },
      min: y.min,
      max: y.max,
      interval: y.interval,
      axisLabel: { ...axisLabel, formatter: (value: number) => value.toFixed(y.interval < 0.5 ? 2 : 1) },
      axisLine: { show: false },
      axisTick: { show: false },
      splitLine: { lineStyle: { color: "var(--grid)", width: 1 } },
    },
    series: [
      curve(training, { color: "var(--training)", width: 1.5, isDotted: training.length === 1 }),
      {
        ...curve(validation, { color: "var(--validation)", width: 2.5, isDotted: validation.length <= 40 }),
        markLine: {
          silent: true,
          symbol: "none",
          data: baselineLines(curves.baselines, y),
        },
      },
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  const clipped = [...training, ...validation].some(([, value]) => value > y.max);
  return { svg: { html: standalone(svg) }, clipped };
}

interface VerticalRange {
  readonly min: number;
  readonly max: number;
  readonly interval: number;
}

/**
 * Leaves the steep first steps off the top where the rest would be pressed flat: the range ends above the worst point of the
 * last nine tenths of the run.
 */
function verticalRange(points: readonly CurvePoint[], baselines: readonly Baseline[]): VerticalRange {
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
function baselineLines(baselines: readonly Baseline[], y: VerticalRange): readonly Record<string, unknown>[] {
  const pixelsPerBit = (HEIGHT - GRID.top - GRID.bottom) / (y.max - y.min);
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

/** Drops what only an interactive chart needs, and fixed sizes, and names that depend on how many charts were drawn before. */
function standalone(svg: string): string {
  return svg
    .replace(/<style[\s\S]*?<\/style>/g, "")
    .replace(/ (?:class|pointer-events|ecmeta_\w+)="[^"]*"/g, "")
    .replace(/zr\d+-/g, "loss-")
    .replace(/^<svg width="\d+" height="\d+"/, '<svg class="loss" role="img" aria-label="Loss curves"');
}

function isFinitePoint([step, value]: CurvePoint): boolean {
  return Number.isFinite(step) && Number.isFinite(value);
}

function formatTick(step: number): string {
  return step.toLocaleString("en-US", { maximumFractionDigits: 1 });
}
