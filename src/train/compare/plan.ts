/**
 * From what was asked for to a comparison with everything settled: every variant's configuration is resolved and its
 * model built once, so that whatever is wrong with any of them is told before the first run.
 *
 * @module
 */
import { ConfigError, SwitchyardError } from "../../../mod.ts";
import { flagOf, OPTION_NAMES, type OptionName, resolveConfig, type TrainConfig } from "../config.ts";
import { type Problem, throwProblems, unknownOption } from "../option_problems.ts";
import { ROUTERS } from "../routers.ts";
import { passesOf, stepsOf } from "./budget.ts";
import { COMMON_NAMES, DEFAULT_PRESET, whyShared } from "./common_options.ts";
import type { Comparison, ComparisonRequest, Variant, VariantSpec } from "./comparison.ts";
import { matchWidth, parametersOf } from "./matching.ts";
import { checkNames, optionNamed } from "./specs.ts";
import { addTableSource, needsTable, tableSourceOf } from "./tables.ts";

/** Evaluations of a run on the way, where the number of steps is known and nothing else was asked for. */
const EVALUATIONS = 8;

/** With `match: "params"`, how far from the first variant's parameters another may end up. */
const TOLERANCE = 0.1;

/**
 * Settles a comparison.
 *
 * A dense variant that a hash table is made from is added where it is missing, and comes first. With `match: "params"`
 * every variant gets the expert width at which it has as many parameters as the first one.
 *
 * @param request What was asked for.
 * @returns The comparison.
 * @throws {ConfigError} If anything about any variant is invalid; all of it is listed.
 *
 * @example A second pass over each batch halves the steps
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { planComparison } from "@switchyard/switchyard/train";
 *
 * const { variants } = planComparison({
 *   title: null,
 *   variants: [
 *     { name: "switch-8", options: { router: "switch", experts: 8 } },
 *     { name: "thor", options: { router: "thor", experts: 8, consistency: 5 } },
 *   ],
 *   common: { width: 64 },
 *   budget: { kind: "steps", amount: 1000 },
 *   match: "compute",
 *   seeds: 3,
 * });
 * assertEquals(variants.map(({ config }) => config.steps), [1000, 500]);
 * ```
 */
export function planComparison(request: ComparisonRequest): Comparison {
  const problems: Problem[] = [];
  const variants = planVariants(request, problems);
  throwProblems("compare", problems);
  const { title, budget, match, seeds } = request;
  return { title, budget, match, seeds, variants };
}

/**
 * Settles the variants of a comparison.
 *
 * @param request What was asked for.
 * @param problems Gets what is wrong with any of them.
 * @returns The variants that nothing is wrong with.
 */
export function planVariants(request: ComparisonRequest, problems: Problem[]): readonly Variant[] {
  const found: Problem[] = [];
  const variants = settleVariants(request, found);
  problems.push(...unique(found));
  return variants;
}

function settleVariants(request: ComparisonRequest, problems: Problem[]): readonly Variant[] {
  const specs = addTableSource(request.variants);
  checkNames(specs, problems);
  const source = tableSourceOf(specs);
  const planned = specs.map((spec) => planVariant(spec, { request, source, problems }));
  // One that was added for a table comes first, but is not what was asked for first.
  const first = planned[specs.indexOf(request.variants[0]!)];
  const matched = request.match !== "params" || first === undefined ? planned : planned.map((variant, index) => {
    if (variant === undefined || variant === first) return variant;
    return matchParameters(variant, first, { given: specs[index]!.options, problems });
  });
  return matched.flatMap((variant) => variant === undefined ? [] : [variant]);
}

interface PlanContext {
  readonly request: ComparisonRequest;
  /** Name of the dense variant that tables are made from. */
  readonly source: string | undefined;
  readonly problems: Problem[];
}

function planVariant(spec: VariantSpec, { request, source, problems }: PlanContext): Variant | undefined {
  const needs = needsTable(spec) && source !== undefined ? source : null;
  const own = ownOptions(spec, problems);
  if (own === undefined) return undefined;
  const shared = sharedOptions(request, own);
  const table = needs === null ? {} : { tableFrom: needs };
  const resolved = resolveVariant({ name: spec.name, own, shared: { ...shared, ...table } }, problems);
  if (resolved === undefined) return undefined;
  // Which folder it is depends on the seed.
  const config = needs === null ? resolved : { ...resolved, tableFrom: null };
  const passes = passesOf(config);
  const { budget, match } = request;
  const steps = stepsOf({ budget, match, passes, batchBytes: config.batch * config.seq });
  const evalEvery = request.common["evalEvery"] === undefined && steps !== null
    ? Math.max(1, Math.ceil(steps / EVALUATIONS))
    : config.evalEvery;
  return {
    name: spec.name,
    group: spec.group ?? config.router,
    note: spec.note ?? null,
    passes,
    needs,
    config: steps === null
      ? { ...config, evalEvery, steps: MOST_STEPS, seconds: budget.amount }
      : { ...config, evalEvery, steps },
  };
}

