/**
 * Measuring which kernels are fastest on this machine, and keeping the choices for later processes.
 *
 * @module
 */
import { AdapterError, expectNoProblems, type OptionProblem } from "../core/errors.ts";
import type { KernelTuning } from "../core/kernel.ts";
import { startedDevice } from "../gpu/device.ts";
import type { GpuRuntime } from "../gpu/device_runtime.ts";
import { NEVER, writeTuning } from "../gpu/tuning_file.ts";
import { TUNING_VARIABLE, tuningFolder } from "../gpu/tuning_key.ts";
import { bestOf, chooseThreshold, compareTimes, type Comparison, type ThresholdProbe } from "./choose.ts";
import { type HeatOptions, measureIdleWait, prepareHeat, type Runner, timeHeat } from "./heat.ts";
import {
  type CalibrationQuestion,
  mergeTuning,
  type PickQuestion,
  questionsFor,
  thresholdName,
  type ThresholdQuestion,
} from "./questions.ts";

/** Options of {@linkcode calibrate}. */
export interface CalibrateOptions {
  /** Rounds in which every kernel has its turn, 7 by default. */
  readonly rounds?: number;
  /** How long a turn lasts at least, in milliseconds, 60 by default. */
  readonly turnMs?: number;
  /** Only choices whose name contains this text, such as `textureTiles`; the others stay as they are in use. */
  readonly only?: string;
  /** Whether to write the file that `init()` of later processes reads, true by default. */
  readonly write?: boolean;
  /** Called with each decision as it is made: all of them take minutes. */
  readonly onDecision?: (decision: CalibrationDecision) => void;
}

/** One kernel, or one size, against the built-in choice. */
export interface CalibrationTrial {
  /** The kernel or the size. */
  readonly name: string;
  /** Median over rounds of its time divided by that of the built-in choice; below 1 it is faster. */
  readonly ratio: number;
  /** Rounds in which it was faster. */
  readonly wins: number;
  /** Rounds. */
  readonly rounds: number;
}

/** What was decided, and from what. */
export interface CalibrationDecision {
  /** The choice, such as `textureTiles.large`. */
  readonly name: string;
  /** What was timed. */
  readonly shapes: string;
  /** What is used from now on. */
  readonly chosen: string;
  /** Whether it differs from the built-in choice. */
  readonly isChanged: boolean;
  /** What was measured. */
  readonly trials: readonly CalibrationTrial[];
  /** The best of them once more, against the built-in choice alone; null if none was faster beyond doubt. */
  readonly confirmation: CalibrationTrial | null;
}

/** What {@linkcode calibrate} found. */
export interface CalibrationResult {
  /** The adapter. */
  readonly adapter: string;
  /** When it was measured, in ISO 8601. */
  readonly date: string;
  /** Where the choices were written; null if that was not wanted. */
  readonly path: string | null;
  /** Names of the choices that differ from the built-in ones. */
  readonly changed: readonly string[];
  /** All of them. */
  readonly decisions: readonly CalibrationDecision[];
  /** A table, one line for each choice. */
  toString(): string;
}

/**
 * Times kernels that compute the same on the device that `init()` started, and writes down which are faster than the
 * built-in choices, for `init()` of later processes on this machine.
 *
 * Kernels take turns over several rounds. One is taken only if its median ratio to the built-in choice is below 0.93 and
 * it wins three rounds in four, in a first heat and again in a second one against the built-in choice alone. Candidates add
 * in the same order, so choices change how long a product takes and not what it is; one that computes something else on
 * this driver is left out. The running process keeps the choices it started with.
 *
 * @throws {AdapterError} If there is no device.
 * @throws {ConfigError} If an option is out of range, or there is no folder to write to.
 *
 * @example A quick look at one choice, without keeping it
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { calibrate, init } from "@switchyard/switchyard";
 *
 * await init();
 * const result = await calibrate({ only: "textureTiles.small", rounds: 1, turnMs: 1, write: false });
 * assertEquals(result.path, null);
 * ```
 */
