/**
 * The folder of a comparison: `comparison.json` says what it compares, and each run has a folder of its own below.
 *
 * An existing comparison can get more seeds and more variants. Anything that would make its runs differ from each other is
 * refused before a file is touched.
 *
 * @module
 */
import { z } from "zod";
import { CheckpointError, ConfigError } from "../../../mod.ts";
import { OPTION_NAMES, PROCESS_OPTIONS, resolveConfig, type TrainConfig } from "../config.ts";
import { CONFIG_FILE } from "../config_file.ts";
import { writeWhole } from "../durable.ts";
import { readFailure } from "../read_failure.ts";
import type { Comparison, Variant } from "./comparison.ts";

/** A comparison as its folder has it. */
export interface StoredComparison extends Comparison {
  /** The commands that made it what it is, each once, in the order of their first use. */
  readonly commands: readonly string[];
}

/** Name of the file. */
const COMPARISON_FILE = "comparison.json";

const variantSchema = z.object({
  name: z.string(),
  group: z.string(),
  note: z.string().nullable(),
  passes: z.number(),
  needs: z.string().nullable(),
  config: z.record(z.string(), z.unknown()),
});

const comparisonSchema = z.object({
  format: z.literal(1),
  title: z.string().nullable(),
  commands: z.array(z.string()),
  budget: z.object({ kind: z.enum(["steps", "tokens", "seconds"]), amount: z.number() }),
  match: z.enum(["compute", "tokens", "params"]),
  seeds: z.number().int().positive(),
  variants: z.array(variantSchema).min(1),
});

/**
 * Makes the folder of a comparison, or adds to the one that is there.
 *
 * @param out The folder.
 * @param planned What is to be compared.
 * @param command The command that asks for it.
 * @returns What the folder compares now: what was there and what is new.
 * @throws {ConfigError} If the folder holds a run, or a comparison with another budget or other options.
 */
export async function openComparison(out: string, planned: Comparison, command: string): Promise<StoredComparison> {
  if (await exists(`${out}/${CONFIG_FILE}`)) {
    throw new ConfigError("config/out", {
      summary: `Cannot write the comparison to ${out}: it holds a run`,
      fix: "choose another --out",
      details: { out },
    });
  }
  const before = await exists(`${out}/${COMPARISON_FILE}`) ? await readComparison(out) : undefined;
  if (before !== undefined) expectSame(out, before, planned);
  const known = new Set(before?.variants.map(({ name }) => name));
  const commands = before?.commands ?? [];
  const merged: StoredComparison = {
    ...planned,
    title: planned.title ?? before?.title ?? null,
    seeds: Math.max(planned.seeds, before?.seeds ?? 0),
    variants: [...before?.variants ?? [], ...planned.variants.filter(({ name }) => !known.has(name))],
    commands: commands.includes(command) ? commands : [...commands, command],
  };
  await Deno.mkdir(out, { recursive: true });
  await writeWhole(`${out}/${COMPARISON_FILE}`, formatComparison(merged));
  return merged;
}

/**
 * Reads what a folder compares.
 *
 * @param out The folder.
 * @returns The comparison.
 * @throws {CheckpointError} If there is none, or it is broken.
 */
export async function readComparison(out: string): Promise<StoredComparison> {
  const path = `${out}/${COMPARISON_FILE}`;
  let values: unknown;
  try {
    values = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    throw unusable(out, error instanceof SyntaxError ? `${COMPARISON_FILE} is not JSON` : readFailure(error));
  }
  const parsed = comparisonSchema.safeParse(values);
  if (!parsed.success) throw unusable(out, `${COMPARISON_FILE} is not what a comparison writes`);
  const { format: _, variants, ...rest } = parsed.data;
  return { ...rest, variants: variants.map((variant) => ({ ...variant, config: configOf(path, variant) })) };
}

/** Every option of a variant's configuration that its runs have in common. */
const KEPT = OPTION_NAMES.filter((name) => name === "seconds" || !(name === "seed" || PROCESS_OPTIONS.includes(name)));

function configOf(path: string, { needs, config }: z.infer<typeof variantSchema>): TrainConfig {
  // A learned table cannot be resolved without a folder; which one depends on the seed.
  const values = needs === null ? config : { ...config, tableFrom: needs };
  const resolved = resolveConfig({ adapter: "software", file: { path, values } });
  return needs === null ? resolved : { ...resolved, tableFrom: null } as TrainConfig;
}

function formatComparison({ variants, ...rest }: StoredComparison): string {
  const kept = variants.map((variant) => ({ ...variant, config: keptOptions(variant) }));
  return `${JSON.stringify({ format: 1, ...rest, variants: kept }, null, 2)}\n`;
}

function keptOptions({ config }: Variant): Readonly<Record<string, unknown>> {
  return Object.fromEntries(KEPT.map((name) => [name, config[name]]));
}

/** Refuses what would make runs of one comparison differ in more than their variant and seed. */
function expectSame(out: string, before: StoredComparison, planned: Comparison): void {
  const facts: (readonly [string, string])[] = [];
  function compare(name: string, had: unknown, has: unknown): void {
    if (had !== has) facts.push([name, `${JSON.stringify(has)}, but the folder has ${JSON.stringify(had)}`]);
  }
  compare(
    before.budget.kind === planned.budget.kind ? before.budget.kind : "budget",
    ...[before, planned].map(
      ({ budget }) => before.budget.kind === planned.budget.kind ? budget.amount : `${budget.amount} ${budget.kind}`,
    ) as [unknown, unknown],
  );
  compare("match", before.match, planned.match);
  for (const variant of planned.variants) {
    const stored = before.variants.find(({ name }) => name === variant.name);
    if (stored === undefined) continue;
    for (const name of KEPT) {
      // Steps and evaluations follow from a budget that differs already.
      if (facts.length > 0 && (name === "steps" || name === "evalEvery" || name === "seconds")) continue;
      compare(`${variant.name}: ${name}`, stored.config[name], variant.config[name]);
    }
  }
  // A new variant joins the windows of those that are there.
  const [old, fresh] = [before.variants[0]!.config, planned.variants[0]!.config];
  for (const name of ["data", "seq", "batch"] as const) {
    if (!facts.some(([shown]) => shown.endsWith(`: ${name}`))) compare(name, old[name], fresh[name]);
  }
  if (facts.length === 0) return;
  throw new ConfigError("config/out", {
    summary: `Cannot go on with the comparison in ${out}: ${facts.length} ${
      facts.length === 1 ? "option differs" : "options differ"
    }`,
    facts,
    fix: "give the same options (more seeds and further variants may be added), or choose another --out",
    details: { out },
  });
}

function unusable(out: string, reason: string): CheckpointError {
  return new CheckpointError("compare/folder", {
    summary: `Cannot use ${out} as a comparison: ${reason}`,
    facts: [["looked for", `${out}/${COMPARISON_FILE}`]],
    fix: "pass the folder that deno task compare wrote with --out",
    details: { out },
  });
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
