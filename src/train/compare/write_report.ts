/**
 * Writing what a comparison found: `report.html`, `results.md` and `results.json` in its folder.
 *
 * @module
 */
import { writeWhole } from "../durable.ts";
import { referenceOf } from "./comparison.ts";
import { describeComparison } from "./description.ts";
import { readComparison } from "./folder.ts";
import { renderMarkdown } from "./markdown.ts";
import { renderComparison, type ReportSource } from "./report.ts";
import { readResults } from "./run_results.ts";
import { summarize } from "./summary.ts";

/**
 * Writes the report of a comparison from what its folder holds, be all its runs over or not.
 *
 * @param out The comparison's folder.
 * @param date When that is.
 * @returns Paths of what was written.
 * @throws {CheckpointError} If there is no comparison, or a file of it is broken.
 */
export async function writeComparisonReport(out: string, date: Date): Promise<readonly string[]> {
  const comparison = await readComparison(out);
  const results = await readResults(comparison, out);
  const source = { comparison, results, summaries: summarize(comparison, results), date };
  const files = [
    [`${out}/report.html`, renderComparison(source)],
    [`${out}/results.md`, renderMarkdown(source)],
    [`${out}/results.json`, renderJson(source)],
  ] as const;
  for (const [path, text] of files) await writeWhole(path, text);
  return files.map(([path]) => path);
}

/** Everything as data. Numbers that are not finite become null. */
function renderJson({ comparison, results, summaries, date }: ReportSource): string {
  const { budget, match, seeds, variants } = comparison;
  const content = {
    format: 1,
    facts: Object.fromEntries(describeComparison(comparison, results, date)),
    budget,
    match,
    seeds,
    reference: referenceOf(variants).name,
    variants: variants.map(({ name, group, note, passes, needs, config }) => {
      const { out: _out, resume: _resume, quiet: _quiet, json: _json, seed: _seed, ...options } = config;
      return { name, group, note, passes, needs, options };
    }),
    summary: summaries.map(({ variant, ...numbers }) => ({ variant: variant.name, ...numbers })),
    runs: results.finished,
    missing: results.missing,
  };
  return `${JSON.stringify(content, null, 1)}\n`;
}
