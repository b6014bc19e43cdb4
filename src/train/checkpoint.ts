/**
 * Checkpoints that survive a kill at any moment. A checkpoint is a folder of files under `checkpoints/`, written beside
 * its final name and renamed as a whole, so it is either complete or absent; the newest whole one is the state to resume.
 *
 * ```
 * run/checkpoints/step-00000120/manifest.json       step, and size and digest of every file
 *                               model.safetensors   whatever the caller passed
 * run/model.safetensors                             the newest one again, for other programs (a hard link)
 * ```
 * A resume reads only from `checkpoints/`, so the links may come from two different steps without harm.
 *
 * @module
 */
import { z } from "zod";
import { CheckpointError, notice } from "../../mod.ts";
import { readFailure } from "./read_failure.ts";
import { syncDirectory, writeDurably, writeWhole } from "./durable.ts";

/** The state of a run at one step. */
export interface Checkpoint {
  /** Training steps done. */
  readonly step: number;
  /** The files' bytes by name. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** A checkpoint as read, and where it was found. */
export interface StoredCheckpoint extends Checkpoint {
  /** Its folder. */
  readonly path: string;
}

const FOLDER = "checkpoints";
const MANIFEST = "manifest.json";
const UNFINISHED = ".unfinished-";
const KEPT = 2;

const manifestSchema = z.object({
  format: z.literal(1),
  step: z.number().int().nonnegative(),
  files: z.record(z.string(), z.object({ bytes: z.number().int().nonnegative(), sha256: z.string() })),
});

/**
 * Writes a checkpoint and returns once it is on the disk. The last two are kept. Later steps than this one, left by a
 * run that was resumed from further back, are removed, and so is what killed writers left behind.
 *
 * Files named `*.safetensors` are linked into the run's folder as well.
 *
 * @param directory The run's folder; made where it is missing. One process at a time may write to it.
 * @param checkpoint The step and the files; names are plain file names.
 * @returns The checkpoint's folder.
 * @throws {CheckpointError} If a name is not a plain file name.
 */
export async function writeCheckpoint(directory: string, { step, files }: Checkpoint): Promise<string> {
  for (const name of files.keys()) expectFileName(name);
  const parent = `${directory}/${FOLDER}`;
  await Deno.mkdir(parent, { recursive: true });
  await removeUnfinished(parent);

  const existing = await listFolders(parent);
  const repeats = existing.filter((folder) => folder.step === step);
  const attempt = repeats.length === 0 ? 0 : Math.max(...repeats.map((folder) => folder.attempt)) + 1;
  const name = folderName(step, attempt);
  const beside = `${parent}/${UNFINISHED}${name}`;
  await Deno.mkdir(beside);
  const described: Record<string, { bytes: number; sha256: string }> = {};
  for (const [file, bytes] of files) {
    await writeDurably(`${beside}/${file}`, bytes);
    described[file] = { bytes: bytes.length, sha256: await digest(bytes) };
  }
  const manifest = { format: 1, step, files: described };
  await writeDurably(`${beside}/${MANIFEST}`, new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`));
  await syncDirectory(beside);
  // The moment of truth: before it the previous checkpoint is the newest, after it this one is.
  await Deno.rename(beside, `${parent}/${name}`);
  await syncDirectory(parent);

  for (const file of files.keys()) {
    if (file.endsWith(".safetensors")) await linkOver(`${parent}/${name}/${file}`, `${directory}/${file}`);
  }
  const superseded = existing.filter((folder) => folder.step >= step);
  const older = existing.filter((folder) => folder.step < step).slice(KEPT - 1);
  for (const folder of [...superseded, ...older]) await removeFolder(parent, folder.name);
  return `${parent}/${name}`;
}

/**
 * Reads the newest checkpoint that is whole. Damaged ones are passed over with a notice.
 *
 * @param directory The run's folder.
 * @returns The step, the files' bytes and the folder they came from.
 * @throws {CheckpointError} If there is no checkpoint, or none is whole.
 */
export async function readCheckpoint(directory: string): Promise<StoredCheckpoint> {
  const parent = `${directory}/${FOLDER}`;
  const damaged: (readonly [name: string, reason: string])[] = [];
  for (const { name } of await listFolders(parent)) {
    const read = await readFolder(`${parent}/${name}`);
    if (typeof read === "string") {
      damaged.push([name, read]);
      continue;
    }
    for (const [folder, reason] of damaged) {
      notice(`checkpoint ${parent}/${folder} is damaged (${reason}); using step ${read.step} instead`);
    }
    return { ...read, path: `${parent}/${name}` };
  }
  const count = damaged.length;
  throw new CheckpointError(count === 0 ? "checkpoint/missing" : "checkpoint/damaged", {
    summary: count === 0
      ? `Cannot use ${directory} as a run: it has no checkpoint`
      : `Cannot use ${directory} as a run: ${
        count === 1 ? "its one checkpoint is" : `all ${count} checkpoints are`
      } damaged`,
    facts: count === 0 ? [["looked in", parent]] : damaged,
    fix: count === 0
      ? "pass the folder that an earlier run wrote with --out, after its first checkpoint"
      : "restore the folder from a copy, or start a new run",
    details: { directory, damaged },
  });
}

/**
 * Says whether a run's folder has checkpoints, whole or not.
 *
 * @param directory The run's folder; it need not exist.
 * @returns True if there is at least one.
 */
export async function hasCheckpoints(directory: string): Promise<boolean> {
  return (await listFolders(`${directory}/${FOLDER}`)).length > 0;
}

interface Folder {
  readonly name: string;
  readonly step: number;
  /** Counts checkpoints of the same step, so that a second one never has to replace the first in place. */
  readonly attempt: number;
}

/** The checkpoint folders, newest first. */
async function listFolders(parent: string): Promise<readonly Folder[]> {
  const folders: Folder[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(parent)) {
      const match = /^step-(\d+)(?:\.(\d+))?$/.exec(name);
      if (match && isDirectory) folders.push({ name, step: Number(match[1]), attempt: Number(match[2] ?? 0) });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
  }
  return folders.sort((a, b) => b.step - a.step || b.attempt - a.attempt);
}

function folderName(step: number, attempt: number): string {
  return `step-${String(step).padStart(8, "0")}${attempt === 0 ? "" : `.${attempt}`}`;
}

/** The checkpoint in a folder, or why it is none. */
async function readFolder(path: string): Promise<Checkpoint | string> {
  let text: string;
  try {
    text = await Deno.readTextFile(`${path}/${MANIFEST}`);
  } catch (error) {
    return `${MANIFEST}: ${readFailure(error)}`;
  }
  const manifest = manifestSchema.safeParse(parseJson(text));
  if (!manifest.success) return `${MANIFEST} is not a manifest`;
  const files = new Map<string, Uint8Array>();
  for (const [name, { bytes: size, sha256 }] of Object.entries(manifest.data.files)) {
    if (!isFileName(name)) return `${MANIFEST} is not a manifest`;
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = await Deno.readFile(`${path}/${name}`);
    } catch (error) {
      return `${name}: ${readFailure(error)}`;
    }
    if (bytes.length !== size) return `${name} has ${bytes.length} bytes, ${size} were written`;
    if (await digest(bytes) !== sha256) return `${name} differs from what was written`;
    files.set(name, bytes);
  }
  return { step: manifest.data.step, files };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Removes a checkpoint by a rename first, so that a kill in between leaves nothing that looks like a checkpoint. */
async function removeFolder(parent: string, name: string): Promise<void> {
  const doomed = `${parent}/${UNFINISHED}removed-${name}`;
  await Deno.rename(`${parent}/${name}`, doomed);
  await Deno.remove(doomed, { recursive: true });
}

async function removeUnfinished(parent: string): Promise<void> {
  for await (const { name } of Deno.readDir(parent)) {
    if (name.startsWith(UNFINISHED)) await Deno.remove(`${parent}/${name}`, { recursive: true });
  }
}

/** Points a name at another file's content in one step; where the file system has no hard links, through a copy. */
async function linkOver(from: string, to: string): Promise<void> {
  const beside = `${to}.new`;
  await Deno.remove(beside).catch(() => {});
  try {
    await Deno.link(from, beside);
  } catch {
    await writeWhole(to, await Deno.readFile(from));
    return;
  }
  await Deno.rename(beside, to);
}

async function digest(bytes: Uint8Array): Promise<string> {
  // A view of a SharedArrayBuffer would not do; checkpoint bytes never are one.
  const hash = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return new Uint8Array(hash).toHex();
}

function isFileName(name: string): boolean {
  return /^[\w][\w.-]*$/.test(name) && name !== MANIFEST;
}

function expectFileName(name: string): void {
  if (isFileName(name)) return;
  throw new CheckpointError("checkpoint/file-name", {
    summary: `Cannot write a checkpoint: ${JSON.stringify(name)} is not a plain file name`,
    details: { name },
  });
}
