/**
 * The runtime over a WebGPU device: compiles graphs, moves values between host and device, and tells what went wrong.
 *
 * @module
 */
import { CompileError, DeviceLostError, OutOfMemoryError, SwitchyardError } from "../core/errors.ts";
import { type Graph, graphKey } from "../core/graph.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import type { Executable, MemoryReport, Runtime } from "../core/runtime.ts";
import { formatAval } from "../core/shape.ts";
import type { FusionChoice } from "./anchors.ts";
import { packForDevice } from "./host_data.ts";
import { Pipelines } from "./pipelines.ts";
import { DEFAULT_BUDGET_BYTES, expectCreatable, formatBytes, type GpuStorage, Pool } from "./pool.ts";
import { compileProgram } from "./program.ts";
import { readStorages } from "./read.ts";
import { executableOf, type RunContext } from "./run.ts";
import type { SideCompiler } from "./side_compiler.ts";

/** Options of {@linkcode webGpuRuntime}. */
export interface RuntimeOptions {
  /** Bytes all tensors, idle buffers and scratch may take together, 4 GiB by default. */
  readonly budgetBytes?: number;
  /** What is fused, `"all"` by default. */
  readonly fusion?: FusionChoice;
}

/** How long a failed read waits for the device's loss to be announced. */
const LOSS_PATIENCE_MS = 100;
/** Programs kept for computations outside jit; each jitted function keeps its own. */
const EAGER_PROGRAMS_KEPT = 512;

/** A runtime over a WebGPU device. */
export interface GpuRuntime extends Runtime, RunContext {
  /** False once the device is lost or has reported an error: what it holds cannot be trusted. */
  readonly isAlive: boolean;
}

/** What WebGPU reported outside any error scope. */
function reported(error: GPUError, doing: string): SwitchyardError {
  const facts = [["message", error.message.split("\n").join("\n           ")], ["running", doing]] as const;
  const details = { message: error.message, running: doing };
  if (error instanceof GPUOutOfMemoryError) {
    const fix = "use a smaller batch, or init({ budgetBytes }) with what the device really has";
    return new OutOfMemoryError("memory/device", { summary: "The GPU is out of memory", facts, fix, details });
  }
  const summary = "WebGPU rejected a command: this is a bug of Switchyard";
  return new CompileError("compile/command", { summary, facts, fix: "report it with the message above", details });
}

function deviceLost({ reason, message }: GPUDeviceLostInfo, pool: Pool, doing: string): DeviceLostError {
  const { liveBytes } = pool.report();
  return new DeviceLostError("device/lost", {
    summary: `GPU device was lost: ${message || "the driver gave no message"}`,
    facts: [
      ["reason", reason],
      ["running", doing],
      ["tensors", `${pool.liveBuffers} tensors (${formatBytes(liveBytes)}) on this device are gone`],
    ],
    fix: "await init(), then restore parameters from your last checkpoint",
    details: { reason, running: doing, liveBytes },
  });
}

/**
 * The runtime over a device.
 *
 * @param side Compiles kernels beside the device, on software adapters.
 */
export function webGpuRuntime(
  device: GPUDevice,
  traits: AdapterTraits,
  options: RuntimeOptions = {},
  side: SideCompiler | null = null,
): GpuRuntime {
  const adapter: AdapterTraits = { bindingBytes: device.limits.maxStorageBufferBindingSize, ...traits };
  const pool = new Pool(device, options.budgetBytes ?? DEFAULT_BUDGET_BYTES);
  const pipelines = new Pipelines(device, side);
  // A driver that is still busy while the process tears its memory down can crash it after everything is done. Asking for
  // the end of submitted work blocks until the device is idle.
  globalThis.addEventListener("unload", () => {
    side?.close();
    device.queue.onSubmittedWorkDone().catch(() => {});
    device.destroy();
  });
  const programs = new Map<string, Executable>();
  let failure: Error | null = null;
  let lost: DeviceLostError | null = null;
  let doing = "nothing yet";
  const loss = device.lost.then((info) => {
    lost = deviceLost(info, pool, doing);
  });
  device.addEventListener("uncapturederror", (event) => {
    event.preventDefault();
    failure ??= reported((event as GPUUncapturedErrorEvent).error, doing);
  });

  const runtime: GpuRuntime = {
    device,
    pool,
    pipelines,
    timer: null,
    adapter,
    get isAlive() {
      return lost === null && failure === null;
    },
    fail(error) {
      // What a broken kernel leads to is reported too, and may have arrived first.
      if (failure === null || failure instanceof SwitchyardError && failure.code === "compile/command") failure = error;
    },
    begin(label) {
      runtime.expectAlive();
      doing = label;
    },
    expectAlive() {
      if (lost) throw lost;
      if (failure) throw failure;
    },
    compile(graph: Graph, label, { donated = [] } = {}) {
      // A graph whose nodes know their lines is compiled by itself: its program tells them to a profile.
      const sites = graph.nodes.some(({ site }) => site !== undefined) ? "sites|" : "";
      const key = `${sites}${label}|${donated.map(Number).join("")}|${graphKey(graph)}`;
      const known = programs.get(key);
      if (known) return known;
      const maxBuffers = device.limits.maxStorageBuffersPerShaderStage;
      const fusion = options.fusion ?? "all";
      const executable = executableOf(compileProgram(graph, { adapter, label, donated, maxBuffers, fusion }), runtime);
      if (programs.size >= EAGER_PROGRAMS_KEPT) programs.delete(programs.keys().next().value!);
      programs.set(key, executable);
      return executable;
    },
    upload(tensor, data) {
      runtime.expectAlive();
      const bytes = packForDevice(tensor.dtype, data);
      const size = Math.max(16, Math.ceil(bytes.byteLength / 16) * 16);
      expectCreatable(device, formatAval(tensor), size);
      const storage = pool.acquire(size, formatAval(tensor));
      if (bytes.byteLength > 0) device.queue.writeBuffer(storage.buffer, 0, bytes);
      return storage;
    },
    overwrite(storage, tensor, data) {
      runtime.expectAlive();
      const bytes = packForDevice(tensor.dtype, data);
      device.queue.writeBuffer((storage as GpuStorage).buffer, 0, bytes);
    },
    async read(requests) {
      runtime.expectAlive();
      const parts = requests.map(({ storage, tensor }) => ({ buffer: (storage as GpuStorage).buffer, tensor }));
      const found = await readStorages(device, parts).catch(async (error: unknown) => {
        // Mapping fails a moment before the loss is announced.
        await Promise.race([loss, new Promise((resolve) => setTimeout(resolve, LOSS_PATIENCE_MS))]);
        runtime.expectAlive();
        throw error;
      });
      runtime.expectAlive();
      if (pool.underPressure) await pool.collect();
      return found;
    },
    release: (storage) => pool.release(storage as GpuStorage),
    adopt: (tensor, storage) => pool.adopt(tensor, storage as GpuStorage),
    async settle() {
      await device.queue.onSubmittedWorkDone();
      await pool.collect();
      runtime.expectAlive();
    },
    memory: (): MemoryReport => pool.report(),
  };
  return runtime;
}
