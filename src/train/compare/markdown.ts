/**
 * A comparison as Markdown, to be pasted into a page.
 *
 * @module
 */
import { columnsOf } from "./columns.ts";
import { referenceOf } from "./comparison.ts";
import { describeComparison } from "./description.ts";
import type { ReportSource } from "./report.ts";

/**
 * Writes a comparison as a table with the facts below it.
 *
 * @param source The comparison, its results and their summary.
 * @returns Markdown with a trailing newline.
 */
export function renderMarkdown({ comparison, results, summaries, date }: ReportSource): string {
  const columns = columnsOf(referenceOf(comparison.variants).name);
  const rows = [
    columns.map(({ heading }) => heading),
    columns.map((_, index) => index === 0 ? "---" : "---:"),
    ...summaries.map((summary) => columns.map(({ cell }) => cell(summary))),
  ];
  const failures = results.missing.flatMap(({ variant, seed, reason }) =>
    reason === null ? [] : [`- failed: ${variant}, seed ${seed}: ${escapeMarkdown(reason)}`]
  );
  const notes = columns.flatMap(({ heading, meaning }) => meaning === "" ? [] : [`- ${heading}: ${meaning}`]);
  const facts = describeComparison(comparison, results, date).map(([name, value]) =>
    name === "command"
      ? value.split("\n").map((command) => `- command: \`${command}\``).join("\n")
      : `- ${name}: ${escapeMarkdown(value)}`
  );
  return [
    ...rows.map((cells) => `| ${cells.map(escapeMarkdown).join(" | ")} |`),
    "",
    ...(failures.length === 0 ? [] : [...failures, ""]),
    ...notes,
    "",
    ...facts,
    "",
  ].join("\n");
}

function escapeMarkdown(text: string): string {
  return text.replaceAll(/[|<>*_]/g, (character) => `\\${character}`);
}
