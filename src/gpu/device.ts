/**
 * Starting WebGPU: finds an adapter, asks for its own limits and installs the runtime.
 *
 * @module
 */
import {
  AdapterError,
  CompileError,
  DeviceLostError,
  expectNoProblems,
  notice,
  type OptionProblem,
  OutOfMemoryError,
  SwitchyardError,
} from "../core/errors.ts";
import { type DType, hostArrayFor, type HostData, isFloat, toBf16Bits } from "../core/dtype.ts";
import { type Graph, graphKey } from "../core/graph.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import { formatAval } from "../core/shape.ts";
import {
  currentRuntime,
  type Executable,
  hasRuntime,
  installRuntime,
  type MemoryReport,
  type Runtime,
} from "../core/runtime.ts";
import { nearestName } from "../core/suggest.ts";
import type { FusionChoice } from "./anchors.ts";
import { DEFAULT_BUDGET_BYTES, expectCreatable, formatBytes, type GpuStorage, Pool } from "./pool.ts";
import { compileProgram } from "./program.ts";
import { readStorages } from "./read.ts";
import { Pipelines } from "./pipelines.ts";
import { executableOf, type RunContext } from "./run.ts";
import { SideCompiler } from "./side_compiler.ts";
import { readTuning, tuningPath } from "./tuning_file.ts";
import { tuningFolder, type TuningKey, tuningKey } from "./tuning_key.ts";

/** Options of {@linkcode init}. */
export interface InitOptions {
  /** Which adapter to prefer where there are several. */
  readonly powerPreference?: GPUPowerPreference;
  /** Bytes all tensors, idle buffers and scratch may take together, 4 GiB by default. */
  readonly budgetBytes?: number;
  /**
   * Bytes that one binding may show of a buffer, from 4096 to the adapter's `maxStorageBufferBindingSize`, the default.
   * Larger tensors are bound in windows of this size, so there is hardly a reason to set it but to test that.
   */
  readonly bindingLimitBytes?: number;
  /** `"none"` stores every value and fuses nothing: slow, for finding a compiler mistake. */
  readonly fusion?: "all" | "none";
  /**
   * Choices of kernels that `calibrate()` measured: `true`, the default, takes them from the user's cache folder, or from
   * where the variable SWITCHYARD_CALIBRATION says; a text is another folder; `false` uses the built-in choices. A file is
   * read only if that is permitted already, and ignored if it is broken or for another adapter, driver or version.
   */
  readonly calibration?: boolean | string;
}

/** Where choices of kernels came from. */
export interface CalibrationSource {
  /** When they were measured, in ISO 8601. */
  readonly date: string;
  /** The file they were read from. */
  readonly path: string;
}

/** What was found. */
export interface DeviceInfo {
  /** Adapter name as the driver reports it. */
  readonly adapter: string;
  /** Whether the driver computes on the CPU. */
  readonly software: boolean;
  /** Enabled features. */
  readonly features: readonly string[];
  /** Limits that matter for kernels. */
  readonly limits: Readonly<Record<string, number>>;
  /** Where choices of kernels came from; null if the built-in ones are in use. */
  readonly calibration: CalibrationSource | null;
}

const USEFUL_FEATURES: readonly GPUFeatureName[] = ["shader-f16", "timestamp-query"];
const RAISED_LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxTextureDimension2D",
] as const;
/** Smallest of `init({ bindingLimitBytes })`: less would only multiply the windows. */
const LEAST_BINDING_BYTES = 4096;
const SOFTWARE_NAMES = /llvmpipe|lavapipe|swiftshader|software/i;

/** A device with what it was started from. */
export interface Started {
  /** What was found. */
  readonly info: DeviceInfo;
  /** What measured choices of kernels hold for. */
  readonly key: TuningKey;
  /** As given. */
  readonly options: InitOptions;
  /** Where tensors live. */
  readonly runtime: GpuRuntime;
}

/** What `init` started last. */
let current: Started | null = null;

const OPTION_CHECKS: Readonly<
  Record<keyof InitOptions, { readonly must: string; readonly holds: (value: unknown) => boolean }>
