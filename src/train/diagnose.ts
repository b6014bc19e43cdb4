/**
 * What this machine offers to the library, what is missing and how to get it.
 *
 * @module
 */
import { AdapterError, add, type DeviceInfo, init, SwitchyardError, tensor } from "../../mod.ts";
import { formatNumber } from "./html.ts";

/** What was found. */
export interface Diagnosis {
  /** Lines for people. */
  readonly lines: readonly string[];
  /** Whether models can be trained here. */
  readonly isUsable: boolean;
}

/** What a feature is good for, by name; one that is absent is told with it. */
const FEATURES: readonly (readonly [name: string, use: string])[] = [
  ["shader-f16", "half precision: f16 tensors; bf16 and f32 work without it"],
  ["timestamp-query", "exact times of kernels in benchmarks"],
];

const MEBIBYTE = 2 ** 20;

/**
 * Looks for an adapter, computes something on it and describes it.
 *
 * @param start Starts WebGPU; `init` by default.
 * @returns The findings. A missing adapter is one, not an error.
 */
export async function diagnose(start: () => Promise<DeviceInfo> = init): Promise<Diagnosis> {
  const runtime = `Runtime   Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`;
  let device: DeviceInfo;
  try {
    device = await start();
  } catch (error) {
    if (!(error instanceof AdapterError)) throw error;
    return { lines: [runtime, "Adapter   none", "", error.message], isUsable: false };
  }
  const failure = await tryComputing();
  const missing = FEATURES.filter(([name]) => !device.features.includes(name));
  const limits = Object.entries(device.limits);
  const width = Math.max(...limits.map(([name]) => name.length));
  return {
    lines: [
      runtime,
      `Adapter   ${device.adapter}${device.software ? ", a software adapter: it computes on the CPU" : ""}`,
      `Computes  ${failure ?? "yes"}`,
      `Features  ${device.features.length === 0 ? "none of those that are of use" : device.features.join(", ")}`,
      `Kernels   ${describeKernels(device)}`,
      "Limits",
      ...limits.map(([name, value]) => `  ${name.padEnd(width)}  ${formatLimit(name, value)}`),
      "",
      ...(failure === undefined ? describeMissing(device, missing) : ["Fix: update the driver of this adapter"]),
    ],
    isUsable: failure === undefined,
  };
}

function describeKernels({ calibration }: DeviceInfo): string {
  if (calibration === null) return "built-in choices; `deno task bench --calibrate` measures which are faster here";
  return `as calibrated on ${calibration.date.slice(0, 10)}: ${calibration.path}`;
}

function describeMissing(device: DeviceInfo, missing: typeof FEATURES): readonly string[] {
  const lines = missing.map(([name, use]) => `Missing   ${name} (${use})`);
  if (device.software) {
    lines.unshift(
      "Missing   a GPU: everything works, slowly. On a machine with one, install its vendor's Vulkan driver",
    );
  }
  return lines.length === 0 ? ["Nothing is missing."] : lines;
}

/** Why a first computation failed, or undefined. */
async function tryComputing(): Promise<string | undefined> {
  try {
    const [first, second] = await add(tensor([1, 2]), tensor([10, 20])).data();
    return first === 11 && second === 22 ? undefined : `wrongly: 1 + 10 gave ${first}`;
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    return `no: ${error.message.split("\n")[0]}`;
  }
}

function formatLimit(name: string, value: number): string {
  const isBytes = /Size$/.test(name) && value >= MEBIBYTE;
  return isBytes ? `${formatNumber(value / MEBIBYTE)} MiB` : formatNumber(value);
}
