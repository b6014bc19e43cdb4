/**
 * The folder of a run: choosing one, refusing to write over another run, and bringing a resumed run into it.
 *
 * @module
 */
import { ConfigError } from "../../mod.ts";
import type { TrainConfig } from "./config.ts";
import { CONFIG_FILE, formatSavedConfig } from "./config_file.ts";
import { writeWhole } from "./durable.ts";
import { METRICS_FILE } from "./metrics.ts";

/**
 * Names a folder for a run that was given none, after the time and the router.
 *
 * @param router The run's router.
 * @param now The time.
 * @returns A path below `runs`.
 */
export function nameFolder(router: string, now: Date): string {
  const digits = now.toISOString().replaceAll(/[-:]/g, "").replace("T", "-").slice(0, 15);
  return `runs/${digits}-${router}`;
}

/**
 * Makes the folder of a run. A new run's folder must not hold another run. What a run measured before is copied where it
 * is resumed into another folder.
 *
 * @param out The folder.
 * @param resume The folder of the run that is resumed, or null for a new one.
 * @throws {ConfigError} If the folder holds a run already.
 */
export async function openFolder(out: string, resume: string | null): Promise<void> {
  if (resume !== null && await isSame(out, resume)) return;
  if (await exists(`${out}/${CONFIG_FILE}`)) {
    throw new ConfigError("config/out", {
      summary: `Cannot write the run to ${out}: it holds a run already`,
      fix: `continue that run with --resume ${out}, or choose another --out`,
      details: { out },
    });
  }
  await Deno.mkdir(out, { recursive: true });
  if (resume !== null && await exists(`${resume}/${METRICS_FILE}`)) {
    await Deno.copyFile(`${resume}/${METRICS_FILE}`, `${out}/${METRICS_FILE}`);
  }
}

/**
 * Keeps the configuration in the run's folder. A killed writer leaves the old one.
 *
 * @param out The folder, which exists.
 * @param config The configuration.
 */
export async function keepConfig(out: string, config: TrainConfig): Promise<void> {
  await writeWhole(`${out}/${CONFIG_FILE}`, formatSavedConfig(config));
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

async function isSame(a: string, b: string): Promise<boolean> {
  const [left, right] = await Promise.all([a, b].map((path) => Deno.realPath(path).catch(() => null)));
  return left !== null && left === right;
}