> = {
  powerPreference: {
    must: 'must be "high-performance" or "low-power"',
    holds: (value) => value === "high-performance" || value === "low-power",
  },
  budgetBytes: {
    must: "must be a positive number of bytes",
    holds: (value) => typeof value === "number" && value > 0,
  },
  bindingLimitBytes: {
    must: `must be a whole number of bytes from ${LEAST_BINDING_BYTES}`,
    holds: (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= LEAST_BINDING_BYTES,
  },
  fusion: { must: 'must be "all" or "none"', holds: (value) => value === "all" || value === "none" },
  calibration: {
    must: "must be true, false or a folder",
    holds: (value) => typeof value === "boolean" || typeof value === "string" && value !== "",
  },
};

function expectInitOptions(options: InitOptions): void {
  const problems = Object.entries(options).flatMap(([name, value]): OptionProblem[] => {
    const check = Object.hasOwn(OPTION_CHECKS, name) ? OPTION_CHECKS[name as keyof InitOptions] : undefined;
    if (check !== undefined) return value === undefined || check.holds(value) ? [] : [[name, value, check.must]];
    const near = nearestName(name, Object.keys(OPTION_CHECKS));
    return [[name, value, `unknown option${near === undefined ? "" : `; did you mean ${near}?`}`]];
  });
  expectNoProblems("a device", problems);
}

/** Bytes that a binding may show, which an option may lower. */
function expectBindingLimit({ bindingLimitBytes }: InitOptions, most: number): number {
  if (bindingLimitBytes === undefined) return most;
  const isOver = bindingLimitBytes > most;
  expectNoProblems("a device", isOver ? [["bindingLimitBytes", bindingLimitBytes, `must be at most ${most}`]] : []);
  return bindingLimitBytes;
}

function noAdapter(options: InitOptions): AdapterError {
  return new AdapterError("device/no-adapter", {
    summary: "Cannot start WebGPU: no adapter was found",
    facts: [
      ["runtime", `Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`],
      ["requested", `powerPreference "${options.powerPreference ?? "high-performance"}"`],
    ],
    fix:
      "install a Vulkan driver; for tests without a GPU a software driver works (Debian package mesa-vulkan-drivers)",
  });
}

/**
 * Starts WebGPU. Call it once at program start; later calls with the same options return at once, unless the device
 * was lost or reported an error: then they start a new one, and tensors on the old one are gone.
 *
 * @returns What was found.
 * @throws {AdapterError} If there is no adapter.
 * @throws {ConfigError} If an option is out of range.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { init } from "@switchyard/switchyard";
 *
 * const device = await init();
 * assert(device.limits.maxStorageBufferBindingSize! >= 128 * 2 ** 20);
 * ```
 */
export async function init(options: InitOptions = {}): Promise<DeviceInfo> {
  expectInitOptions(options);
  if (current?.runtime.isAlive && hasRuntime() && sameOptions(current.options, options)) return current.info;
  const adapter = await findAdapter(options);
  if (!adapter) throw noAdapter(options);
  const bindingBytes = expectBindingLimit(options, adapter.limits.maxStorageBufferBindingSize);
  const requiredFeatures = USEFUL_FEATURES.filter((feature) => adapter.features.has(feature));
  const requiredLimits = Object.fromEntries(RAISED_LIMITS.map((name) => [name, adapter.limits[name]]));
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const name = adapter.info.description || adapter.info.device || adapter.info.vendor || "unknown adapter";
  const software = SOFTWARE_NAMES.test(name);
  const key = tuningKey(name, adapter.info);
  const folder = tuningFolder(options.calibration);
  const stored = folder === null ? null : readTuning(folder, key);
  if (software) notice(`using the software adapter "${name}": results are right, but a GPU is much faster`);
  const info: DeviceInfo = {
    adapter: name,
    software,
    features: requiredFeatures,
    limits: Object.fromEntries(RAISED_LIMITS.map((limit) => [limit, device.limits[limit]])),
    calibration: stored && { date: stored.date, path: tuningPath(folder!, key) },
  };
  const traits: AdapterTraits = {
    name,
    software,
    f16: requiredFeatures.includes("shader-f16"),
    workgroupBytes: device.limits.maxComputeWorkgroupStorageSize,
    workgroupInvocations: device.limits.maxComputeInvocationsPerWorkgroup,
    storageBuffers: device.limits.maxStorageBuffersPerShaderStage,
    bindingBytes,
    textureSide: canReadTextures() ? device.limits.maxTextureDimension2D : 0,
    ...(stored && { tuning: stored.tuning }),
  };
  const side = software && navigator.hardwareConcurrency > 1
    ? new SideCompiler(await openAnother(options, { requiredFeatures, requiredLimits }))
    : null;
  const runtime = webGpuRuntime(device, traits, options, side);
  installRuntime(runtime);
  current = { info, key, options, runtime };
  return info;
}

/** Whether kernels may read the textures that other kernels write. */
function canReadTextures(): boolean {
  // Deno's types do not have it yet.
  const { wgslLanguageFeatures } = navigator.gpu as GPU & { readonly wgslLanguageFeatures?: ReadonlySet<string> };
  return wgslLanguageFeatures?.has("readonly_and_readwrite_storage_textures") ?? false;
}

/** Another device like the first one. An adapter may be asked for one only. */
async function openAnother(options: InitOptions, descriptor: GPUDeviceDescriptor): Promise<GPUDevice> {
  const adapter = await findAdapter(options);
  if (!adapter) throw noAdapter(options);
  return await adapter.requestDevice(descriptor);
}

async function findAdapter({ powerPreference = "high-performance" }: InitOptions): Promise<GPUAdapter | null> {
  return await navigator.gpu?.requestAdapter({ powerPreference }) ?? null;
}

/** What `init` started last, if it is what computes now. */
export function startedDevice(): Started | null {
  return current !== null && hasRuntime() && currentRuntime("look at the device") === current.runtime ? current : null;
}

function sameOptions(a: InitOptions, b: InitOptions): boolean {
  const names = Object.keys(OPTION_CHECKS) as (keyof InitOptions)[];
  return names.every((name) => a[name] === b[name]);
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
  options: Omit<InitOptions, "fusion"> & { readonly fusion?: FusionChoice } = {},
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

/** Host values as the bytes a kernel reads, padded to whole words. */
function packForDevice(dtype: DType, data: HostData): ArrayBufferView<ArrayBuffer> {
  switch (dtype) {
    case "f16": {
      const padded = new Float16Array(Math.ceil(data.length / 2) * 2);
      padded.set(data);
      return padded;
    }
    case "bf16": {
      const padded = new Uint16Array(Math.ceil(data.length / 2) * 2);
      for (let i = 0; i < data.length; i++) padded[i] = toBf16Bits(data[i]!);
      return padded;
    }
    case "bool":
      return Uint32Array.from(data);
    default: {
      const target = hostArrayFor(dtype, 0);
      if (data.constructor === target.constructor) return data as ArrayBufferView<ArrayBuffer>;
      const converted = hostArrayFor(dtype, data.length);
      converted.set(data);
      return converted as ArrayBufferView<ArrayBuffer>;
    }
  }
}

/** Host values of what a kernel wrote. */
export function unpackFromDevice(dtype: DType, size: number, bytes: ArrayBuffer): HostData {
  switch (dtype) {
    case "f16":
      return Float32Array.from(new Float16Array(bytes, 0, size));
    case "bf16": {
      const words = new Uint16Array(bytes, 0, size);
      const bits = Uint32Array.from(words, (word) => word << 16);
      return new Float32Array(bits.buffer);
    }
    case "bool":
      return Uint8Array.from(new Uint32Array(bytes, 0, size));
    default:
      return isFloat(dtype)
        ? new Float32Array(bytes, 0, size).slice()
        : dtype === "i32"
        ? new Int32Array(bytes, 0, size).slice()
        : new Uint32Array(bytes, 0, size).slice();
  }
}

/** Memory counters of the installed runtime. */
export function memory(): MemoryReport {
  return currentRuntime("report memory").memory();
}

/** Waits until all submitted work is done, and lets dropped tensors be collected. */
export function settle(): Promise<void> {
  return currentRuntime("settle").settle();
}
