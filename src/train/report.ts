/**
 * The report of a run: one HTML page that needs nothing but itself.
 *
 * @module
 */
import type { TrainConfig } from "./config.ts";
import { flagOf, OPTION_NAMES, PROCESS_OPTIONS } from "./option_table.ts";
import { formatCount, formatDuration, formatNumber, html, type Markup } from "./html.ts";
import { drawLoad, LOAD_LEVELS } from "./load_picture.ts";
import { type Baseline, type CurvePoint, drawLossChart } from "./loss_chart.ts";
import type { MetricsRow } from "./metrics.ts";
import { renderPage } from "./report_page.ts";
import { ROUTERS } from "./routers.ts";

/** What a run reached, for the head of the report. */
export interface RunSummary {
  /** Steps done. */
  readonly steps: number;
  /** Last validation loss in bits per byte; NaN where none was measured. */
  readonly validationBitsPerByte: number;
  /** Bytes trained on. */
  readonly bytesSeen: number;
  /** Wall-clock seconds of training. */
  readonly seconds: number;
  /** Parameters of the model. */
  readonly parameters: number;
  /** Parameters that one byte uses. */
  readonly activeParameters: number;
  /** The most bytes on the device while a step runs, as planned. */
  readonly plannedBytes: number;
  /** The text and how a part was held out. */
  readonly corpus: string;
}

/** Everything a report shows. */
export interface ReportInput {
  /** The configuration of the run. */
  readonly config: TrainConfig;
  /** Its measurements, in the order of steps. */
  readonly rows: readonly MetricsRow[];
  /** What other compressors reach on the held-out text; the first one is compared in the head. */
  readonly baselines: readonly Baseline[];
  /** Text that the model wrote, and what it was given to start from. */
  readonly sample: { readonly prompt: string; readonly text: string };
  /** The adapter that the run used, as it names itself. */
  readonly adapter: string;
  /** What the run reached. */
  readonly summary: RunSummary;
}

/**
 * Renders the report. The same input gives the same text.
 *
 * @param input The run.
 * @returns A complete HTML document.
 */
export function renderReport(input: ReportInput): string {
  const { config, adapter, summary } = input;
  const count = ROUTERS[config.router].visits === "none" ? "no" : String(config.experts);
  const experts = config.router === "dense" ? "no experts" : `${count} experts, router ${config.router}`;
  return renderPage({
    title: `Switchyard run: ${config.preset}, ${experts}`,
    subtitle: `Byte-level language model on ${summary.corpus}; ${adapter}`,
    sections: [tiles(input), lossSection(input), loadSection(input), sampleSection(input), configSection(input)],
  });
}

function tiles({ summary, baselines: [baseline], config }: ReportInput): Markup {
  const { validationBitsPerByte: reached, bytesSeen, seconds } = summary;
  const against = baseline === undefined || !Number.isFinite(reached) ? "on held-out text" : compare(reached, baseline);
  const isSparse = summary.activeParameters !== summary.parameters;
  return html`
    <section>
      <dl class="tiles">${[
        tile("Validation bits per byte", formatNumber(reached, 3), against),
        tile(
          "Trained on",
          `${formatCount(bytesSeen)}B`,
          `${formatNumber(summary.steps)} steps of ${config.batch} × ${config.seq} bytes`,
        ),
        tile(
          "Training time",
          formatDuration(seconds),
          seconds > 0 ? `${formatCount(bytesSeen / seconds)}B per second` : "",
        ),
        tile(
          "Parameters",
          formatCount(summary.parameters),
          isSparse ? `${formatCount(summary.activeParameters)} used by a byte` : "",
        ),
      ]}</dl>
    </section>
  `;
}

function tile(name: string, value: string, note: string): Markup {
  return html`
    <div>
      <dt>${name}</dt>
      <dd>${value}</dd>
      <dd class="note">${note}</dd>
    </div>
  `;
}

function compare(reached: number, { name, bitsPerByte }: Baseline): string {
  const percent = Math.abs(1 - reached / bitsPerByte) * 100;
  return `${formatNumber(percent, 1)} % ${reached <= bitsPerByte ? "below" : "above"} ${name} (${
    formatNumber(bitsPerByte, 2)
  })`;
}

function lossSection({ rows, baselines }: ReportInput): Markup {
  const training = pointsOf(rows, "trainBitsPerByte");
  const validation = pointsOf(rows, "validationBitsPerByte");
  if (training.length + validation.length === 0) {
    return html`
      <section>
        <h2>Loss</h2>
        <p>Nothing was measured.</p>
      </section>
    `;
  }
  const { svg, clipped } = drawLossChart({ training, validation, baselines });
  return html`<section>
<h2>Loss</h2>
<p>Bits the model needs for a byte of text: lower is better.${
    clipped ? " The first steps lie above the top of the chart." : ""
  }</p>
<ul class="legend">${legendLine("validation", validation)}${legendLine("training", training)}</ul>
<div class="picture">${svg}</div>
${evaluationTable(rows)}
</section>`;
}

