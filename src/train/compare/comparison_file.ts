/**
 * Comparison files: JSON with a title, variants, and the flags of `deno task compare` as keys.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "../../../mod.ts";
import { findDuplicateKey } from "../json_keys.ts";
import type { Problem } from "../option_problems.ts";
import { readFailure } from "../read_failure.ts";
import type { VariantSpec } from "./comparison.ts";

/** A comparison file: title, variants, and the other keys as flags. */
export interface ComparisonFile {
  /** Where it was read from. */
  readonly path: string;
  /** Its content, which is not checked yet. */
  readonly values: Readonly<Record<string, unknown>>;
}

const variantsSchema = z.array(
  z.strictObject({
    name: z.string("must be text"),
    group: z.string("must be text").optional(),
    note: z.string("must be text").optional(),
    options: z.looseObject({ router: z.string("must name a router") }, "must be an object with options"),
  }, "must be an object with name and options (and group and note)"),
  "must be a list",
).min(1, "must hold at least one variant");

/**
 * Checks the variants of a file.
 *
 * @param listed What the file has under `variants`.
 * @param problems Gets what is wrong with their form; their options are checked where they are planned.
 * @returns The variants, none after a problem.
 */
export function checkListed(listed: unknown, problems: Problem[]): readonly VariantSpec[] {
  const parsed = variantsSchema.safeParse(listed);
  // Absent keys stay absent, which is what the schema's output type cannot say under exactOptionalPropertyTypes.
  if (parsed.success) return parsed.data as readonly VariantSpec[];
  problems.push(
    ...parsed.error.issues.map(({ path, message }) => [["variants", ...path].join("."), undefined, message] as const),
  );
  return [];
}

/**
 * Reads a comparison file.
 *
 * @param path The file.
 * @returns Its content, which is not checked yet.
 * @throws {ConfigError} If it cannot be read or does not hold one JSON object.
 */
export async function readComparisonFile(path: string): Promise<ComparisonFile> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw unreadable(path, readFailure(error));
  }
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (error) {
    throw unreadable(path, `it is not JSON (${error instanceof Error ? error.message : error})`);
  }
  const twice = findDuplicateKey(text);
  if (twice !== undefined) throw unreadable(path, `it has the key ${JSON.stringify(twice)} twice`);
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw unreadable(path, "it should hold one JSON object");
  }
  return { path, values: values as Readonly<Record<string, unknown>> };
}

function unreadable(path: string, reason: string): ConfigError {
  return new ConfigError("config/file", {
    summary: `Cannot read ${path}: ${reason}`,
    fix: "--config takes the path of a JSON file with options and variants, such as bench/comparisons/founding.json",
    details: { path },
  });
}
