/**
 * Runs of the training program that are small enough for tests: in this process, or as the scripts behind the tasks.
 *
 * @module
 */
import { init } from "../../../mod.ts";
import { readCheckpoint, type StoredCheckpoint } from "../../../src/train/checkpoint.ts";
import { linesOf } from "../../../src/train/compare/lines.ts";
import { loadConfig } from "../../../src/train/config_file.ts";
import type { RunEvent } from "../../../src/train/events.ts";
import { type RunEnd, type RunOptions, runTraining } from "../../../src/train/program.ts";
import { type RouterName, ROUTERS } from "../../../src/train/routers.ts";

/** Flags of a model that trains in a second. All tests use its shapes, so that its kernels are compiled once. */
export const SMALL_FLAGS = {
  router: "switch",
  experts: "3",
  width: "16",
  heads: "2",
  layers: "2",
  "expert-width": "24",
  seq: "16",
  batch: "4",
  lr: "0.02",
  steps: "24",
  "eval-every": "8",
  "checkpoint-every": "10",
} as const;

/** The same with a router: without `experts` where it has none, and as many as divide a batch where it balances them. */
export function smallFlags(router: RouterName): Flags {
  const { experts, ...rest } = SMALL_FLAGS;
  const hasExperts = ROUTERS[router].visits !== "none";
  return { ...rest, ...(hasExperts ? { experts: router === "base" ? "4" : experts } : {}), router };
}

/** Flags by name, without dashes. */
export type Flags = Readonly<Record<string, string | boolean>>;

/** A run that ended. */
export interface EndedRun {
  /** How it ended. */
  readonly end: RunEnd;
  /** What it told. */
  readonly events: readonly RunEvent[];
}

const WORDS = "switch track signal the of a yard engine to moves wagon and".split(" ");

/** A text of made-up sentences, 8 kB, always the same. */
export function sampleText(): string {
  let state = 1;
  let text = "";
  while (text.length < 8000) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    text += `${WORDS[(state >>> 16) % WORDS.length]}${(state >>> 8) % 11 === 0 ? ".\n" : " "}`;
  }
  return text;
}

/** Runs a test in a fresh folder that holds the sample text as `text.txt`. */
export async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/text.txt`, sampleText());
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Trains in this process. */
export async function train(flags: Flags, options: Partial<RunOptions> = {}): Promise<EndedRun> {
  const events: RunEvent[] = [];
  const config = await loadConfig({ adapter: "software", flags });
  const end = await runTraining(config, {
    device: await init(),
    onEvent: (event) => void events.push(event),
    ...options,
  });
  return { end, events };
}

/** The files of a run's newest checkpoint, which say everything that training goes on from, save the time it took. */
export async function stateOf(directory: string): Promise<readonly [StoredCheckpoint["step"], ...Uint8Array[]]> {
  const { step, files } = await readCheckpoint(directory);
  return [step, files.get("model.safetensors")!, files.get("optimizer.safetensors")!];
}

const root = new URL("../../../", import.meta.url);

/** What the tasks pass to Deno where JSR is out of reach. */
async function findStandIns(): Promise<readonly string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "--no-config", "-A", "tools/std.ts"],
    cwd: root,
    stderr: "null",
  }).output();
  return new TextDecoder().decode(stdout).split(/\s+/).filter((part) => part !== "");
}

let standIns: Promise<readonly string[]> | undefined;

/** A script that was started. */
export interface StartedScript {
  /** The process; what it writes to standard error is dropped. */
  readonly process: Deno.ChildProcess;
  /** The lines of its standard output as they come. */
  readonly lines: AsyncIterableIterator<string>;
}

/** What a script wrote, and its exit status. */
export interface EndedScript {
  /** Exit status. */
  readonly code: number;
  /** Standard output. */
  readonly stdout: string;
  /** Standard error without what graphics drivers say. */
  readonly stderr: string;
}

/** Flags as a command line. */
export function commandLine(flags: Flags): readonly string[] {
  return Object.entries(flags).flatMap(([name, value]) =>
    value === true ? [`--${name}`] : value === false ? [] : [`--${name}`, value]
  );
}

async function scriptCommand(script: string, args: readonly string[], stderr: "piped" | "null"): Promise<Deno.Command> {
  standIns ??= findStandIns();
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", ...await standIns, `src/train/${script}.ts`, ...args],
    cwd: root,
    stdin: "null",
    stdout: "piped",
    stderr,
  });
}

/** Runs a script behind a task to its end. */
export async function runScript(script: string, args: readonly string[]): Promise<EndedScript> {
  const { code, stdout, stderr } = await (await scriptCommand(script, args, "piped")).output();
  const decoder = new TextDecoder();
  const said = decoder.decode(stderr).split("\n").filter((line) => !/XDG_RUNTIME_DIR|software adapter/.test(line));
  return { code, stdout: decoder.decode(stdout), stderr: said.join("\n") };
}

/** Starts a script behind a task. */
export async function startScript(script: string, args: readonly string[]): Promise<StartedScript> {
  const process = (await scriptCommand(script, args, "null")).spawn();
  return { process, lines: linesOf(process.stdout) };
}