function legendLine(name: "training" | "validation", points: readonly CurvePoint[]): Markup {
  const last = points.at(-1);
  if (last === undefined) return html``;
  return html`<li><span class="line" style="color:var(--${name})"></span>${name} <b>${
    formatNumber(last[1], 3)
  }</b></li>`;
}

function evaluationTable(rows: readonly MetricsRow[]): Markup {
  const evaluated = rows.filter(({ validationBitsPerByte }) => validationBitsPerByte !== undefined);
  if (evaluated.length === 0) return html``;
  const lines = evaluated.map((row) =>
    html`
      <tr>
        <td>${formatNumber(row.step)}</td>
        <td>${formatNumber(row.validationBitsPerByte ?? NaN, 4)}</td>
        <td>${formatNumber(row.trainBitsPerByte ?? NaN, 4)}</td>
      </tr>
    `
  );
  return html`
    <details>
      <summary>The evaluations as numbers</summary>
      <table>
        <thead>
          <tr>
            <th>step</th>
            <th>validation</th>
            <th>training</th>
          </tr>
        </thead>
        <tbody>${lines}</tbody>
      </table>
    </details>
  `;
}

function loadSection({ rows, config }: ReportInput): Markup {
  const measured = rows.filter(({ load }) => load !== undefined && load.length > 0);
  const layers = measured[0]?.load?.length ?? 0;
  if (layers === 0) return html``;
  const pictures = Array.from({ length: layers }, (_, layer) => {
    const samples = measured.flatMap(({ step, load }) => {
      const shares = load?.[layer];
      return shares === undefined || shares.length === 0 ? [] : [{ step, shares }];
    });
    const last = samples.at(-1)?.shares;
    if (last === undefined) return html``;
    const even = 1 / last.length;
    const spread = `at the end ${formatNumber(Math.min(...last) / even, 2)}× to ${
      formatNumber(Math.max(...last) / even, 2)
    }×`;
    const dropped = measured.at(-1)?.dropped?.[layer];
    const drops = dropped === undefined ? "" : `, ${formatNumber(dropped * 100, 1)} % dropped`;
    return html`<h3>Layer ${layer} <span>${spread}${drops}</span></h3>
<div class="picture">${drawLoad(samples, `Load of the experts of layer ${layer} over training`)}</div>`;
  });
  const levels = LOAD_LEVELS.map((name, level) =>
    html`<li><i style="background:var(--load-${level})"></i>${name}</li>`
  );
  return html`<section>
<h2>Expert load over time</h2>
<p>A row is an expert, a column a stretch of training. The color is the expert's share of the assignments, against an even share of 1/${config.experts}.</p>
<ul class="legend scale">${levels}</ul>
${pictures}
</section>`;
}

function sampleSection({ sample }: ReportInput): Markup {
  return html`
    <section>
      <h2>Sample</h2>
      <p>What the trained model writes${sample.prompt === "" ? "" : " after the colored words"}.</p>
      <pre><mark>${sample.prompt}</mark>${sample.text}</pre>
    </section>
  `;
}

function configSection({ config, adapter, summary }: ReportInput): Markup {
  const shown = OPTION_NAMES.filter((name) =>
    name === "seconds" || (!PROCESS_OPTIONS.includes(name) && config[name] !== null && config[name] !== false)
  );
  const lines = shown.map((name) =>
    configLine(flagOf(name), config[name] === null ? "no limit" : String(config[name]))
  );
  return html`
    <section>
      <h2>Configuration</h2>
      <dl class="config">${lines}${configLine("memory", `${formatCount(summary.plannedBytes)}B planned`)}${configLine(
        "text",
        summary.corpus,
        "wide",
      )}${configLine(
        "adapter",
        adapter,
        "wide",
      )}</dl>
    </section>
  `;
}

function configLine(name: string, value: string, kind: string = ""): Markup {
  return html`
    <div class="${kind}">
      <dt>${name}</dt>
      <dd>${value}</dd>
    </div>
  `;
}

function pointsOf(
  rows: readonly MetricsRow[],
  field: "trainBitsPerByte" | "validationBitsPerByte",
): readonly CurvePoint[] {
  return rows.flatMap((row) => {
    const value = row[field];
    return value === undefined || !Number.isFinite(value) ? [] : [[row.step, value] as const];
  });
}
