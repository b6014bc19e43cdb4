/**
 * The columns of a comparison's table, for the page and for Markdown alike.
 *
 * @module
 */
import { formatCount, formatNumber } from "../html.ts";
import type { Spread } from "./statistics.ts";
import type { VariantSummary } from "./summary.ts";

/** A column. */
export interface Column {
  /** Its heading. */
  readonly heading: string;
  /** What it says, for the text below the table. */
  readonly meaning: string;
  /** The text of a cell. */
  readonly cell: (summary: VariantSummary) => string;
}

/**
 * Lists the columns.
 *
 * @param reference Name of the variant that others are held against.
 * @returns The columns from left to right.
 */
export function columnsOf(reference: string): readonly Column[] {
  return [
    { heading: "variant", meaning: "", cell: ({ variant }) => variant.name },
    {
      heading: "bits per byte",
      meaning: "validation loss after training, mean ± standard deviation over seeds; lower is better",
      cell: ({ validation }) => formatSpread(validation),
    },
    { heading: "seeds", meaning: "finished runs", cell: ({ validation }) => String(validation.count) },
    {
      heading: `against ${reference}`,
      meaning: `difference from ${reference} with the same seed, mean ± standard deviation of the differences`,
      cell: ({ variant, difference }) => variant.name === reference ? "–" : formatSpread(difference, "signed"),
    },
    { heading: "parameters", meaning: "", cell: ({ parameters }) => formatCount(parameters) },
    {
      heading: "active",
      meaning: "parameters that one byte uses",
      cell: ({ activeParameters }) => formatCount(activeParameters),
    },
    {
      heading: "FLOP/byte",
      meaning: "forward pass, estimated: two for each active parameter, and attention",
      cell: ({ forwardFlop }) => formatCount(forwardFlop),
    },
    { heading: "steps", meaning: "", cell: ({ steps }) => formatNumber(steps) },
    {
      heading: "text",
      meaning: "bytes of training text passed through",
      cell: ({ bytes }) => `${formatCount(bytes)}B`,
    },
    {
      heading: "training FLOP",
      meaning: "estimated: three forward passes for each byte and pass",
      cell: ({ trainingFlop }) => formatCount(trainingFlop),
    },
    {
      heading: "tokens/s",
      meaning: "median while training; on a shared machine mostly noise",
      cell: ({ bytesPerSecond }) => formatCount(bytesPerSecond),
    },
    {
      heading: "dropped",
      meaning: "share of the assignments that found no room, in the last quarter of training",
      cell: ({ dropped }) => Number.isFinite(dropped) ? `${formatNumber(dropped * 100, 1)} %` : "–",
    },
    {
      heading: "max load",
      meaning: "load of the fullest expert over the mean load, in the last quarter of training, mean over layers",
      cell: ({ maxLoad }) => Number.isFinite(maxLoad) ? `${formatNumber(maxLoad, 2)}×` : "–",
    },
    {
      heading: "load CV",
      meaning: "coefficient of variation of the experts' loads, likewise",
      cell: ({ loadVariation }) => formatNumber(loadVariation, 2),
    },
  ];
}

/** Formats a mean with its deviation where there is one. */
function formatSpread({ mean, deviation }: Spread, kind: "plain" | "signed" = "plain"): string {
  if (!Number.isFinite(mean)) return "–";
  const sign = kind === "plain" || mean < 0 ? "" : "+";
  const value = `${sign}${formatNumber(mean, 3)}`.replace("-", "−");
  return Number.isFinite(deviation) ? `${value} ± ${formatNumber(deviation, 3)}` : value;
}
