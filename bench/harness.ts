/**
 * What a benchmark is and how it is timed.
 *
 * A question has workloads, a workload has contenders that do comparable work. Every contender is checked against a
 * definition before anything is timed. Contenders take turns, round after round, so that what else the machine does
 * falls on all alike; ratios are taken within a round. A round submits many calls and waits once, because waiting costs
 * about 11 ms in Deno however little is queued.
 *
 * @module
 */
import { type DeviceInfo, memory, own, settle } from "../mod.ts";
import type { PeerWork } from "./peers/peers.ts";

/** What one call does, by definition and not by what a kernel happens to do. */
export interface Work {
  /** Useful arithmetic of products and sums, 0 if that is not what the work is about. */
  readonly flop: number;
  /** Least traffic with memory: inputs read once, outputs written once. */
  readonly bytes: number;
  /** What else the work may be counted in, such as tokens. */
  readonly items?: { readonly name: string; readonly count: number };
}

/** One way of doing the work. */
export interface Contender {
  /** Short name, such as `execute`. */
  readonly name: string;
  /** What a call does. */
  readonly work: Work;
  /** Submits one call and returns the tree it made, which the harness releases at once. Awaits nothing unless `waits`. */
  run(): unknown;
  /** Whether `run` is asynchronous and its waiting, such as a read, belongs to the work: it is not subtracted then. */
  readonly waits?: boolean;
  /** Bytes of memory that a call needs, temporaries included, where the question is about memory too. */
  readonly plannedBytes?: number;
  /** Name of the contender whose time this one's is compared with, if there is one. */
  readonly ratioTo?: string;
}

/** Contenders ready to run. */
export interface Built {
  /** The contenders, in the order of the report. */
  readonly contenders: readonly Contender[];
  /** The tree of tensors they share, released when the workload is over. */
  readonly inputs: unknown;
  /** Compares what every contender computes with its definition. Runs before anything is timed. */
  verify(): Promise<void>;
  /** The same work for other libraries, for who asks for peers. */
  readonly peers?: readonly PeerWork[];
}

/** Contenders, shapes and data. */
export interface Workload {
  /** Short name, unique in its question. */
  readonly name: string;
  /** The shapes, for people. */
  readonly shapes: string;
  /** Makes data and compiles. */
  build(): Built | Promise<Built>;
}

/** A question that its workloads answer. */
export interface Question {
  /** Short name, unique among questions. */
  readonly name: string;
  /** The question in words. */
  readonly asks: string;
  /** The workloads that suit a device: sizes a GPU needs to be busy take minutes on a software adapter. */
  workloads(device: DeviceInfo, options?: Partial<WorkloadOptions>): readonly Workload[];
}

/** How many workloads are wanted. */
export interface WorkloadOptions {
  /** Whether to sweep every size, which takes hours on a software adapter; false by default. */
  readonly full: boolean;
}

/** How long and how often to measure. */
export interface TimingOptions {
  /** Rounds in which every contender has its turn. */
  readonly rounds: number;
  /** How long a turn lasts at least, in milliseconds. */
  readonly turnMs: number;
  /** After this many milliseconds no further round starts if there were three; no bound by default. */
  readonly patienceMs?: number;
}

/** Who takes turns: a contender of this process, or a peer in its own. */
export interface Entrant {
  /** The contender's name. */
  readonly name: string;
  /** Makes calls and returns the milliseconds they took, without what waiting for them costs by itself. */
  turn(calls: number): Promise<number>;
  /** Milliseconds that the host took to submit the calls of the last turn, where that is known. */
  submitMs?(): number | undefined;
}

/** What was measured for one contender. */
export interface Timing {
  /** The contender's name. */
  readonly contender: string;
  /** Calls submitted in a turn before the one wait. */
  readonly calls: number;
  /** Milliseconds a call took in each round. */
  readonly callMs: readonly number[];
  /** Milliseconds of it that the host spent submitting; empty where that is not known. */
  readonly hostMs: readonly number[];
  /** GPU buffers created in all rounds together; 0 in a steady state. */
  readonly allocations: number;
}

