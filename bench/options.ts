/**
 * The command line of `deno task bench`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { expectNoProblems, type OptionProblem } from "../mod.ts";

/** What `--help` prints. */
export const HELP = `deno task bench [options]
  --filter TEXT   only questions and workloads whose name contains TEXT
  --list          print the workloads, run nothing
  --full          sweep every size; hours on a software adapter
  --peers         time jax-js and TensorFlow.js in turns with this library (fetches their packages)
  --torch         then time PyTorch on the same card, where python3 has it with CUDA, and print ratios
  --rounds N      turns of each contender, 7 by default
  --turn-ms N     least milliseconds of a turn, 150 by default
  --calibrate     measure which kernels are fastest here and keep the choices for later processes (minutes);
                  with --filter only choices whose name contains TEXT
  --verify        check results, time nothing
  --json FILE     write the results; with a folder (ending in /) adapter and date name the file
  --against FILE  compare with results written before, worst first
  --help          this text`;

/** What a run is asked to do. */
export interface BenchOptions {
  /** What names must contain. */
  readonly filter: string;
  /** Whether to print the workloads and stop. */
  readonly list: boolean;
  /** Whether to sweep every size. */
  readonly full: boolean;
  /** Whether to time peers too. */
  readonly peers: boolean;
  /** Whether to compare with PyTorch on CUDA. */
  readonly torch: boolean;
  /** Turns of each contender. */
  readonly rounds: number;
  /** Least milliseconds of a turn. */
  readonly turnMs: number;
  /** Whether to choose kernels instead of measuring. */
  readonly calibrate: boolean;
  /** Whether to check results alone. */
  readonly verify: boolean;
  /** Where to write results. */
  readonly json: string | null;
  /** What to compare with. */
  readonly against: string | null;
}

/**
 * Reads the command line.
 *
 * @returns The options; null if help was asked for.
 * @throws {ConfigError} Naming everything that is wrong.
 */
export function readOptions(args: readonly string[]): BenchOptions | null {
  const problems: OptionProblem[] = [];
  const parsed = parseArgs([...args], {
    string: ["filter", "rounds", "turn-ms", "json", "against"],
    boolean: ["verify", "help", "list", "full", "peers", "torch", "calibrate"],
    unknown(argument: string) {
      problems.push([argument, "given", "unknown option; --help lists the options"]);
      return false;
    },
  });
  function count(name: "rounds" | "turn-ms", standard: number): number {
    const value = parsed[name] === undefined ? standard : Number(parsed[name]);
    if (!Number.isSafeInteger(value) || value < 1) {
      problems.push([`--${name}`, parsed[name], "must be a whole number from 1 up"]);
    }
    return value;
  }
  const [rounds, turnMs] = [count("rounds", 7), count("turn-ms", 150)];
  for (const name of ["json", "against", "filter"] as const) {
    if (parsed[name] === "") problems.push([`--${name}`, "", "needs a value"]);
  }
  expectNoProblems("a bench run", problems);
  if (parsed.help) return null;
  const { filter = "", json = null, against = null, verify, list, full, peers, torch, calibrate } = parsed;
  return { filter, list, full, peers, torch, calibrate, rounds, turnMs, verify, json, against };
}
