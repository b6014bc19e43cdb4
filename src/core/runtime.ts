/**
 * What the core asks of a machine that can compute: `src/gpu` implements it with WebGPU, `oracle_runtime.ts` in float64.
 *
 * @module
 */
import type { HostData } from "./dtype.ts";
import { AdapterError } from "./errors.ts";
import type { Graph } from "./graph.ts";
import type { AdapterTraits } from "./kernel.ts";
import type { Tensor } from "./tensor.ts";

/** Device memory behind one tensor. Only the runtime that made it looks inside. */
export interface Storage {
  /** Bytes allocated. */
  readonly bytes: number;
}

/** Bytes that a compiled function needs, known before it runs. */
export interface MemoryPlan {
  /** Its arguments, and the tensors it captured. */
  readonly argumentBytes: number;
  /** Results that need a buffer of their own, because they take over no donated argument. */
  readonly resultBytes: number;
  /** Temporary buffers, all of them at once. They are shared with other functions. */
  readonly scratchBytes: number;
  /** The sum: all that is on the device while it runs, but for what it has nothing to do with. */
  readonly peakBytes: number;
}

/** A compiled graph. */
export interface Executable {
  /** What it needs. */
  readonly memory: MemoryPlan;
  /**
   * Runs on realized inputs and returns the outputs' storages.
   *
   * @param inputs Storages in the graph's input order, constants after them.
   * @param donated Inputs whose storage the outputs may take over; the caller marks those tensors donated.
   */
  run(inputs: readonly Storage[], donated: readonly boolean[]): readonly Storage[];
  /** The kernels, slots and order, printable. */
  toString(): string;
}

/** Counters of the runtime's memory. */
export interface MemoryReport {
  /** Bytes of buffers that tensors own. */
  readonly liveBytes: number;
  /** Bytes of idle buffers kept for reuse. */
  readonly pooledBytes: number;
  /** Bytes of scratch slots shared by all programs. */
  readonly scratchBytes: number;
  /** Buffers created since start; constant in a steady state. */
  readonly allocations: number;
  /** The byte budget. */
  readonly budgetBytes: number;
}

/** A machine that realizes tensors. */
export interface Runtime {
  /** The adapter kernels are built for. */
  readonly adapter: AdapterTraits;
  /** Compiles a graph, or finds it compiled. `label` names it in errors and profiles. */
  compile(graph: Graph, label: string, options?: { readonly donated?: readonly boolean[] }): Executable;
  /** Moves host data into a storage. */
  upload(tensor: Tensor, data: HostData): Storage;
  /** Overwrites a storage with new host data of the same size, for inputs that change every step. */
  overwrite(storage: Storage, tensor: Tensor, data: HostData): void;
  /** Copies storages to the host in one staging read. */
  read(requests: readonly { readonly storage: Storage; readonly tensor: Tensor }[]): Promise<readonly HostData[]>;
  /** Takes a storage back. */
  release(storage: Storage): void;
  /** Registers that a storage dies with a tensor that is never disposed. */
  adopt(tensor: Tensor, storage: Storage): void;
  /** Waits until submitted work is done, and lets finalizers run. */
  settle(): Promise<void>;
  /** Memory counters. */
  memory(): MemoryReport;
}

let installed: Runtime | null = null;

/** Installs the runtime every tensor uses from now on, and returns the previous one. */
export function installRuntime(runtime: Runtime | null): Runtime | null {
  const previous = installed;
  installed = runtime;
  return previous;
}

/**
 * The installed runtime.
 *
 * @param wanted What the caller was about to do, for the message.
 * @throws {AdapterError} If `init()` has not run.
 */
export function currentRuntime(wanted: string): Runtime {
  if (installed === null) {
    throw new AdapterError("device/not-initialized", {
      summary: `Cannot ${wanted}: no device yet`,
      fix: "await init() once at program start",
    });
  }
  return installed;
}

/** Whether a runtime is installed. */
export function hasRuntime(): boolean {
  return installed !== null;
}