/** More submissions than this queue up no better, and a turn must end even if a call takes no time at all. */
const MOST_CALLS = 4096;

/** A median of fewer rounds says little. */
const LEAST_ROUNDS = 3;

/**
 * Makes calls and waits for them.
 *
 * @returns Milliseconds until all were submitted.
 */
export async function runCalls({ run, waits = false }: Contender, calls: number): Promise<number> {
  const start = performance.now();
  for (let call = 0; call < calls; call++) {
    const made = run();
    own(waits ? await made : made)[Symbol.dispose]();
  }
  const submitted = performance.now() - start;
  if (!waits) await settle();
  return submitted;
}

/**
 * Lets a contender take turns.
 *
 * @param waitMs What waiting for an idle device costs, subtracted from every turn; see {@linkcode measureWait}.
 */
export function entrantOf(contender: Contender, { waitMs }: { readonly waitMs: number }): Entrant {
  const subtracted = contender.waits === true ? 0 : waitMs;
  let submitMs: number | undefined;
  return {
    name: contender.name,
    async turn(calls) {
      const start = performance.now();
      const submitted = await runCalls(contender, calls);
      if (contender.waits !== true) submitMs = submitted;
      return performance.now() - start - subtracted;
    },
    submitMs: () => submitMs,
  };
}

/** Measures what one wait costs while nothing is queued: the median of seven, in milliseconds. */
export async function measureWait(): Promise<number> {
  await settle();
  const waits: number[] = [];
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    await settle();
    waits.push(performance.now() - start);
  }
  return median(waits);
}

/** Finds how many calls fill a turn. The first call is not counted: it may still compile pipelines. */
export async function callsPerTurn(entrant: Entrant, { turnMs }: Pick<TimingOptions, "turnMs">): Promise<number> {
  await entrant.turn(1);
  for (let calls = 1;; calls = Math.min(MOST_CALLS, calls * 4)) {
    const elapsedMs = Math.max(await entrant.turn(calls), 1e-3);
    if (elapsedMs >= turnMs) return calls;
    // Below a third of the target the estimate is too rough to extrapolate from.
    if (elapsedMs >= turnMs / 3) return Math.min(MOST_CALLS, Math.ceil(calls * turnMs / elapsedMs));
    if (calls >= MOST_CALLS) return calls;
  }
}

/** Times entrants in turns. What they compute must have been verified. */
export async function timeInTurns(entrants: readonly Entrant[], options: TimingOptions): Promise<Timing[]> {
  const { rounds, patienceMs = Infinity } = options;
  const places = [];
  for (const entrant of entrants) {
    const calls = await callsPerTurn(entrant, options);
    places.push({ entrant, calls, callMs: [] as number[], hostMs: [] as number[], allocations: 0 });
  }
  const start = performance.now();
  for (let round = 0; round < rounds; round++) {
    if (round >= LEAST_ROUNDS && performance.now() - start > patienceMs) break;
    for (let i = 0; i < places.length; i++) {
      // Another one starts each round, so that nobody always follows the same neighbor.
      const place = places[(round + i) % places.length]!;
      const before = memory().allocations;
      const elapsedMs = await place.entrant.turn(place.calls);
      place.callMs.push(Math.max(elapsedMs, 1e-6) / place.calls);
      const submitMs = place.entrant.submitMs?.();
      if (submitMs !== undefined) place.hostMs.push(submitMs / place.calls);
      place.allocations += memory().allocations - before;
    }
  }
  return places.map(({ entrant, ...timing }) => ({ contender: entrant.name, ...timing }));
}

/** Builds and verifies a workload, hands it to a function and releases its inputs whatever happens. */
export async function withBuilt<T>(workload: Workload, use: (built: Built) => Promise<T>): Promise<T> {
  const built = await workload.build();
  try {
    await built.verify();
    return await use(built);
  } finally {
    own(built.inputs)[Symbol.dispose]();
    await settle();
  }
}

/** The median. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The median over rounds of how many times the baseline's time a contender took. */
export function timeRatio(timing: Timing, baseline: Timing): number {
  return median(timing.callMs.map((ms, round) => ms / baseline.callMs[round]!));
}
