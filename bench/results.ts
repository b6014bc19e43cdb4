/**
 * Results as a file: what is kept, where, and how two of them compare.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "../mod.ts";
import type { Ceilings } from "./ceilings.ts";
import { formatMs, formatNumber } from "./format.ts";

/** The measurement of one contender. */
export interface BenchResult {
  /** Question, workload and contender, unique in a file. */
  readonly name: string;
  /** The shapes, for people. */
  readonly shapes: string;
  /** Arithmetic of one call. */
  readonly flop: number;
  /** Least traffic of one call. */
  readonly bytes: number;
  /** What else a call's work is counted in. */
  readonly items?: { readonly name: string; readonly count: number } | undefined;
  /** Bytes of memory that a call needs, temporaries included, where that was asked. */
  readonly plannedBytes?: number | undefined;
  /** Milliseconds of a call, the median of the rounds. */
  readonly medianMs: number;
  /** Milliseconds of a call in the best round. */
  readonly leastMs: number;
  /** Milliseconds of a call in the worst round. */
  readonly mostMs: number;
  /** Calls in a turn. */
  readonly calls: number;
  /** Turns. */
  readonly rounds: number;
  /** The ceiling that binds, and how much of it was reached. */
  readonly ceiling: { readonly of: "copy" | "matmul"; readonly share: number };
  /** How many times another contender's time it took, the median of the rounds. */
  readonly ratio?: { readonly to: string; readonly times: number } | undefined;
  /** Milliseconds of a call that the host spent submitting it, the median of the rounds; absent where it waits for results. */
  readonly hostMs?: number | undefined;
  /** GPU buffers created while it was timed. */
  readonly allocations: number;
  /** Bytes of all GPU buffers after the timing, idle ones included: the peak so far; absent for peers. */
  readonly heldBytes?: number | undefined;
  /** The library and backend, if it is not this one. */
  readonly peer?: string | undefined;
  /** Name of this library's result that a peer was timed in turns with. */
  readonly versus?: string | undefined;
  /** In which form a peer does the work, such as `jit`. */
  readonly form?: string | undefined;
}

/** A peer that could not do the work of a contender, or not in one form. */
export interface PeerFailure {
  /** The contender's name in the results. */
  readonly name: string;
  /** The library and backend. */
  readonly peer: string;
  /** The form that failed. */
  readonly form: string;
  /** Its error, or how its result was wrong. */
  readonly reason: string;
}

/** All measurements of a run and where they were taken. */
export interface BenchRun {
  /** Adapter name as the driver reports it. */
  readonly adapter: string;
  /** Whether the driver computes on the CPU. */
  readonly software: boolean;
  /** Deno's version and the platform. */
  readonly runtime: string;
  /** When, in ISO 8601. */
  readonly date: string;
  /** The command that makes such a file. */
  readonly command: string;
  /** What the adapter could do at most. */
  readonly ceilings: Ceilings;
  /** What was measured. */
  readonly results: readonly BenchResult[];
  /** Workloads without a time, and why. */
  readonly failures: readonly { readonly name: string; readonly message: string }[];
  /** What peers could not do. */
  readonly peerFailures?: readonly PeerFailure[] | undefined;
}

const RESULT: z.ZodType<BenchResult> = z.object({
  name: z.string(),
  shapes: z.string(),
  flop: z.number(),
  bytes: z.number(),
  items: z.object({ name: z.string(), count: z.number() }).optional(),
  plannedBytes: z.number().optional(),
  medianMs: z.number(),
  leastMs: z.number(),
  mostMs: z.number(),
  calls: z.number(),
  rounds: z.number(),
  ceiling: z.object({ of: z.enum(["copy", "matmul"]), share: z.number() }),
  ratio: z.object({ to: z.string(), times: z.number() }).optional(),
  hostMs: z.number().optional(),
  allocations: z.number(),
  heldBytes: z.number().optional(),
  peer: z.string().optional(),
  versus: z.string().optional(),
  form: z.string().optional(),
});

const RUN: z.ZodType<BenchRun> = z.object({
  adapter: z.string(),
  software: z.boolean(),
  runtime: z.string(),
  date: z.string(),
  command: z.string(),
  ceilings: z.object({
    copyGBps: z.number(),
    matmulGflops: z.number(),
    matmulSize: z.number(),
    fmaGflops: z.number().optional(),
    waitMs: z.number(),
  }),
  results: z.array(RESULT),
  failures: z.array(z.object({ name: z.string(), message: z.string() })),
  peerFailures: z.array(z.object({ name: z.string(), peer: z.string(), form: z.string(), reason: z.string() }))
    .optional(),
});

/** Where `--json` writes: a path that ends in a slash is a folder, in which adapter and date name the file. */
export function resultPath(target: string, { adapter, date }: Pick<BenchRun, "adapter" | "date">): string {
  if (!target.endsWith("/")) return target;
  const name = adapter.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "");
  return `${target}${name}_${date.slice(0, 10)}.json`;
}

/**
 * Reads a run that was written before.
 *
 * @throws {ConfigError} If there is no such file or it holds something else.
 */
export async function readRun(path: string): Promise<BenchRun> {
  try {
    return RUN.parse(JSON.parse(await Deno.readTextFile(path)));
  } catch (error) {
    const issue = error instanceof z.ZodError ? error.issues[0] : undefined;
    const reason = issue === undefined ? (error as Error).message : `${issue.path.join(".")}: ${issue.message}`;
    throw new ConfigError("bench/against", {
      summary: "Cannot compare: no results of an earlier run could be read",
      facts: [["file", path], ["reason", reason]],
      fix: "give --against a file that --json wrote",
    });
  }
}

/** Writes a run, one result a line, so that two files can be compared by eye too. Makes the folder if needed. */
export async function writeRun(path: string, { results, ...run }: BenchRun): Promise<void> {
  const head = JSON.stringify(run, null, 2).replace(/\n\}$/, "");
  const lines = results.map((result) => `    ${JSON.stringify(result)}`);
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  if (folder !== "") await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(path, `${head},\n  "results": [\n${lines.join(",\n")}\n  ]\n}\n`);
}

/** Says how many times the earlier run's time everything takes now, worst first. */
export function compareRuns(now: BenchRun, before: BenchRun): string {
  const known = new Map(before.results.map((result) => [result.name, result]));
  const rows = now.results.flatMap((result) => {
    const earlier = known.get(result.name);
    return earlier === undefined ? [] : [{ result, earlier, times: result.medianMs / earlier.medianMs }];
  }).sort((a, b) => b.times - a.times);
  const names = new Set(now.results.map(({ name }) => name));
  const newOnes = now.results.filter(({ name }) => !known.has(name)).length;
  const gone = before.results.filter(({ name }) => !names.has(name)).length;
  const width = Math.max(0, ...rows.map(({ result }) => result.name.length));
  return [
    `Against ${before.date.slice(0, 10)} (${before.command}), worst first`,
    ...(now.adapter === before.adapter ? [] : [`  other adapter: ${before.adapter}`]),
    ...rows.map(({ result, earlier, times }) =>
      `  ${formatNumber(times).padStart(5)}x  ${result.name.padEnd(width)}  ${formatMs(earlier.medianMs)} -> ${
        formatMs(result.medianMs)
      }${withinSpread(result, earlier) ? "  (ranges overlap)" : ""}`
    ),
    ...(newOnes > 0 || gone > 0 ? [`  ${newOnes} not measured then, ${gone} not measured now`] : []),
  ].join("\n");
}

function withinSpread(a: BenchResult, b: BenchResult): boolean {
  return a.leastMs <= b.mostMs && b.leastMs <= a.mostMs;
}
