/**
 * Time per kernel of a piece of work, with the ops and the source lines each kernel comes from.
 *
 * @module
 */
import { AdapterError } from "../core/errors.ts";
import { realize } from "../core/realize.ts";
import { currentRuntime } from "../core/runtime.ts";
import { setSiteRecording } from "../core/tensor.ts";
import { expectNoPromise } from "../core/trace.ts";
import { flatten } from "../core/tree.ts";
import type { GpuRuntime } from "./device_runtime.ts";
import { DispatchTimer, type ProfileClock, type TimedDispatch } from "./dispatch_timer.ts";

/** Options of {@linkcode profile}. */
export interface ProfileOptions {
  /**
   * `"device"` uses the device's timestamps; `"host"` waits for each dispatch and counts the submission, about 0.1 ms, in.
   * By default the device's where it has one, but the host's on software adapters, whose timestamps come too late.
   */
  readonly clock?: ProfileClock;
}

/** One dispatch of the profiled work. */
export interface KernelTime {
  /** Name of the program: that of the jitted function, or `eager`. */
  readonly program: string;
  /** Name of the kernel. */
  readonly label: string;
  /** The ops it computes. */
  readonly ops: readonly string[];
  /** The line that wrote the first of them, as `file.ts:line:column`. A derivative has the line of what it derives. */
  readonly source: string;
  /** The lines of all of them. */
  readonly sources: readonly string[];
  /** Milliseconds from the start of the work. */
  readonly startMs: number;
  /** Milliseconds it took. */
  readonly ms: number;
  /** Its part of the sum of all, 0 to 1. */
  readonly share: number;
  /** Bytes of the values it binds: what it moves if it reads all of each. */
  readonly bytes: number;
  /** Floating point operations, where it is a matrix product; else null. */
  readonly flop: number | null;
  /** Workgroups. */
  readonly workgroups: readonly [number, number, number];
}

/** What {@linkcode profile} found. */
export interface Profile<R> {
  /** What the work returned, computed. */
  readonly result: R;
  /** The dispatches, in the order they ran. */
  readonly kernels: readonly KernelTime[];
  /** Sum of their times in milliseconds, without what lies between them. */
  readonly totalMs: number;
  /** The clock that measured. */
  readonly clock: ProfileClock;
  /** A table, one line for each kernel and source line, slowest first. */
  toString(): string;
  /** JSON in Chrome's trace format, for chrome://tracing and https://ui.perfetto.dev. */
  chromeTrace(): string;
}

/** Frames of a stack that are looked through for the user's line: layers nest deeper than V8's usual ten. */
const STACK_FRAMES = 60;

/**
 * Runs some work once and measures every kernel.
 *
 * Jitted functions called in it are traced again, so that each op knows its line; that trace is kept apart from the one of
 * ordinary calls and does not count towards `maxTraces`. Kernels are compiled before they are timed. Each dispatch has a
 * pass of its own, so the sum of all is a little more than an ordinary call, which records one pass, takes.
 *
 * @param work Synchronous. What it returns is computed before the clock stops. Donated arguments are donated.
 * @throws {AdapterError} If there is no device, or `clock: "device"` is asked of one without timestamps.
 * @throws {TraceError} If `work` is asynchronous.
 *
 * @example Which kernels does a function run?
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, jit, ones, profile, realize, softmax, type Tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const rows = realize(ones([64, 32]));
 * const f = jit((x: Tensor) => softmax(x));
 * const report = await profile(() => f(rows));
 * assertEquals(report.kernels.length, 1); // softmax is one kernel
 * assertEquals(report.kernels[0]!.share, 1);
 * ```
 */
export async function profile<R>(work: () => R, options: ProfileOptions = {}): Promise<Profile<R>> {
  const runtime = currentRuntime("profile");
  if (!isGpu(runtime)) throw noDevice();
  const hasTimestamps = runtime.device.features.has("timestamp-query");
  if (options.clock === "device" && !hasTimestamps) throw noTimestamps(runtime.adapter.name);
  const timer = new DispatchTimer(
    runtime.device,
    options.clock ?? (hasTimestamps && !runtime.adapter.software ? "device" : "host"),
  );
  const result = recorded(runtime, timer, () => {
    const made = expectNoPromise("profile", work());
    realize(flatten(made).leaves, "profile");
    return made;
  });
  const timed = await timer.finish();
  runtime.expectAlive();
  return profileOf(result, timed, timer.clock);
}

