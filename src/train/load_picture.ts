/**
 * The load of one layer's experts over time as a picture: a column is a stretch of training, a row an expert, and the color
 * says how far its share was from an even one. Colors are CSS variables of the page.
 *
 * @module
 */
import { html, type Markup } from "./html.ts";
import { tickInterval } from "./ticks.ts";

/** The shares of one layer's experts at one step; they sum to 1. */
export interface LoadSample {
  /** The step up to which the shares were counted. */
  readonly step: number;
  /** Share of the assignments, by expert. */
  readonly shares: readonly number[];
}

const WIDTH = 920;
const LEFT = 52;
const RIGHT = 12;
const TOP = 4;
const AXIS = 24;
const MAX_CELLS = 8000;
const MAX_COLUMNS = 200;

/** Upper ends of the color levels, as binary logarithms of share over even share; the last level is open. */
const LEVEL_ENDS: readonly number[] = [-2, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 2];

/** What the color levels mean, least load first; the style sheet colors `--load-0` to `--load-8`. */
export const LOAD_LEVELS: readonly string[] = ["≤ ¼×", "⅓×", "½×", "⅔×", "even", "1½×", "2×", "3×", "≥ 4×"];

/**
 * Draws one layer.
 *
 * @param samples At least one, in the order of steps; all with the same number of experts.
 * @param label What the picture shows, for readers that cannot see it.
 * @returns The SVG element.
 */
export function drawLoad(samples: readonly LoadSample[], label: string): Markup {
  const experts = samples[0]!.shares.length;
  const columns = bin(samples, Math.max(1, Math.min(MAX_COLUMNS, Math.floor(MAX_CELLS / experts))));
  const rowHeight = Math.max(3, Math.min(16, Math.floor(192 / experts)));
  const plot = { width: WIDTH - LEFT - RIGHT, height: experts * rowHeight };
  const lastStep = samples.at(-1)!.step;
  const x = (step: number): number => LEFT + plot.width * step / Math.max(1, lastStep);

  // One path for each level, and one rectangle for neighbors of the same level, keep the file small.
  const paths = LEVEL_ENDS.concat(Infinity).map(() => [] as string[]);
  const gap = rowHeight > 5 ? 1 : 0;
  for (let expert = 0; expert < experts; expert++) {
    const y = TOP + expert * rowHeight;
    for (const { from, to, level } of runsOf(columns, expert)) {
      const left = x(from).toFixed(1);
      paths[level]!.push(`M${left} ${y}H${x(to).toFixed(1)}v${rowHeight - gap}H${left}z`);
    }
  }
  const cells = paths.flatMap((path, level) =>
    path.length === 0 ? [] : [html`
      <path style="fill:var(--load-${level})" d="${path.join("")}" />
    `]
  );
  const bottom = TOP + plot.height;
  return html`
    <svg class="load" role="img" aria-label="${label}"
      viewBox="0 0 ${WIDTH} ${bottom + AXIS}">${cells}${expertLabels(experts, rowHeight)}${stepLabels(
        lastStep,
        x,
        bottom,
      )}</svg>
  `;
}

/** The color level of a share relative to an even one. */
function levelOf(ratio: number): number {
  const exponent = Math.log2(ratio);
  const level = LEVEL_ENDS.findIndex((end) => exponent <= end);
  return level < 0 ? LEVEL_ENDS.length : level;
}

interface Column {
  readonly from: number;
  readonly to: number;
  readonly shares: readonly number[];
}

/** Means of neighboring samples, at most `most` columns. */
function bin(samples: readonly LoadSample[], most: number): readonly Column[] {
  const size = Math.ceil(samples.length / most);
  const columns: Column[] = [];
  for (let first = 0; first < samples.length; first += size) {
    const part = samples.slice(first, first + size);
    const shares = part[0]!.shares.map((_, expert) =>
      part.reduce((sum, sample) => sum + (sample.shares[expert] ?? 0), 0) / part.length
    );
    columns.push({ from: columns.at(-1)?.to ?? 0, to: part.at(-1)!.step, shares });
  }
  return columns;
}

/** Stretches in which an expert stays on one color level. */
function runsOf(columns: readonly Column[], expert: number): readonly { from: number; to: number; level: number }[] {
  const runs: { from: number; to: number; level: number }[] = [];
  for (const { from, to, shares } of columns) {
    const level = levelOf((shares[expert] ?? 0) * shares.length);
    const last = runs.at(-1);
    if (last?.level === level) last.to = to;
    else runs.push({ from, to, level });
  }
  return runs;
}

function expertLabels(experts: number, rowHeight: number): readonly Markup[] {
  const every = Math.max(1, Math.ceil(15 / rowHeight));
  const labels: Markup[] = [];
  for (let expert = 0; expert < experts; expert += every) {
    const y = TOP + (expert + 0.5) * rowHeight;
    labels.push(html`<text x="${LEFT - 8}" y="${y}" text-anchor="end" dominant-baseline="central">${expert}</text>`);
  }
  return labels;
}

function stepLabels(lastStep: number, x: (step: number) => number, bottom: number): readonly Markup[] {
  const interval = Math.max(1, tickInterval(Math.max(1, lastStep), 8));
  const labels: Markup[] = [];
  for (let step = 0; step <= lastStep; step += interval) {
    const at = x(step);
    // At the right edge a centered label would be cut off.
    const anchor = at > WIDTH - RIGHT - 16 ? "end" : "middle";
    labels.push(
      html`<text x="${at.toFixed(1)}" y="${bottom + 17}" text-anchor="${anchor}">${
        step.toLocaleString("en-US")
      }</text>`,
    );
  }
  return labels;
}
