/**
 * A heat: kernels that compute the same, compiled, compared and timed in turns.
 *
 * @module
 */
import { freeze } from "../core/graph.ts";
import type { HostData } from "../core/dtype.ts";
import type { AdapterTraits, KernelTuning } from "../core/kernel.ts";
import { storageOf } from "../core/realize.ts";
import type { Storage } from "../core/runtime.ts";
import type { Tensor } from "../core/tensor.ts";
import type { GpuRuntime } from "../gpu/device_runtime.ts";
import { compileProgram } from "../gpu/program.ts";
import { executableOf } from "../gpu/run.ts";
import { median } from "./choose.ts";
import type { Candidate, Work } from "./questions.ts";

/** How long and how often to measure. */
export interface HeatOptions {
  /** Rounds in which every candidate has its turn. */
  readonly rounds: number;
  /** How long a turn lasts at least, in milliseconds. */
  readonly turnMs: number;
}

/** A candidate that runs and computes what the first one does. */
export interface Runner {
  /** The candidate. */
  readonly candidate: Candidate;
  /** Text of its program: candidates may come down to the same kernels. */
  readonly text: string;
  /** Submits one run; the results belong to the caller. */
  run(): readonly Storage[];
}

/** Products of values up to 1 that were summed otherwise differ by less than this share of the largest. */
const TOLERANCE = 1e-4;
/** Runs of one turn at most. */
const MOST_CALLS = 1024;

/**
 * Compiles some work as if the adapter were a little different, without running it.
 *
 * @param deviation What differs: choices of kernels, or a lower limit of what a binding shows.
 */
export function compileWork(
  runtime: GpuRuntime,
  outputs: readonly Tensor[],
  deviation: Pick<AdapterTraits, "tuning" | "bindingBytes">,
): Pick<Runner, "text" | "run"> {
  const adapter = { ...runtime.adapter, ...deviation };
  const graph = freeze([], outputs, adapter);
  const program = compileProgram(graph, {
    adapter,
    label: "calibration",
    maxBuffers: runtime.device.limits.maxStorageBuffersPerShaderStage,
  });
  const executable = executableOf(program, runtime);
  // Tensors and not their storages: those are given back as soon as nobody holds the tensors.
  const inputs = graph.constants.map(({ tensor }) => tensor);
  return {
    text: program.dispatches.map(({ wgsl, workgroups }) => `${workgroups}\n${wgsl}`).join("\n"),
    run: () => executable.run(inputs.map((tensor) => storageOf(tensor, "calibrate with")), []),
  };
}

/** Runs once and reads the results. */
export async function resultsOf(
  runtime: GpuRuntime,
  outputs: readonly Tensor[],
  { run }: Pick<Runner, "run">,
): Promise<readonly HostData[]> {
  const storages = run();
  const found = await runtime.read(storages.map((storage, i) => ({ storage, tensor: outputs[i]! })));
  storages.forEach((storage) => runtime.release(storage));
  return found;
}

/**
 * Compiles all candidates, and leaves out those that come down to kernels of an earlier one, or that compute something
 * else than the first: whatever a driver does wrong, a calibrated choice is as right as the built-in one.
 *
 * @param base Choices for all of them.
 */
export async function prepareHeat(
  runtime: GpuRuntime,
  work: Work,
  candidates: readonly Candidate[],
  base: (candidate: Candidate) => KernelTuning,
): Promise<readonly Runner[]> {
  const outputs = work.prepare();
  const runners: Runner[] = [];
  let expected: readonly HostData[] | null = null;
  for (const candidate of candidates) {
    const compiled = compileWork(runtime, outputs, { tuning: base(candidate) });
    if (runners.some(({ text }) => text === compiled.text)) continue;
    const found = await resultsOf(runtime, outputs, compiled);
    expected ??= found;
    if (found.every((values, i) => areClose(values, expected![i]!))) runners.push({ candidate, ...compiled });
  }
  return runners;
}

/** Whether two results are the same up to rounding. */
export function areClose(found: HostData, expected: HostData): boolean {
  let [largest, error] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]!));
    // Math.max keeps NaN.
    error = Math.max(error, Math.abs(found[i]! - expected[i]!));
  }
  return found.length === expected.length && error <= TOLERANCE * largest;
}

/** What one wait on an idle device costs, in milliseconds. */
export async function measureIdleWait({ device }: GpuRuntime): Promise<number> {
  const waits: number[] = [];
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    await device.queue.onSubmittedWorkDone();
    waits.push(performance.now() - start);
  }
  return median(waits);
}

/** Times runners in turns. Returns the milliseconds of one run, for each of them and each round. */
export async function timeHeat(
  runtime: GpuRuntime,
  runners: readonly Runner[],
  { rounds, turnMs, waitMs }: HeatOptions & { readonly waitMs: number },
): Promise<readonly (readonly number[])[]> {
  async function turn({ run }: Runner, calls: number): Promise<number> {
    const start = performance.now();
    for (let call = 0; call < calls; call++) run().forEach((storage) => runtime.release(storage));
    await runtime.device.queue.onSubmittedWorkDone();
    return Math.max(performance.now() - start - waitMs, 1e-3);
  }
  const places: { readonly runner: Runner; readonly calls: number; readonly callMs: number[] }[] = [];
  for (const runner of runners) {
    let calls = 1;
    for (let ms = await turn(runner, calls); ms < turnMs && calls < MOST_CALLS; ms = await turn(runner, calls)) {
      calls = Math.min(MOST_CALLS, Math.max(2 * calls, Math.ceil(calls * turnMs / Math.max(ms, turnMs / 8))));
    }
    places.push({ runner, calls, callMs: [] });
  }
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < places.length; i++) {
      // Another one starts each round, so that nobody always follows the same neighbor.
      const { runner, calls, callMs } = places[(round + i) % places.length]!;
      callMs.push(await turn(runner, calls) / calls);
    }
  }
  return places.map(({ callMs }) => callMs);
}
