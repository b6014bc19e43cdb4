/**
 * The page around a report: it loads nothing, runs no script and follows the reader's light or dark setting.
 *
 * @module
 */
import { html, type Markup } from "./html.ts";
import { REPORT_STYLE } from "./report_style.ts";

/** What differs between reports. */
export interface ReportPage {
  /** Title and heading. */
  readonly title: string;
  /** A line below it. */
  readonly subtitle: string;
  /** CSS besides that of all reports; none by default. */
  readonly style?: string;
  /** The sections. */
  readonly sections: readonly Markup[];
}

/**
 * Renders a page. The same input gives the same text.
 *
 * @param page What it shows.
 * @returns A complete HTML document.
 */
export function renderPage({ title, subtitle, style = "", sections }: ReportPage): string {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
        <title>${title}</title>
        <style>${{ html: REPORT_STYLE + style }}</style>
      </head>
      <body>
        <main>
    <h1>${title}</h1>
    <p class="subtitle">${subtitle}</p>
    ${sections}
    <footer>Written by Switchyard.</footer>
        </main>
      </body>
    </html>
  `.html;
}
