/**
 * What a comparison keeps of a run that is over: `result.json` in the run's folder. Its presence means that the run is not
 * to be repeated.
 *
 * @module
 */
import { z } from "zod";
import { CheckpointError } from "../../../mod.ts";
import { writeWhole } from "../durable.ts";
import { readFailure } from "../read_failure.ts";

/** A run that took all its steps or all its time. */
export interface FinishedRun {
  /** How it ended. */
  readonly status: "done";
  /** The adapter, as it names itself. */
  readonly adapter: string;
  /** The text and how a part was held out. */
  readonly corpus: string;
  /** Parameters of the model. */
  readonly parameters: number;
  /** Parameters that one byte uses. */
  readonly activeParameters: number;
  /** Steps done. */
  readonly step: number;
  /** Bytes of training text. */
  readonly bytesSeen: number;
  /** Wall-clock seconds of training. */
  readonly seconds: number;
  /** Loss on held-out text, in bits per byte. */
  readonly validationBitsPerByte: number;
  /** What `gzip -9` needs for the held-out text, in bits per byte. */
  readonly gzipBitsPerByte: number;
}

/** A run that cannot be finished. */
export interface FailedRun {
  /** How it ended. */
  readonly status: "failed";
  /** Why, in one line. */
  readonly reason: string;
}

/** A run that is over. */
export type RunRecord = FinishedRun | FailedRun;

/** Name of the file in a run's folder. */
const RECORD_FILE = "result.json";

const recordSchema: z.ZodType<RunRecord> = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("done"),
    adapter: z.string(),
    corpus: z.string(),
    parameters: z.number(),
    activeParameters: z.number(),
    step: z.number(),
    bytesSeen: z.number(),
    seconds: z.number(),
    validationBitsPerByte: z.number(),
    gzipBitsPerByte: z.number(),
  }),
  z.object({ status: z.literal("failed"), reason: z.string() }),
]);

/**
 * Reads what is known of a run.
 *
 * @param directory The run's folder; it need not exist.
 * @returns The record, or undefined if the run is not over.
 * @throws {CheckpointError} If the file cannot be read or is something else.
 */
export async function readRecord(directory: string): Promise<RunRecord | undefined> {
  const path = `${directory}/${RECORD_FILE}`;
  let reason: string;
  try {
    const parsed = recordSchema.safeParse(JSON.parse(await Deno.readTextFile(path)));
    if (parsed.success) return parsed.data;
    reason = "it is not what a comparison writes";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    reason = error instanceof SyntaxError ? "it is not JSON" : readFailure(error);
  }
  throw new CheckpointError("compare/record", {
    summary: `Cannot use ${path}: ${reason}`,
    fix: `remove ${directory}, and the run is repeated`,
    details: { path },
  });
}

/**
 * Keeps what is known of a run that is over.
 *
 * @param directory The run's folder; made where it is missing.
 * @param record The record.
 */
export async function keepRecord(directory: string, record: RunRecord): Promise<void> {
  await Deno.mkdir(directory, { recursive: true });
  await writeWhole(`${directory}/${RECORD_FILE}`, `${JSON.stringify(record, null, 2)}\n`);
}
