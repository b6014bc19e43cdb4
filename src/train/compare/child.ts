/**
 * Training one run in a process of its own: what it holds is given back when it ends, and a driver that fails takes one
 * run with it and not the comparison.
 *
 * @module
 */
import type { TrainConfig } from "../config.ts";
import type { RunEvent } from "../events.ts";
import { linesOf } from "./lines.ts";
import type { ExecuteHooks, ProcessEnd } from "./runner.ts";

/** It imports nothing from the standard library, so it runs where the registry of that is out of reach. */
const SCRIPT = new URL("worker.ts", import.meta.url);
/** Lines of standard error that are kept to explain a crash. */
const KEPT_LINES = 5;

type Told = RunEvent | { readonly event: "error"; readonly reason: string };

/**
 * Trains one run in a child process. When this process ends for whatever reason, the child notices, saves and ends too.
 *
 * @param config The configuration of the run.
 * @param hooks Who hears of it, and who may stop it.
 * @returns How the child ended.
 */
export async function trainInChild(config: TrainConfig, { onEvent, signal }: ExecuteHooks): Promise<ProcessEnd> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", SCRIPT.href],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
  await using process = command.spawn();
  const input = process.stdin.getWriter();
  // A process that is gone already shows that by its status.
  await input.write(new TextEncoder().encode(`${JSON.stringify(config)}\n`)).catch(() => {});
  function askToStop(): void {
    input.close().catch(() => {});
  }
  signal.addEventListener("abort", askToStop);
  if (signal.aborted) askToStop();
  try {
    const stderr = lastLines(process.stderr);
    const { failure, isInterrupted } = await listen(process.stdout, onEvent);
    const status = await process.status;
    if (failure !== undefined) return { kind: "failed", reason: failure };
    if (isInterrupted || signal.aborted) return { kind: "interrupted" };
    return endOf(status, await stderr);
  } finally {
    signal.removeEventListener("abort", askToStop);
    askToStop();
  }
}

/** Hands on a run's events, and keeps what tells how it ended. */
async function listen(
  stdout: ReadableStream<Uint8Array<ArrayBuffer>>,
  onEvent: (event: RunEvent) => void,
): Promise<{ readonly failure: string | undefined; readonly isInterrupted: boolean }> {
  let failure: string | undefined;
  let isInterrupted = false;
  for await (const line of linesOf(stdout)) {
    const told = parseLine(line);
    if (told === undefined) continue;
    if (told.event === "error") failure = told.reason;
    else onEvent(told);
    isInterrupted ||= told.event === "interrupted";
  }
  return { failure, isInterrupted };
}

/** The event in a line, or undefined for what a driver says and for a line that was torn off. */
function parseLine(line: string): Told | undefined {
  if (!line.startsWith('{"event":')) return undefined;
  try {
    return JSON.parse(line) as Told;
  } catch {
    return undefined;
  }
}

function endOf({ success, code, signal }: Deno.CommandStatus, stderr: readonly string[]): ProcessEnd {
  if (success) return { kind: "over" };
  const said = stderr.length === 0 ? "" : `: ${stderr.join("; ")}`;
  return { kind: "crashed", reason: `its process ended with ${signal ?? `status ${code}`}${said}` };
}

async function lastLines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const line of linesOf(stream)) {
    if (line.trim() !== "") lines.push(line.trim());
    if (lines.length > KEPT_LINES) lines.shift();
  }
  return lines;
}
