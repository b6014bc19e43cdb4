/**
 * Lines of a loss in bits per byte over the course of a training, as SVG that stands by itself. Colors are CSS variables of
 * the page, so one picture serves light and dark.
 *
 * @module
 */
import { LineChart } from "echarts/charts";
import { GridComponent, MarkLineComponent } from "echarts/components";
import * as echarts from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { Markup } from "./html.ts";

/** What an axis shows: from where to where, and how far apart its ticks are. */
export interface AxisRange {
  /** First value. */
  readonly min: number;
  /** Last value. */
  readonly max: number;
  /** From one tick to the next. */
  readonly interval: number;
}

/** A horizontal axis that counts from 0. */
export interface ChartProgress {
  /** What it counts. */
  readonly name: string;
  /** Where it ends. */
  readonly last: number;
  /** From one tick to the next. */
  readonly interval: number;
  /** The text of a tick. */
  readonly format: (value: number) => string;
}

/** What a chart is made of. */
export interface SvgChart {
  /** Height in pixels of a page as wide as {@linkcode CHART_WIDTH}. */
  readonly height: number;
  /** Room to the right of the lines, in pixels. */
  readonly right: number;
  /** The horizontal axis. */
  readonly across: ChartProgress;
  /** The vertical axis. */
  readonly range: AxisRange;
  /** Decimals of its labels. */
  readonly digits: number;
  /** Series as echarts takes them. */
  readonly series: readonly Readonly<Record<string, unknown>>[];
  /** Class of the SVG element. */
  readonly kind: string;
  /** What the chart shows, for readers that cannot see it; characters that mean something in SVG are left out. */
  readonly label: string;
}

/** Width of a chart in pixels; pages scale it. */
export const CHART_WIDTH = 920;
/** Room above and below the lines, in pixels. */
export const CHART_MARGIN: { readonly top: number; readonly bottom: number } = { top: 30, bottom: 46 };
const LEFT = 52;

echarts.use([LineChart, GridComponent, MarkLineComponent, SVGRenderer]);

/**
 * Draws a chart.
 *
 * @param chart Its axes and its lines.
 * @returns The SVG element, the same for the same chart.
 */
export function drawChart({ height, right, across, range, digits, series, kind, label }: SvgChart): Markup {
  const axisLabel = { color: "var(--muted)", fontSize: 13 };
  const nameTextStyle = { color: "var(--secondary)", fontSize: 13 };
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: CHART_WIDTH, height });
  chart.setOption({
    animation: false,
    textStyle: { fontFamily: "inherit" },
    grid: { left: LEFT, right, ...CHART_MARGIN },
    xAxis: {
      type: "value",
      name: across.name,
      nameLocation: "middle",
      nameGap: 30,
      nameTextStyle,
      min: 0,
      max: across.last,
      interval: across.interval,
      axisLabel: { ...axisLabel, showMaxLabel: across.last % across.interval === 0, formatter: across.format },
      axisLine: { lineStyle: { color: "var(--axis)" } },
      axisTick: { show: false },
      splitLine: { show: false },
    },
    yAxis: {
      type: "value",
      name: "bits per byte",
      nameGap: 14,
      nameTextStyle: { ...nameTextStyle, align: "left", padding: [0, 0, 0, -44] },
      ...range,
      axisLabel: { ...axisLabel, formatter: (value: number) => value.toFixed(digits) },
      axisLine: { show: false },
      axisTick: { show: false },
      splitLine: { lineStyle: { color: "var(--grid)", width: 1 } },
    },
    series: [...series],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return { html: standalone(svg, kind, label.replaceAll(/[^\w ,:-]/g, "")) };
}

/**
 * Drops what only an interactive chart needs, and fixed sizes. Names of parts depend on the label: neither on how many
 * charts were drawn before, nor are they those of another chart of the page.
 */
function standalone(svg: string, kind: string, label: string): string {
  return svg
    .replace(/<style[\s\S]*?<\/style>/g, "")
    .replace(/ (?:class|pointer-events|ecmeta_\w+)="[^"]*"/g, "")
    .replace(/zr\d+-/g, `${label.replaceAll(/\W+/g, "-")}-`)
    .replace(/^<svg width="\d+" height="\d+"/, `<svg class="${kind}" role="img" aria-label="${label}"`);
}
