/**
 * What the report of a comparison adds to the style sheet of a run's report.
 *
 * @module
 */

/** Colors that lines can have, besides the reference's. */
export const SERIES_COLORS = 7;

/** CSS of the page, to follow that of a run's report. */
export const COMPARISON_STYLE: string = `
:root {
  --reference: #6b6963;
  --series-0: #2a78d6; --series-1: #c2571f; --series-2: #2a8a4a; --series-3: #a03bb0;
  --series-4: #a8791a; --series-5: #16909a; --series-6: #c9365f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --reference: #a9a79f;
    --series-0: #5aa0f0; --series-1: #ea8a54; --series-2: #5cc07f; --series-3: #cf82dc;
    --series-4: #d9b04a; --series-5: #4cc3cd; --series-6: #f07a9b;
  }
}
main { max-width: 1200px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 6px 24px; font-size: 14px; }
.facts dt { color: var(--secondary); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.facts code { font: 13px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
.wide { overflow-x: auto; }
.wide table { font-size: 13px; white-space: nowrap; width: 100%; }
.wide th, .wide td { padding: 6px 0 6px 14px; }
.wide th { vertical-align: bottom; white-space: normal; }
.wide th:first-child, .wide td:first-child { padding-left: 0; text-align: left; position: sticky; left: 0; background: var(--surface); }
.wide td:first-child { font-weight: 600; }
.wide tr.reference td { color: var(--secondary); }
ul.notes { margin: 14px 0 0; padding-left: 18px; font-size: 13px; color: var(--muted); }
.line.broken { border-top-style: dashed; }
svg.dots text { fill: var(--muted); font-size: 13px; }
svg.dots text.name { fill: var(--ink); }
svg.dots circle { fill: var(--series-0); fill-opacity: 0.55; }
svg.dots .grid { stroke: var(--grid); }
svg.dots .reference { stroke: var(--reference); stroke-width: 1.5; stroke-dasharray: 6 4; }
svg.dots .spread { stroke: var(--series-0); stroke-width: 1.5; }
svg.dots .mean { stroke: var(--ink); stroke-width: 2; }
details h3 { margin-top: 10px; }
details > summary b { color: var(--ink); font-weight: 600; }
`;
