/**
 * The flags of `deno task compare`, and the comparison file that may hold the same and more.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError, nearestName } from "../../../mod.ts";
import { flagOf, type OptionName } from "../config.ts";
import { numberOf, type Problem, throwProblems } from "../option_problems.ts";
import { describeOptions, resolveFlags, type ScriptOption } from "../script.ts";
import { COMMON_NAMES, describeCommonOptions } from "./common_options.ts";
import { checkListed, type ComparisonFile, readComparisonFile } from "./comparison_file.ts";
import type { Budget, ComparisonRequest, Matching, VariantSpec } from "./comparison.ts";
import { planVariants } from "./plan.ts";
import { parseVariants } from "./specs.ts";

/** What the command line asks for. */
export interface CompareOptions {
  /** What to compare; null where an existing comparison is only rendered again. */
  readonly request: ComparisonRequest | null;
  /** The comparison's folder. */
  readonly out: string;
  /** Whether there is no progress bar. */
  readonly quiet: boolean;
  /** Whether standard output carries one JSON object a line and nothing else. */
  readonly json: boolean;
}

const BUDGETS = ["steps", "tokens", "seconds"] as const;
const DEFAULT_OUT = "runs/comparison";

function optional(schema: z.ZodType): z.ZodType {
  return schema.optional();
}

function whole(requirement: string): z.ZodType {
  return z.number(requirement).int(requirement).min(1, requirement);
}

const OPTIONS = {
  routers: {
    kind: "text",
    schema: optional(z.string("must list variants").min(1, "must list variants")),
    help: "variants, separated by commas; see below",
  },
  only: {
    kind: "text",
    schema: optional(z.string("must name variants").min(1, "must name variants")),
    help: "names of the variants of --config to compare; all by default",
  },
  steps: { kind: "number", schema: optional(whole("must be an integer above 0")), help: "training steps of a run" },
  tokens: {
    kind: "number",
    schema: optional(whole("must be an integer above 0")),
    help: "bytes of training text of a run, in place of --steps",
  },
  seconds: {
    kind: "number",
    schema: optional(z.number("must be above 0").positive("must be above 0")),
    help: "seconds of a run, in place of --steps",
  },
  seeds: {
    kind: "number",
    schema: whole("must be an integer of at least 1").default(3),
    help: "runs of each variant, with seeds 0, 1, …; 3 by default",
  },
  match: {
    kind: "text",
    schema: z.enum(["compute", "tokens", "params"], "must be one of compute, tokens, params").default("compute"),
    help: "what is equal: compute (default), tokens or params; see below",
  },
  out: {
    kind: "text",
    schema: z.string("must name a folder").min(1, "must name a folder").default(DEFAULT_OUT),
    help: `folder of the comparison; ${DEFAULT_OUT} by default`,
  },
  config: {
    kind: "text",
    schema: optional(z.string("must be a file").min(1, "must be a file")),
    help: "the same options and the variants from a JSON file",
  },
  report: {
    kind: "text",
    schema: optional(z.string("must name a folder").min(1, "must name a folder")),
    help: "write the report of a folder again and train nothing",
  },
} as const satisfies Readonly<Record<string, ScriptOption>>;

/** The flags for an argument parser: those that take a value and those that do not. */
export const COMPARE_FLAGS: { readonly string: readonly string[]; readonly boolean: readonly string[] } = {
  string: [...Object.keys(OPTIONS), ...COMMON_NAMES.map(flagOf)],
  boolean: ["quiet", "json", "help"],
};

/** The help text. */
export const COMPARE_USAGE: string =
  `Trains variants of a model under the same budget, with several seeds, and writes one report.

  deno task compare --routers SPEC,SPEC,… (--steps N | --tokens N | --seconds N) [options]
  deno task compare --config FILE.json [options]
  deno task compare --report DIR

${describeOptions(OPTIONS)}
  --quiet      no progress bar
  --json       one JSON object a line, nothing else

Options of all variants:
${describeCommonOptions()}

A SPEC is [LABEL=]ROUTER[:OPTION=VALUE[+OPTION=VALUE…]], where an option is one of deno task train:
  dense  switch:experts=32  balanced=hash:table=balanced  thor:consistency=5+experts=8
Tables that are clustered or dispersed are made from the dense variant with the same seed, which is added if need be.

--match compute  a byte passes through the same width in every variant. Two passes over each batch (a consistency
                 loss) halve the steps, and the text.
--match tokens   the same, but two passes take the same steps and text, and cost twice the compute.
--match params   expert widths are chosen such that all variants have as many parameters as the first.

The same command goes on where it was interrupted, and adds seeds or variants to what is there. Runs that failed stay
failed; remove their folder to repeat them.`;

/**
 * Reads a command line and the file behind `--config`.
 *
 * @param flags Flags as an argument parser returns them; `_` holds what is not a flag.
 * @returns The checked options. What the variants are made of is checked where they are planned.
 * @throws {ConfigError} If an option is unknown, missing, malformed or at odds with another; all are listed.
 */
export async function loadCompareOptions(flags: Readonly<Record<string, unknown>>): Promise<CompareOptions> {
  const path = flags["config"];
  const file = typeof path === "string" && path !== "" ? await readComparisonFile(path) : undefined;
  return resolveCompareOptions(flags, file);
}

