/**
 * The measurements of a run, one JSON object a line in `metrics.jsonl`. Lines are only ever added, so a kill can tear at
 * most the last one; a resumed run first drops what was written after the step that it resumes from.
 *
 * @module
 */
import { z } from "zod";
import { CheckpointError } from "../../mod.ts";
import { writeWhole } from "./durable.ts";
import { readFailure } from "./read_failure.ts";

/** What was measured at one step. A value that was not finite is NaN. */
export interface MetricsRow {
  /** Training steps done, counted from 1; a row of step 0 measures the untrained model. */
  readonly step: number;
  /** Mean training loss since the previous row, in bits per byte. */
  readonly trainBitsPerByte?: number;
  /** Loss on held-out text, in bits per byte. */
  readonly validationBitsPerByte?: number;
  /** What the optimizer minimized, auxiliary losses included, in nats. */
  readonly loss?: number;
  /** Mean divergence of what two passes predicted since the previous row, in nats; absent where there is one pass. */
  readonly divergence?: number;
  /** Learning rate of the step. */
  readonly learningRate?: number;
  /** Norm of the gradient before clipping. */
  readonly gradientNorm?: number;
  /** Factor of the loss at the step; absent where it is not scaled. */
  readonly lossScale?: number;
  /** Steps since the previous row whose gradients were not finite, and that changed nothing; absent without a factor. */
  readonly skippedSteps?: number;
  /** Bytes trained on so far. */
  readonly bytesSeen?: number;
  /** Training speed since the previous row. */
  readonly bytesPerSecond?: number;
  /** Wall-clock seconds of training so far, resumed parts included. */
  readonly seconds?: number;
  /** Share of the assignments that each expert received since the previous row, by layer; each layer sums to 1. */
  readonly load?: readonly (readonly number[])[];
  /** Share of the assignments that found no room, by layer. */
  readonly dropped?: readonly number[];
}

/** An open metrics file. */
export interface MetricsWriter extends AsyncDisposable {
  /** Adds a row; it is in the file when the promise resolves. */
  append(row: MetricsRow): Promise<void>;
}

/** Name of the metrics file in a run's folder. */
export const METRICS_FILE = "metrics.jsonl";

// JSON has no NaN or infinity: they are written as null.
const measured = z.number().nullable().transform((value) => value ?? NaN);
const rowSchema = z.looseObject({
  step: z.number().int().nonnegative(),
  trainBitsPerByte: measured.optional(),
  validationBitsPerByte: measured.optional(),
  loss: measured.optional(),
  divergence: measured.optional(),
  learningRate: measured.optional(),
  gradientNorm: measured.optional(),
  lossScale: measured.optional(),
  skippedSteps: measured.optional(),
  bytesSeen: measured.optional(),
  bytesPerSecond: measured.optional(),
  seconds: measured.optional(),
  load: z.array(z.array(measured)).optional(),
  dropped: z.array(measured).optional(),
});

/**
 * Opens the metrics of a run for adding rows.
 *
 * @param directory The run's folder, which exists.
 * @param options `afterStep` is the step from which the run goes on; rows of later steps are dropped. 0 starts anew.
 * @returns The writer; `await using` closes it.
 * @throws {CheckpointError} If a line other than the last is not a row.
 */
export async function openMetrics(
  directory: string,
  options: { readonly afterStep: number },
): Promise<MetricsWriter> {
  const path = `${directory}/${METRICS_FILE}`;
  const kept = options.afterStep === 0
    ? []
    : (await readLines(path)).filter(({ row }) => row.step <= options.afterStep);
  await writeWhole(path, kept.map(({ line }) => `${line}\n`).join(""));
  const file = await Deno.open(path, { append: true });
  return {
    async append(row: MetricsRow): Promise<void> {
      const bytes = new TextEncoder().encode(`${JSON.stringify(row)}\n`);
      let written = 0;
      while (written < bytes.length) written += await file.write(bytes.subarray(written));
    },
    [Symbol.asyncDispose](): Promise<void> {
      file.close();
      return Promise.resolve();
    },
  };
}

/**
 * Reads the metrics of a run. A torn last line is left out; a missing file has no rows. Lines of the same step, such as
 * the last evaluation's, are joined to one row.
 *
 * @param directory The run's folder.
 * @returns The rows in the order of writing.
 * @throws {CheckpointError} If a line other than the last is not a row, or the file cannot be read.
 */
export async function readMetrics(directory: string): Promise<readonly MetricsRow[]> {
  const rows: MetricsRow[] = [];
  for (const { row } of await readLines(`${directory}/${METRICS_FILE}`)) {
    if (rows.at(-1)?.step === row.step) rows.push({ ...rows.pop(), ...row });
    else rows.push(row);
  }
  return rows;
}

async function readLines(path: string): Promise<readonly { readonly line: string; readonly row: MetricsRow }[]> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw new CheckpointError("metrics/unreadable", {
      summary: `Cannot read ${path}: ${readFailure(error)}`,
      details: { path },
    });
  }
  // What follows the last newline was torn off in the middle of a write.
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line, index) => ({ line, row: parseRow(line, { path, number: index + 1 }) }));
}

function parseRow(line: string, { path, number }: { readonly path: string; readonly number: number }): MetricsRow {
  let reason: string;
  try {
    const parsed = rowSchema.safeParse(JSON.parse(line));
    // Absent keys stay absent, which is what the schema's output type cannot say under exactOptionalPropertyTypes.
    if (parsed.success) return parsed.data as MetricsRow;
    const issue = parsed.error.issues[0]!;
    reason = [issue.path.join("."), issue.message].filter((part) => part !== "").join(": ");
  } catch {
    reason = "not JSON";
  }
  throw new CheckpointError("metrics/line", {
    summary: `Cannot read ${path}: line ${number} is not a row of metrics`,
    facts: [["line", line.length > 80 ? `${line.slice(0, 80)}…` : line], ["problem", reason]],
    fix: `remove the line, or restore the file`,
    details: { path, number },
  });
}
