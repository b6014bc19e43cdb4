/**
 * How a comparison was made, in words for its report.
 *
 * @module
 */
import { formatCount, formatDuration, formatNumber } from "../html.ts";
import { referenceOf } from "./comparison.ts";
import type { StoredComparison } from "./folder.ts";
import type { ComparisonResults } from "./run_results.ts";

/** A name and what it says. */
export type Fact = readonly [name: string, value: string];

/**
 * Tells what one needs to know to repeat a comparison and to read its numbers.
 *
 * @param comparison What is compared.
 * @param results What was measured.
 * @param date When the report is written.
 * @returns Facts in the order of reading.
 */
export function describeComparison(
  comparison: StoredComparison,
  { finished, missing }: ComparisonResults,
  date: Date,
): readonly Fact[] {
  const { commands, variants, seeds } = comparison;
  const adapters = [...new Set(finished.map(({ adapter }) => adapter))];
  const [corpus] = finished.map((run) => run.corpus);
  const gzip = finished[0]?.gzipBitsPerByte;
  const { width, layers, heads, seq, batch, lr } = variants[0]!.config;
  const unfinished = missing.filter(({ reason }) => reason === null).length;
  return [
    ["command", commands.join("\n")],
    ["adapter", adapters.length === 0 ? "none yet" : adapters.join("; ")],
    ["date", date.toISOString().slice(0, 10)],
    [
      "runs",
      `${finished.length} of ${variants.length * seeds}: ${count(variants.length, "variant")} with ${
        count(seeds, "seed")
      }${unfinished === 0 ? "" : `, ${unfinished} not over yet`}`,
    ],
    ["budget", describeBudget(comparison)],
    ["equal", describeMatching(comparison)],
    [
      "model",
      `width ${width}, ${layers} layers, ${heads} heads, windows of ${seq} bytes, ${batch} in a batch, lr ${lr}`,
    ],
    ["text", corpus ?? "none yet"],
    [
      "loss",
      `bits per byte on the same 64 batches of held-out windows for every run, or all there are, spread over the whole held-out text${
        gzip === undefined ? "" : `; gzip -9 needs ${formatNumber(gzip, 3)} for all of it`
      }`,
    ],
    ["seeds", "initialization, batches and draws depend on the seed; runs with the same seed see the same batches"],
    ["against", `${referenceOf(variants).name}, paired by seed`],
  ];
}

function describeBudget({ budget: { kind, amount } }: StoredComparison): string {
  if (kind === "seconds") {
    return `${formatDuration(amount)} a run, as many steps as fit; on a shared machine these differ`;
  }
  if (kind === "tokens") return `${formatCount(amount)}B of training text a run`;
  return `${formatNumber(amount)} steps a run`;
}

function describeMatching({ match, variants, budget }: StoredComparison): string {
  const twice = variants.filter(({ passes }) => passes > 1).map(({ name }) => name);
  const names = twice.join(", ");
  const active =
    "a byte's active compute: what it passes through has the same width in every variant, and gates and the like come on top (FLOP/byte shows it)";
  switch (match) {
    case "compute":
      return twice.length === 0 || budget.kind === "seconds"
        ? active
        : `${active}; two passes over each batch (${names}) leave half the steps, and half the text`;
    case "tokens":
      return twice.length === 0
        ? active
        : `text and steps; two passes over each batch (${names}) cost twice the compute`;
    case "params":
      return `parameters, by the width of experts (within 10 % of ${
        variants[0]!.name
      }), and text; active compute differs`;
  }
}

function count(value: number, noun: string): string {
  return `${value} ${noun}${value === 1 ? "" : "s"}`;
}
