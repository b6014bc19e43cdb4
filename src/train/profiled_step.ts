/**
 * Profiling one step of a run: where in it, and where the trace goes.
 *
 * @module
 */
import { ConfigError, type Profile } from "../../mod.ts";
import { writeWhole } from "./durable.ts";
import type { ProfileEvent } from "./events.ts";

/** Steps of a process before the one that is profiled, so that nothing is done for the first time. */
const WARM_STEPS = 3;

/** Lines of the table that are told: its two headings and the slowest kernels. */
const TABLE_LINES = 14;

/**
 * Picks the step to profile.
 *
 * @param from Steps done before this process.
 * @param steps Steps of the whole run.
 * @returns How many steps are done before it; null if there are none to take.
 */
export function stepToProfile(from: number, steps: number): number | null {
  return from >= steps ? null : Math.min(from + WARM_STEPS, steps - 1);
}

/**
 * Makes sure, before any work is done, that a trace can be written.
 *
 * @param path The file; folders on the way are made.
 * @throws {ConfigError} If it cannot be written.
 */
export async function prepareTrace(path: string): Promise<void> {
  const slash = path.lastIndexOf("/");
  try {
    if (slash > 0) await Deno.mkdir(path.slice(0, slash), { recursive: true });
    using _ = await Deno.open(path, { append: true, create: true });
  } catch (error) {
    throw new ConfigError("config/profile", {
      summary: `Cannot write the profile to ${path}: ${error instanceof Error ? error.message : error}`,
      fix: "--profile takes the path of a file that can be written",
      details: { path },
    });
  }
}

/**
 * Writes a Chrome trace.
 *
 * @param path The file.
 * @param step Number of the profiled step, from 1.
 * @param profile What was measured.
 * @returns What to tell of it.
 */
export async function writeTrace(path: string, step: number, profile: Profile<unknown>): Promise<ProfileEvent> {
  await writeWhole(path, profile.chromeTrace());
  const { kernels, totalMs, clock } = profile;
  const table = profile.toString().split("\n").slice(0, TABLE_LINES);
  return { event: "profile", step, path, kernels: kernels.length, totalMs, clock, table };
}
