/**
 * The style sheet of a report. It holds every color as a variable, once for light and once for dark.
 *
 * @module
 */

/** CSS of the report page. */
export const REPORT_STYLE: string = `
:root {
  color-scheme: light dark;
  --page: #f9f9f7; --surface: #fdfdfc; --border: #e4e3df;
  --ink: #12120f; --secondary: #52514e; --muted: #716f69;
  --grid: #ebeae6; --axis: #c3c2b7;
  --validation: #2a78d6; --training: #a3a199; --baseline: #c2571f;
  --load-0: #164a8c; --load-1: #2f77cc; --load-2: #79ade9; --load-3: #c4dbf6; --load-4: #eeede9;
  --load-5: #f9d3bd; --load-6: #ef9d70; --load-7: #d7662f; --load-8: #983a0d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f0f0e; --surface: #1a1a19; --border: #30302d;
    --ink: #f7f7f4; --secondary: #c3c2b7; --muted: #98968e;
    --grid: #2a2a28; --axis: #4a4a46;
    --validation: #4a93ea; --training: #7c7a73; --baseline: #e2793f;
    --load-0: #a9cdf6; --load-1: #6ba6ec; --load-2: #3a78bd; --load-3: #2b4a6b; --load-4: #363633;
    --load-5: #65422f; --load-6: #a85a2c; --load-7: #e2793f; --load-8: #fbc09b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 40px 20px 64px; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 960px; margin: 0 auto; }
h1 { margin: 0; font-size: 28px; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em; }
h2 { margin: 0 0 4px; font-size: 18px; line-height: 1.35; font-weight: 650; }
h3 { margin: 20px 0 2px; font-size: 14px; font-weight: 600; }
h3 span { color: var(--muted); font-weight: 400; margin-left: 8px; }
p { margin: 0 0 12px; max-width: 72ch; color: var(--secondary); }
.subtitle { margin: 6px 0 28px; }
section { margin: 0 0 20px; padding: 24px; background: var(--surface); border: 1px solid var(--border); border-radius: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 20px 28px; }
.tiles div { display: flex; flex-direction: column; }
.tiles dt { color: var(--secondary); font-size: 14px; }
.tiles dd { margin: 0; font-size: 26px; line-height: 1.3; font-weight: 600; letter-spacing: -0.01em; white-space: nowrap; }
.tiles dd.note { font-size: 13px; line-height: 1.4; font-weight: 400; letter-spacing: 0; color: var(--muted); white-space: normal; }
dl { margin: 0; }
.picture { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 620px; height: auto; }
svg.load text { fill: var(--muted); font-size: 13px; }
svg text { font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 10px 0 6px; padding: 0; list-style: none; font-size: 14px; color: var(--secondary); }
.legend li { display: flex; align-items: center; gap: 8px; }
.legend b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.line { width: 22px; height: 0; border-top: 3px solid; border-radius: 2px; }
.scale { gap: 0; flex-wrap: nowrap; }
.scale li { flex: 1 1 0; min-width: 0; flex-direction: column; align-items: stretch; gap: 3px; font-size: 12px; text-align: center; }
.scale i { display: block; height: 10px; }
.scale li:first-child i { border-radius: 3px 0 0 3px; }
.scale li:last-child i { border-radius: 0 3px 3px 0; }
pre {
  margin: 12px 0 0; padding: 18px 20px; border-radius: 8px; background: var(--page); border: 1px solid var(--border);
  font: 14px/1.65 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere;
}
pre mark { background: none; color: var(--validation); font-weight: 600; }
.config { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 0 36px; margin-top: 10px; }
.config div { display: flex; justify-content: space-between; gap: 16px; padding: 6px 0; border-bottom: 1px solid var(--grid); font-size: 14px; }
.config dt { color: var(--secondary); white-space: nowrap; }
.config dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.config .wide { grid-column: 1 / -1; }
details { margin-top: 14px; font-size: 14px; }
summary { cursor: pointer; color: var(--secondary); }
table { border-collapse: collapse; margin-top: 10px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 0 5px 32px; text-align: right; border-bottom: 1px solid var(--grid); }
th { color: var(--secondary); font-weight: 500; }
th:first-child, td:first-child { padding-left: 0; }
footer { color: var(--muted); font-size: 13px; text-align: center; }
@media print { body { padding: 0; background: none; } section { break-inside: avoid; } }
`;