export async function calibrate(options: CalibrateOptions = {}): Promise<CalibrationResult> {
  const { rounds = 7, turnMs = 60, only = "", write = true, onDecision } = options;
  const started = startedDevice();
  if (started === null) {
    throw new AdapterError("device/not-initialized", {
      summary: "Cannot calibrate: no device yet",
      fix: "await init() once at program start",
    });
  }
  const { runtime, key } = started;
  const folder = tuningFolder(started.options.calibration);
  expectCalibratable({ rounds, turnMs }, write && folder === null);
  let tuning: KernelTuning = only === "" ? {} : runtime.adapter.tuning ?? {};
  const decisions: CalibrationDecision[] = [];
  const timing = { rounds, turnMs, waitMs: await measureIdleWait(runtime) };
  for (const question of questionsFor(runtime.adapter).filter(({ name }) => name.includes(only))) {
    const { chosen, decision } = await decide(runtime, question, tuning, timing);
    tuning = mergeTuning(withoutChoice(tuning, question.name), chosen);
    decisions.push(decision);
    onDecision?.(decision);
  }
  const date = new Date().toISOString();
  return {
    adapter: runtime.adapter.name,
    date,
    path: write && folder !== null ? await writeTuning(folder, key, { date, tuning }) : null,
    changed: decisions.flatMap(({ name, isChanged }) => isChanged ? [name] : []),
    decisions,
    toString: () => formatDecisions(decisions),
  };
}

function expectCalibratable({ rounds, turnMs }: HeatOptions, hasNowhereToWrite: boolean): void {
  const problems: OptionProblem[] = [];
  if (!Number.isSafeInteger(rounds) || rounds < 1) {
    problems.push(["rounds", rounds, "must be a whole number from 1 up"]);
  }
  if (!(turnMs > 0)) problems.push(["turnMs", turnMs, "must be a positive number of milliseconds"]);
  if (hasNowhereToWrite) {
    problems.push(["write", true, `needs a folder: init({ calibration: folder }) or the variable ${TUNING_VARIABLE}`]);
  }
  expectNoProblems("a calibration", problems);
}

type Timing = HeatOptions & { readonly waitMs: number };

interface Decided {
  /** What differs from the choices before. */
  readonly chosen: KernelTuning;
  readonly decision: CalibrationDecision;
}

function decide(
  runtime: GpuRuntime,
  question: CalibrationQuestion,
  tuning: KernelTuning,
  timing: Timing,
): Promise<Decided> {
  return question.kind === "pick"
    ? pick(runtime, question, tuning, timing)
    : findThreshold(runtime, question, tuning, timing);
}

/** Every runner but the first against the first. */
async function compareWithFirst(
  runtime: GpuRuntime,
  runners: readonly Runner[],
  timing: Timing,
): Promise<readonly Comparison[]> {
  const [standard = [], ...others] = await timeHeat(runtime, runners, timing);
  return others.map((times) => compareTimes(times, standard));
}

async function pick(
  runtime: GpuRuntime,
  { name, work, forced, candidates }: PickQuestion,
  tuning: KernelTuning,
  timing: Timing,
): Promise<Decided> {
  // What a file chose before is not the built-in choice.
  const base = mergeTuning(withoutChoice(tuning, name), forced);
  const runners = await prepareHeat(runtime, work, candidates, (candidate) => mergeTuning(base, candidate.tuning));
  const compared = await compareWithFirst(runtime, runners, timing);
  const best = bestOf(compared);
  const trials = compared.map((comparison, i) => trialOf(runners[i + 1]!.candidate.name, comparison));
  const kept = { chosen: {}, decision: { name, shapes: work.shapes, chosen: candidates[0].name, isChanged: false } };
  if (best === null) return { ...kept, decision: { ...kept.decision, trials, confirmation: null } };
  // The best of many may have been lucky.
  const { candidate } = runners[best + 1]!;
  const [again] = await compareWithFirst(runtime, [runners[0]!, runners[best + 1]!], timing) as [Comparison];
  const confirmation = trialOf(candidate.name, again);
  if (!again.isFaster) return { ...kept, decision: { ...kept.decision, trials, confirmation } };
  return {
    chosen: candidate.tuning,
    decision: { ...kept.decision, chosen: candidate.name, isChanged: true, trials, confirmation },
  };
}