/**
 * Combines a command line and a file; flags come before the file.
 *
 * @param flags Flags as an argument parser returns them.
 * @param file The file, if there is one.
 * @returns The checked options.
 * @throws {ConfigError} If an option is unknown, missing, malformed or at odds with another; all are listed.
 */
export function resolveCompareOptions(flags: Readonly<Record<string, unknown>>, file?: ComparisonFile): CompareOptions {
  const problems: Problem[] = [];
  const { quiet = false, json = false, help: _help, ...given } = flags;
  const { title, variants: listed, ...fromFile } = file?.values ?? {};
  const hasBudget = BUDGETS.some((kind) => given[kind] !== undefined);
  const merged: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fromFile)) {
    if (hasBudget && (BUDGETS as readonly string[]).includes(key)) continue;
    merged[flagOf(key)] = value;
  }
  for (const [key, value] of Object.entries(given)) if (value !== undefined) merged[key] = value;

  const values = checked(merged, problems);
  if (typeof values?.report === "string") {
    const others = Object.keys(given).filter((key) =>
      key !== "_" && key !== "report" && given[key] !== undefined && given[key] !== false
    );
    for (const key of others) problems.push([`--${key}`, given[key], "has no meaning with --report"]);
    throwProblems("compare", problems);
    return { request: null, out: values.report, quiet: quiet === true, json: json === true };
  }
  const budget = budgetOf(merged, values, problems);
  const variants = variantsOf(merged, { listed, problems });
  if (title !== undefined && typeof title !== "string") problems.push(["title", title, "must be text"]);
  const request: ComparisonRequest = {
    title: typeof title === "string" ? title : null,
    variants,
    common: commonOptions(merged),
    // Anything will do where there is a problem: then the request is only looked through for others.
    budget: budget ?? { kind: "steps", amount: 1 },
    match: problems.length > 0 ? "compute" : values!.match as Matching,
    seeds: problems.length > 0 ? 1 : values!.seeds as number,
  };
  if (problems.length > 0 && variants.length > 0) planVariants(request, problems);
  throwProblems("compare", problems);
  return { request, out: values!.out as string, quiet: quiet === true, json: json === true };
}

type Values = { readonly [K in keyof typeof OPTIONS]: unknown };

/** Checks the flags of the comparison itself; common options are checked with each variant. */
function checked(merged: Readonly<Record<string, unknown>>, problems: Problem[]): Values | undefined {
  const passed = Object.fromEntries(
    COMMON_NAMES.map((name) => [flagOf(name), { kind: "text", schema: z.unknown(), help: "" } as const]),
  );
  try {
    return resolveFlags("compare", { ...OPTIONS, ...passed }, merged) as Values;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.push(...error.details["problems"] as readonly Problem[]);
    return undefined;
  }
}

function commonOptions(merged: Readonly<Record<string, unknown>>): Readonly<Partial<Record<OptionName, unknown>>> {
  return Object.fromEntries(COMMON_NAMES.flatMap((name) => {
    const value = merged[flagOf(name)];
    return value === undefined ? [] : [[name, name === "data" || name === "preset" ? value : numberOf(value)]];
  }));
}

function budgetOf(
  merged: Readonly<Record<string, unknown>>,
  values: Values | undefined,
  problems: Problem[],
): Budget | undefined {
  const kinds = BUDGETS.filter((kind) => merged[kind] !== undefined);
  const [kind] = kinds;
  if (kind === undefined) {
    problems.push(["--steps", undefined, "is required: give --steps, --tokens or --seconds"]);
    return undefined;
  }
  if (kinds.length > 1) {
    problems.push([kinds.map((name) => `--${name}`).join(", "), undefined, "are different budgets; give one"]);
  }
  const amount = values?.[kind];
  return typeof amount === "number" ? { kind, amount } : undefined;
}

interface VariantSources {
  /** The variants of the file, which are not checked yet. */
  readonly listed: unknown;
  readonly problems: Problem[];
}

function variantsOf(
  given: Readonly<Record<string, unknown>>,
  { listed, problems }: VariantSources,
): readonly VariantSpec[] {
  const { routers, only } = given;
  if (typeof routers === "string") {
    if (listed !== undefined) {
      problems.push(["--routers", routers, "is at odds with the variants of --config; use --only"]);
    }
    if (only !== undefined) problems.push(["--only", only, "picks variants of --config; there are none"]);
    return parseVariants(routers, problems);
  }
  if (listed === undefined) {
    problems.push(["--routers", undefined, "is required: the variants to compare"]);
    return [];
  }
  const variants = checkListed(listed, problems);
  if (typeof only !== "string") return variants;
  const names = only.split(",").map((name) => name.trim());
  const known = variants.map(({ name }) => name);
  for (const name of names.filter((candidate) => !known.includes(candidate))) {
    const near = nearestName(name, known);
    problems.push([
      "--only",
      name,
      `no such variant in --config${near === undefined ? "" : `; did you mean ${near}?`}`,
    ]);
  }
  return variants.filter(({ name }) => names.includes(name));
}