/** What a variant can set. */
const OWN_NAMES: readonly string[] = OPTION_NAMES.filter((name) => whyShared(name) === undefined);

/** Where the time decides, a run settles its steps after it has measured its speed. */
const MOST_STEPS = 1e9;

/** The options of a variant by their names, or undefined if one of them cannot be. */
function ownOptions(
  { name, options }: VariantSpec,
  problems: Problem[],
): Readonly<Record<string, unknown>> | undefined {
  const own: Record<string, unknown> = {};
  let isSound = true;
  for (const [key, value] of Object.entries(options)) {
    const option = optionNamed(key);
    const problem = option === undefined
      ? unknownOption(key, OWN_NAMES)
      : whyShared(option) ?? (option in own ? "is given twice" : undefined);
    if (problem === undefined) {
      own[option!] = value;
      continue;
    }
    isSound = false;
    problems.push([`${name}: ${key}`, value, problem]);
  }
  return isSound ? own : undefined;
}

/** What the variant shares with others: options that its router has no use for are left out. */
function sharedOptions(
  { common }: ComparisonRequest,
  own: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const facts = ROUTERS[own["router"] as keyof typeof ROUTERS] as (typeof ROUTERS)[keyof typeof ROUTERS] | undefined;
  const unused = facts?.visits === "none" ? ["experts", "topk"] : facts?.visits === "one" ? ["topk"] : [];
  return Object.fromEntries(
    Object.entries({ preset: DEFAULT_PRESET, ...common }).filter(([name]) => !unused.includes(name)),
  );
}

interface OptionSources {
  readonly name: string;
  readonly own: Readonly<Record<string, unknown>>;
  readonly shared: Readonly<Record<string, unknown>>;
}

/** The configuration of a variant, whose model can be built; undefined after a problem. */
function resolveVariant({ name, own, shared }: OptionSources, problems: Problem[]): TrainConfig | undefined {
  const { expertWidth: passedWidth, ...rest } = shared;
  function resolve(values: Readonly<Record<string, unknown>>): TrainConfig {
    return resolveConfig({ adapter: "software", file: { path: "the comparison", values } });
  }
  try {
    const config = resolve({ ...rest, ...own });
    // A common width is what a byte passes through, as a preset's is, and is shared out among experts like that.
    const widened = passedWidth === undefined || "expertWidth" in own ? config : resolve({
      ...rest,
      ...own,
      expertWidth: typeof passedWidth === "number" ? Math.max(1, Math.round(passedWidth / config.topk)) : passedWidth,
    });
    parametersOf(widened);
    return widened;
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    problems.push(
      ...problemsOf(error).map(([key, value, requirement]) =>
        key in own
          ? [`${name}: ${key}`, value, requirement] as const
          : COMMON_NAMES.includes(key as OptionName)
          ? [`--${flagOf(key)}`, value, requirement] as const
          : [`${name}: ${key}`, value, requirement] as const
      ),
    );
    return undefined;
  }
}

/** The single problems of an error, or the error as one. */
function problemsOf(error: SwitchyardError): readonly Problem[] {
  const { problems } = error.details as { readonly problems?: readonly Problem[] };
  if (error instanceof ConfigError && Array.isArray(problems)) return problems as readonly Problem[];
  return [["model", undefined, error.message.split("\n")[0]!]];
}

interface MatchContext {
  readonly given: Readonly<Record<string, unknown>>;
  readonly problems: Problem[];
}

function matchParameters(variant: Variant, first: Variant, { given, problems }: MatchContext): Variant {
  const { name, config } = variant;
  const width = Object.keys(given).find((key) => optionNamed(key) === "expertWidth");
  if (width !== undefined) {
    problems.push([`${name}: ${width}`, given[width], "cannot be given: --match params finds it"]);
    return variant;
  }
  const target = parametersOf(first.config).parameters;
  const { expertWidth, parameters } = matchWidth(
    target,
    (candidate) => parametersIfBuilt({ ...config, expertWidth: candidate }),
  );
  if (Math.abs(parameters / target - 1) > TOLERANCE) {
    problems.push([
      `${name}: expertWidth`,
      expertWidth,
      `gives ${parameters} parameters, which is as near as it gets to the ${target} of ${first.name}`,
    ]);
  }
  return { ...variant, config: { ...config, expertWidth } };
}

/** Parameters of a configuration, or fewer than any where its router cannot be so narrow. */
function parametersIfBuilt(config: TrainConfig): number {
  try {
    return parametersOf(config).parameters;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return -Infinity;
  }
}

/** The same problem of a common option comes up with every variant. */
function unique(problems: readonly Problem[]): readonly Problem[] {
  return [...new Map(problems.map((problem) => [JSON.stringify(problem), problem])).values()];
}