/** Runs with the timer installed and sites recorded. */
function recorded<R>(runtime: GpuRuntime, timer: DispatchTimer, run: () => R): R {
  const sites = setSiteRecording(true);
  const frames = Error.stackTraceLimit;
  const before = runtime.timer;
  Error.stackTraceLimit = STACK_FRAMES;
  runtime.timer = timer;
  try {
    return run();
  } finally {
    runtime.timer = before;
    Error.stackTraceLimit = frames;
    setSiteRecording(sites);
  }
}

function isGpu(runtime: object): runtime is GpuRuntime {
  return "pipelines" in runtime;
}

function noDevice(): AdapterError {
  return new AdapterError("device/not-initialized", {
    summary: "Cannot profile: tensors are computed on the host",
    fix: "await init() once at program start",
  });
}

function noTimestamps(adapter: string): AdapterError {
  return new AdapterError("device/no-timestamps", {
    summary: 'Cannot profile with clock "device": the adapter has no timestamp-query',
    facts: [["adapter", adapter]],
    fix: 'leave clock out, or use "host"',
  });
}

function profileOf<R>(result: R, timed: readonly TimedDispatch[], clock: ProfileClock): Profile<R> {
  const totalMs = timed.reduce((sum, { ms }) => sum + ms, 0);
  const kernels = timed.map(({ program, dispatch, origin, startMs, ms }): KernelTime => ({
    program,
    label: dispatch.label,
    ops: origin.ops,
    source: origin.sites[0] ?? "unknown",
    sources: origin.sites,
    startMs,
    ms,
    share: totalMs === 0 ? 0 : ms / totalMs,
    bytes: origin.bytes,
    flop: origin.flop,
    workgroups: dispatch.workgroups,
  }));
  return Object.freeze({
    result,
    kernels,
    totalMs,
    clock,
    toString: () => table(kernels, totalMs, clock),
    chromeTrace: () => chromeTrace(kernels),
  });
}

interface Row {
  readonly name: string;
  readonly source: string;
  ms: number;
  calls: number;
  bytes: number;
  flop: number;
}

const HEAD = ["ms", "share", "calls", "GB/s", "GFLOP/s", "kernel", "source"];
/** Columns before this one are numbers. */
const FIRST_TEXT = 5;

function table(kernels: readonly KernelTime[], totalMs: number, clock: ProfileClock): string {
  const rows = new Map<string, Row>();
  for (const { label, source, ms, bytes, flop } of kernels) {
    const key = `${label}|${source}`;
    const row = rows.get(key) ?? { name: label, source, ms: 0, calls: 0, bytes: 0, flop: 0 };
    row.ms += ms;
    row.calls++;
    row.bytes += bytes;
    row.flop += flop ?? 0;
    rows.set(key, row);
  }
  const rate = (amount: number, ms: number) => amount === 0 || ms === 0 ? "" : (amount / ms / 1e6).toFixed(1);
  const lines = [...rows.values()].sort((a, b) => b.ms - a.ms).map(({ name, source, ms, calls, bytes, flop }) => [
    ms.toFixed(3),
    totalMs === 0 ? "" : `${(100 * ms / totalMs).toFixed(1)} %`,
    String(calls),
    rate(bytes, ms),
    rate(flop, ms),
    name,
    source,
  ]);
  const widths = HEAD.map((title, column) => Math.max(title.length, ...lines.map((line) => line[column]!.length)));
  const print = (cells: readonly string[]) =>
    cells.map((cell, column) => column < FIRST_TEXT ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))
      .join("  ").trimEnd();
  return [
    `${kernels.length} kernels, ${totalMs.toFixed(3)} ms on the ${clock}'s clock`,
    print(HEAD),
    ...lines.map(print),
  ].join("\n");
}

const MICROSECONDS = 1000;

function chromeTrace(kernels: readonly KernelTime[]): string {
  const traceEvents = kernels.map(({ program, label, ops, sources, startMs, ms, bytes, flop, workgroups }) => ({
    name: label,
    cat: program,
    ph: "X",
    ts: startMs * MICROSECONDS,
    dur: ms * MICROSECONDS,
    pid: 1,
    tid: 1,
    args: { ops: ops.join(" "), sources: sources.join(" "), bytes, flop, workgroups: workgroups.join(" x ") },
  }));
  return JSON.stringify({ displayTimeUnit: "ms", traceEvents });
}
