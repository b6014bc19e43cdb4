/**
 * Starting WebGPU: finds an adapter, asks for its own limits and installs the runtime.
 *
 * @module
 */
import { AdapterError, expectNoProblems, notice, type OptionProblem } from "../core/errors.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import { currentRuntime, hasRuntime, installRuntime, type MemoryReport } from "../core/runtime.ts";
import { nearestName } from "../core/suggest.ts";
import { type GpuRuntime, webGpuRuntime } from "./device_runtime.ts";
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

/** Memory counters of the installed runtime. */
export function memory(): MemoryReport {
  return currentRuntime("report memory").memory();
}

/** Waits until all submitted work is done, and lets dropped tensors be collected. */
export function settle(): Promise<void> {
  return currentRuntime("settle").settle();
}