async function findThreshold(
  runtime: GpuRuntime,
  { name, standard, probes }: ThresholdQuestion,
  tuning: KernelTuning,
  timing: Timing,
): Promise<Decided> {
  const ways = [{ name: "buffers", tuning: { [name]: Infinity } }, { name: "textures", tuning: { [name]: 0 } }];
  const trials: CalibrationTrial[] = [];
  const found: ThresholdProbe[] = [];
  for (const work of probes) {
    const runners = await prepareHeat(runtime, work, ways, (way) => mergeTuning(tuning, way.tuning));
    if (runners.length < ways.length) continue;
    const measure = async () => await timeHeat(runtime, runners, timing) as [number[], number[]];
    const times = await measure();
    let faster = fasterWay(times);
    // What would move the threshold is measured again, as with kernels.
    if (faster === (work.size < standard ? "above" : "below") && fasterWay(await measure()) !== faster) {
      faster = "neither";
    }
    found.push({ work: work.size, faster });
    trials.push(trialOf(`textures at ${work.shapes}`, compareTimes(times[1], times[0])));
  }
  const threshold = chooseThreshold(found, standard, NEVER);
  return {
    chosen: threshold === standard ? {} : { [name]: threshold },
    decision: {
      name,
      shapes: `${probes[0]!.shapes} to ${probes.at(-1)!.shapes}`,
      chosen: thresholdName(threshold),
      isChanged: threshold !== standard,
      trials,
      confirmation: null,
    },
  };
}

/** Which of two ways is faster beyond doubt: that of small sizes, that of large ones, or neither. */
function fasterWay([below, above]: readonly [readonly number[], readonly number[]]): ThresholdProbe["faster"] {
  if (compareTimes(above, below).isFaster) return "above";
  return compareTimes(below, above).isFaster ? "below" : "neither";
}

function trialOf(name: string, { ratio, wins, rounds }: Comparison): CalibrationTrial {
  return { name, ratio, wins, rounds };
}

/** Choices without one, such as `textureTiles.large`. */
function withoutChoice(tuning: KernelTuning, name: string): KernelTuning {
  const [group = "", part = ""] = name.split(".");
  const { [group as keyof KernelTuning]: chosen, ...others } = tuning;
  if (typeof chosen !== "object") return others;
  return { ...others, [group]: Object.fromEntries(Object.entries(chosen).filter(([key]) => key !== part)) };
}

function formatDecisions(decisions: readonly CalibrationDecision[]): string {
  return decisions.map(formatDecision).join("\n");
}

/** One line: the choice, what was decided, and the best that was measured against the built-in choice. */
export function formatDecision({ name, chosen, isChanged, trials, confirmation }: CalibrationDecision): string {
  const [best] = [...trials].sort((a, b) => a.ratio - b.ratio);
  const measured = best === undefined
    ? "nothing else to choose from"
    : `best ${formatTrial(best)}, ${best.name}${confirmation === null ? "" : `; again ${formatTrial(confirmation)}`}`;
  return `${name.padEnd(22)}  ${isChanged ? "changed" : "kept   "}  ${chosen.padEnd(31)}  ${measured}`;
}

function formatTrial({ ratio, wins, rounds }: CalibrationTrial): string {
  return `${ratio.toFixed(2)} (${wins} of ${rounds} rounds)`;
}
