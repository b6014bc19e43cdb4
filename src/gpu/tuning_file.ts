/**
 * Files of measured choices: read at start without ever asking or failing, written whole or not at all.
 *
 * A file is checked by hand, because it is read whenever a program starts and loading a schema library takes longer than
 * that.
 *
 * @module
 */
import type { ExpertKernelName, KernelTuning, SharedTileName, TileChoice } from "../core/kernel.ts";
import { tuningFileName, type TuningKey } from "./tuning_key.ts";

/** Choices as they were measured and stored. */
export interface StoredTuning {
  /** When they were measured, in ISO 8601. */
  readonly date: string;
  /** The choices that differ from the built-in ones. */
  readonly tuning: KernelTuning;
}

/** A threshold that no product reaches: infinity, which JSON does not have. */
export const NEVER: number = Number.MAX_SAFE_INTEGER;

type Check = (value: unknown) => boolean;

function isOneOf(...values: readonly unknown[]): Check {
  return (value) => values.includes(value);
}

/** An object with no keys but these, each of which holds if present. */
function isRecord(checks: Readonly<Record<string, Check>>): Check {
  return (value) =>
    typeof value === "object" && value !== null && !Array.isArray(value) &&
    Object.entries(value).every(([name, part]) => Object.hasOwn(checks, name) && checks[name]!(part));
}

function isThreshold(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

const TILE_PARTS = { rows: isOneOf(4, 8, 16), columns: isOneOf(1, 2, 4), lanesN: isOneOf(1, 2, 4, 8) };

function isTile(value: unknown): boolean {
  return isRecord(TILE_PARTS)(value) && Object.keys(value as TileChoice).length === 3;
}

function ofClasses(check: Check): Check {
  return isRecord({ small: check, medium: check, large: check });
}

/** What each choice may be: kernels are known to be right for these, so that no file can break a program. */
const CHOICES: Readonly<Record<keyof KernelTuning, Check>> = {
  textureWork: isThreshold,
  expertTextureWork: isThreshold,
  expertWideWork: isThreshold,
  rowTextureElements: isThreshold,
  textureTiles: ofClasses(isTile),
  bufferTiles: isRecord({ plain: isTile, transposed: isTile }),
  expertKernel: isOneOf(...["hidden-resident", "output-resident", "pair"] satisfies ExpertKernelName[]),
  sharedTiles: ofClasses(isOneOf(...["32x64", "64x64", "64x128", "128x128"] satisfies SharedTileName[])),
};

/** Text of a file. */
export function formatTuning(key: TuningKey, { date, tuning }: StoredTuning): string {
  return `${JSON.stringify({ key, date, tuning }, null, 2)}\n`;
}

/** Reads a file's text; null if it is broken, for something else, or holds what this version does not know. */
export function parseTuning(text: string, key: TuningKey): StoredTuning | null {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    return null;
  }
  const isText: Check = (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value);
  const isKey = isRecord(
    Object.fromEntries(Object.entries(key).map(([name, value]) => [name, (part: unknown) => part === value])),
  );
  if (!isRecord({ key: isKey, date: isText, tuning: isRecord(CHOICES) })(found)) return null;
  const { key: own, date, tuning } = found as Partial<StoredTuning & { readonly key: TuningKey }>;
  if (own === undefined || Object.keys(own).length !== Object.keys(key).length) return null;
  return date === undefined || tuning === undefined ? null : { date, tuning };
}

/** Path of the file that belongs to a key. */
export function tuningPath(folder: string, key: TuningKey): string {
  return `${folder.replace(/[/\\]$/, "")}/${tuningFileName(key)}`;
}

/** Reads the choices for a key, if that was allowed beforehand and there are any that can be used. */
export function readTuning(folder: string, key: TuningKey): StoredTuning | null {
  const path = tuningPath(folder, key);
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return null;
  try {
    return parseTuning(Deno.readTextFileSync(path), key);
  } catch {
    // Most often there is no file; whatever else is wrong, the built-in choices do.
    return null;
  }
}

/**
 * Writes choices for a key: a reader finds the old file or the new one, never a part.
 *
 * @returns The path.
 */
export async function writeTuning(folder: string, key: TuningKey, stored: StoredTuning): Promise<string> {
  await Deno.mkdir(folder, { recursive: true });
  const path = tuningPath(folder, key);
  const temporary = `${path}.${Deno.pid}.tmp`;
  try {
    await Deno.writeTextFile(temporary, formatTuning(key, stored));
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
  return path;
}
