/**
 * The report of a comparison: one HTML page that needs nothing but itself.
 *
 * @module
 */
import { formatNumber, html, type Markup } from "../html.ts";
import { drawLoad, LOAD_LEVELS } from "../load_picture.ts";
import { renderPage } from "../report_page.ts";
import { columnsOf } from "./columns.ts";
import { referenceOf } from "./comparison.ts";
import { curvesSection } from "./curves_section.ts";
import { describeComparison } from "./description.ts";
import { drawDots } from "./dot_plot.ts";
import type { StoredComparison } from "./folder.ts";
import { COMPARISON_STYLE } from "./report_style.ts";
import type { ComparisonResults } from "./run_results.ts";
import type { VariantSummary } from "./summary.ts";

/** Everything a report shows. */
export interface ReportSource {
  /** What is compared. */
  readonly comparison: StoredComparison;
  /** What was measured. */
  readonly results: ComparisonResults;
  /** The same by variant, the best first. */
  readonly summaries: readonly VariantSummary[];
  /** When the report is written. */
  readonly date: Date;
}

/**
 * Renders the report. The same input gives the same text.
 *
 * @param source The comparison and its results.
 * @returns A complete HTML document.
 */
export function renderComparison(source: ReportSource): string {
  const { comparison, summaries } = source;
  const title = comparison.title ?? `Switchyard comparison: ${comparison.variants.length} variants`;
  const results = summaries.length === 0
    ? [html`
      <section>
        <p>No run is over yet.</p>
      </section>
    `]
    : [dotsSection(source), tableSection(source), curvesSection(source)];
  return renderPage({
    title,
    subtitle: "Byte-level language models, trained under the same budget and measured on the same held-out text.",
    style: COMPARISON_STYLE,
    sections: [...results, missingSection(source), loadSection(source), factsSection(source)],
  });
}

function dotsSection({ comparison, results, summaries }: ReportSource): Markup {
  const reference = referenceOf(comparison.variants).name;
  const rows = summaries.map(({ variant: { name } }) => ({
    name,
    values: results.finished.filter(({ variant }) => variant === name).map((run) => run.validationBitsPerByte),
    isReference: name === reference,
  }));
  return html`
    <section>
      <h2>Results</h2>
      <p>A dot is a seed, the bar is the mean, and the line reaches one standard deviation to either side. The broken line is ${reference}. Lower is better.</p>
      <div class="picture">${drawDots(
        rows,
        "Validation loss of every variant and seed; the table below has the numbers",
      )}</div>
    </section>
  `;
}

function tableSection({ comparison, summaries }: ReportSource): Markup {
  const reference = referenceOf(comparison.variants).name;
  const columns = columnsOf(reference);
  const lines = summaries.map((summary) =>
    html`<tr class="${summary.variant.name === reference ? "reference" : ""}">${
      columns.map(({ cell }) => html`<td>${cell(summary)}</td>`)
    }</tr>`
  );
  const meanings = columns.filter(({ meaning }) => meaning !== "");
  const notes = summaries.flatMap(({ variant: { name, note } }) => note === null ? [] : [[name, note] as const]);
  return html`
    <section>
      <h2>Table</h2>
      <div class="wide">
        <table>
          <thead>
            <tr>${columns.map(({ heading }) => html`<th scope="col">${heading}</th>`)}</tr>
          </thead>
          <tbody>${lines}</tbody>
        </table>
      </div>
      <ul class="notes">${[...meanings.map(({ heading, meaning }) => [heading, meaning] as const), ...notes].map((
        [name, text],
      ) => html`<li><b>${name}</b>: ${text}</li>`)}</ul>
    </section>
  `;
}

function missingSection({ results }: ReportSource): Markup {
  if (results.missing.length === 0) return html``;
  const lines = results.missing.map(({ variant, seed, reason }) =>
    html`<li><b>${variant}</b>, seed ${seed}: ${reason === null ? "not over yet" : `failed: ${reason}`}</li>`
  );
  return html`
    <section>
      <h2>Runs without a result</h2>
      <ul class="notes">${lines}</ul>
    </section>
  `;
}

function loadSection({ comparison, results }: ReportSource): Markup {
  const shown = comparison.variants.filter(({ name }) => results.loads.has(name));
  if (shown.length === 0) return html``;
  const levels = LOAD_LEVELS.map((name, level) =>
    html`<li><i style="background:var(--load-${level})"></i>${name}</li>`
  );
  const pictures = shown.map(({ name }) => {
    const layers = results.loads.get(name)!;
    const run = results.finished.find(({ variant }) => variant === name)!;
    return html`
      <details
        open><summary><b>${name}</b>, seed ${run.seed}: fullest expert ${formatNumber(
          run.maxLoad,
          2,
        )}× the mean, ${formatNumber(run.dropped * 100, 1)} % dropped</summary>${layers.map((samples, layer) =>
          samples.length === 0 ? html`` : html`<h3>Layer ${layer}</h3>
<div class="picture">${drawLoad(samples, `${name}: load of the experts of layer ${layer} over training`)}</div>`
        )}</details>
    `;
  });
  return html`<section>
<h2>Expert load over training</h2>
<p>A row is an expert, a column a stretch of training steps. The color is the expert's share of the assignments, against an even share.</p>
<ul class="legend scale">${levels}</ul>
${pictures}
</section>`;
}

function factsSection({ comparison, results, date }: ReportSource): Markup {
  const lines = describeComparison(comparison, results, date).map(([name, value]) =>
    html`
      <dt>${name}</dt>
      <dd>${name === "command" ? html`<code>${value}</code>` : value}</dd>
    `
  );
  return html`
    <section>
      <h2>How it was made</h2>
      <dl class="facts">${lines}</dl>
    </section>
  `;
}
