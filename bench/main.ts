/**
 * `deno task bench`: checks and times every question, prints rates and ratios, keeps and compares results.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { type DeviceInfo, expectNoProblems, init, type OptionProblem, SwitchyardError } from "../mod.ts";
import { attentionQuestion } from "./attention_bench.ts";
import { type Ceilings, measureCeilings } from "./ceilings.ts";
import { elementwiseChainQuestion } from "./elementwise_chain_bench.ts";
import { executeQuestion } from "./execute_bench.ts";
import { formatMs, formatNumber } from "./format.ts";
import { type Question, timeInTurns, withBuilt, type Workload } from "./harness.ts";
import { matmulQuestion } from "./matmul_bench.ts";
import { planQuestion } from "./plan_bench.ts";
import { formatResult, resultOf } from "./report.ts";
import { type BenchResult, type BenchRun, compareRuns, readRun, resultPath, writeRun } from "./results.ts";
import { softmaxQuestion } from "./softmax_bench.ts";
import { trainStepQuestion } from "./train_step_bench.ts";

const QUESTIONS: readonly Question[] = [
  matmulQuestion,
  elementwiseChainQuestion,
  softmaxQuestion,
  attentionQuestion,
  planQuestion,
  executeQuestion,
  trainStepQuestion,
];

const HELP = `deno task bench [options]
  --filter TEXT   only questions and workloads whose name contains TEXT
  --rounds N      turns of each contender, 7 by default
  --turn-ms N     least milliseconds of a turn, 150 by default
  --verify        check results, time nothing
  --json FILE     write the results; with a folder (ending in /) adapter and date name the file
  --against FILE  compare with results written before, worst first
  --help          this text`;

interface Options {
  readonly filter: string;
  readonly rounds: number;
  readonly turnMs: number;
  readonly verify: boolean;
  readonly json: string | null;
  readonly against: string | null;
}

/** Reads the command line; null if help was asked for. */
function readOptions(args: readonly string[]): Options | null {
  const problems: OptionProblem[] = [];
  const parsed = parseArgs([...args], {
    string: ["filter", "rounds", "turn-ms", "json", "against"],
    boolean: ["verify", "help"],
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
  const { filter = "", json = null, against = null, verify } = parsed;
  return { filter, rounds, turnMs, verify, json, against };
}

interface Found {
  readonly results: BenchResult[];
  readonly failures: { readonly name: string; readonly message: string }[];
}

interface Selected {
  readonly question: Question;
  readonly workloads: readonly Workload[];
}

/** The workloads that the filter lets through. */
function selectWorkloads(device: DeviceInfo, filter: string): readonly Selected[] {
  const selected = QUESTIONS.map((question) => ({
    question,
    workloads: question.workloads(device).filter(({ name }) => `${question.name} ${name}`.includes(filter)),
  })).filter(({ workloads }) => workloads.length > 0);
  if (selected.length === 0) {
    const names = QUESTIONS.map(({ name }) => name).join(", ");
    expectNoProblems("a bench run", [["--filter", filter, `fits nothing; the questions are ${names}`]]);
  }
  return selected;
}

/** Measures workloads one after another and prints results as they come. */
async function measure(
  selected: readonly Selected[],
  ceilings: Ceilings | null,
  options: Options,
): Promise<Found> {
  const found: Found = { results: [], failures: [] };
  for (const { question, workloads } of selected) {
    console.log(`\n${question.name}: ${question.asks}`);
    for (const workload of workloads) {
      const name = `${question.name} ${workload.name}`;
      console.log(`  ${workload.name}   ${workload.shapes}`);
      try {
        const results = await measureWorkload(question, workload, { ceilings, options });
        for (const result of results) console.log(formatResult(result));
        found.results.push(...results);
      } catch (error) {
        // One wrong or unaffordable workload says nothing about the others.
        const message = error instanceof Error ? error.message : String(error);
        console.log(`    FAILED  ${message.replaceAll("\n", "\n            ")}`);
        found.failures.push({ name, message });
      }
    }
  }
  return found;
}

function measureWorkload(
  question: Question,
  workload: Workload,
  { ceilings, options: { rounds, turnMs } }: { readonly ceilings: Ceilings | null; readonly options: Options },
): Promise<readonly BenchResult[]> {
  return withBuilt(workload, async ({ contenders }) => {
    if (ceilings === null) {
      console.log(`    verified  ${contenders.map(({ name }) => name).join(", ")}`);
      return [];
    }
    const timings = await timeInTurns(contenders, { rounds, turnMs, waitMs: ceilings.waitMs });
    return contenders.map((contender) => resultOf({ question, workload, contender, timings, ceilings }));
  });
}

function printMachine({ adapter, software }: DeviceInfo, ceilings: Ceilings | null): void {
  console.log(`adapter   ${adapter}${software ? " (software)" : ""}`);
  console.log(`runtime   ${runtimeName()}, ${navigator.hardwareConcurrency} processors`);
  if (ceilings === null) return;
  const { copyGBps, matmulGflops, matmulSize, waitMs } = ceilings;
  console.log(
    `ceilings  copy ${formatNumber(copyGBps)} GB/s (read + written), ` +
      `matmul ${formatNumber(matmulGflops)} GFLOP/s (f32, ${matmulSize})`,
  );
  console.log(`wait      ${formatMs(waitMs)} on an idle device, once a turn, subtracted`);
}

function runtimeName(): string {
  return `Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`;
}

async function main(): Promise<void> {
  const options = readOptions(Deno.args);
  if (options === null) return console.log(HELP);
  // Before an hour of measuring, not after it.
  const before = options.against === null ? null : await readRun(options.against);
  const device = await init();
  const selected = selectWorkloads(device, options.filter);
  const ceilings = options.verify ? null : await measureCeilings(device);
  printMachine(device, ceilings);
  const found = await measure(selected, ceilings, options);
  if (ceilings !== null) {
    const run: BenchRun = {
      adapter: device.adapter,
      software: device.software,
      runtime: runtimeName(),
      date: new Date().toISOString(),
      command: ["deno task bench", ...Deno.args].join(" "),
      ceilings,
      ...found,
    };
    if (before !== null) console.log(`\n${compareRuns(run, before)}`);
    if (options.json !== null) {
      const path = resultPath(options.json, run);
      await writeRun(path, run);
      console.log(`\nwritten to ${path}`);
    }
  }
  if (found.failures.length > 0) {
    console.log(`\n${found.failures.length} failed: ${found.failures.map(({ name }) => name).join(", ")}`);
    Deno.exitCode = 1;
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof SwitchyardError)) throw error;
  console.error(error.message);
  Deno.exitCode = 2;
}
