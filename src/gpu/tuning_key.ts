/**
 * Where measured choices of kernels are kept, and what they hold for: an adapter, its driver and this version.
 *
 * @module
 */
import manifest from "../../deno.json" with { type: "json" };

/** What choices hold for. Anything else may run another kernel faster. */
export interface TuningKey {
  /** Number of the file format. */
  readonly format: number;
  /** Adapter name as the driver reports it; software drivers put their version and vector width here. */
  readonly adapter: string;
  /** Everything else that WebGPU says about adapter and driver. */
  readonly driver: string;
  /** Processors: a software adapter computes on them. */
  readonly processors: number;
  /** Operating system and architecture. */
  readonly platform: string;
  /** Deno, which brings the compiler from WGSL. */
  readonly runtime: string;
  /** This library. */
  readonly library: string;
}

/** Raised when a file means something else than before. */
const FORMAT = 1;

/** The key of an adapter in this process. */
export function tuningKey(
  adapter: string,
  { vendor, architecture, device, description }: GPUAdapterInfo,
): TuningKey {
  return {
    format: FORMAT,
    adapter,
    driver: [vendor, architecture, device, description].join(" | "),
    processors: navigator.hardwareConcurrency,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    runtime: `Deno ${Deno.version.deno}`,
    library: manifest.version,
  };
}

/** Name of the file that belongs to a key: the adapter for people, a hash of everything for the rest. */
export function tuningFileName(key: TuningKey): string {
  const readable = key.adapter.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "").slice(0, 48);
  return `${readable || "adapter"}-${hashOf(JSON.stringify(key))}.json`;
}

/** 32-bit FNV-1a, in hexadecimal. Collisions do no harm: a file holds its key. */
function hashOf(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, "0");
}

/** Variable that names the folder, or says `off`. */
export const TUNING_VARIABLE = "SWITCHYARD_CALIBRATION";

/** Reads a variable of the environment, and null where it is not set or must not be read. */
export type ReadVariable = (name: string) => string | null;

/** Reads a variable if that was allowed beforehand: nobody is asked. */
export function readAllowedVariable(variable: string): string | null {
  if (Deno.permissions.querySync({ name: "env", variable }).state !== "granted") return null;
  return Deno.env.get(variable) || null;
}

/**
 * Decides which folder files of choices are in.
 *
 * @param wanted What the user said: a folder, whether choices are to be used at all, or nothing.
 * @param variable How the environment is read; without asking by default.
 * @param os Operating system; this one by default.
 * @returns The folder, or null where choices are turned off or nothing says where a user's caches are.
 */
export function tuningFolder(
  wanted: string | boolean | undefined,
  variable: ReadVariable = readAllowedVariable,
  os: string = Deno.build.os,
): string | null {
  if (wanted === false) return null;
  if (typeof wanted === "string") return wanted;
  const said = variable(TUNING_VARIABLE);
  if (said !== null) return said === "off" ? null : said;
  const caches = userCaches(variable, os);
  return caches && `${caches}/switchyard`;
}

function userCaches(variable: ReadVariable, os: string): string | null {
  if (os === "windows") return variable("LOCALAPPDATA");
  const home = variable("HOME");
  if (os === "darwin") return home && `${home}/Library/Caches`;
  return variable("XDG_CACHE_HOME") ?? (home && `${home}/.cache`);
}
