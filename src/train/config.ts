/**
 * The options of the training program: their names, what each accepts, and how presets, a configuration file, a saved
 * run and flags combine into one checked configuration. Everything here is pure; files are read in `config_file.ts`.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "../../mod.ts";
import { numberOf, type Problem, requirementOf, throwProblems, unknownOption } from "./option_problems.ts";
import { type Preset, type PresetName, PRESETS } from "./presets.ts";
import { mostVisits, ROUTER_NAMES, ROUTERS } from "./routers.ts";

/** A complete, checked configuration of one run. */
export interface TrainConfig extends Preset {
  /** The preset that filled in what was not given. */
  readonly preset: PresetName;
  /** `sotu` for the State of the Union texts, or the path of any file. */
  readonly data: string;
  /** Seed of initialization, batches and sampling. */
  readonly seed: number;
  /** Seconds from the start of this process after which training stops, or null for no limit. */
  readonly seconds: number | null;
  /** Folder of the run, or null where the caller should pick one. */
  readonly out: string | null;
  /** Folder of the run to continue, or null for a new run. */
  readonly resume: string | null;
  /** Whether the progress bar is left out. */
  readonly quiet: boolean;
  /** Whether standard output carries one JSON object a line and nothing else. */
  readonly json: boolean;
}

/** Name of an option as {@linkcode TrainConfig} and configuration files spell it. */
export type OptionName = keyof TrainConfig;

/** Where options come from; each source overrides those before it: preset, `saved`, `file`, `flags`. */
export interface ConfigSources {
  /** The class of the adapter, which picks the preset where none is given: `tiny` on software, `small` on hardware. */
  readonly adapter: "software" | "hardware";
  /** Flags as an argument parser returns them, keyed by flag without the dashes; `_` holds what is not a flag. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** The parsed content of a configuration file, and its path for messages. */
  readonly file?: { readonly path: string; readonly values: unknown };
  /** The configuration of the run that is continued; it takes the place of the preset. */
  readonly saved?: TrainConfig;
}

interface Option {
  readonly kind: "number" | "text" | "switch";
  readonly schema: z.ZodType;
  readonly help: string;
}

const OPTIONS: Readonly<Record<OptionName, Option>> = {
  preset: text(z.enum(["tiny", "small", "base"], oneOf("tiny", "small", "base")), "tiny, small or base"),
  router: text(
    z.enum(ROUTER_NAMES, oneOf(...ROUTER_NAMES)),
    "how tokens find experts",
  ),
  experts: integer(1, 1024, "experts in each layer"),
  topk: integer(1, 1024, "experts a token visits, or segments of multihash"),
  width: integer(2, 16384, "model width"),
  layers: integer(1, 256, "transformer blocks"),
  heads: integer(1, 256, "attention heads"),
  expertWidth: integer(1, 65536, "hidden width of one expert"),
  seq: integer(1, 65536, "bytes in a training window"),
  batch: integer(1, 65536, "windows in a batch"),
  steps: integer(1, 1e9, "training steps"),
  seconds: {
    kind: "number",
    schema: z.number("must be a number of seconds above 0").positive("must be a number of seconds above 0").nullable(),
    help: "stop training after this long",
  },
  lr: {
    kind: "number",
    schema: z.number("must be above 0 and at most 10").positive("must be above 0 and at most 10")
      .max(10, "must be above 0 and at most 10"),
    help: "peak learning rate",
  },
  seed: integer(0, 2 ** 32 - 1, "random seed"),
  data: text(z.string("must be sotu or a file").min(1, "must be sotu or a file"), "sotu, or any file"),
  out: text(folder(), "folder of the run"),
  resume: text(folder(), "folder of a run to continue"),
  evalEvery: integer(1, 1e9, "steps between evaluations"),
  checkpointEvery: integer(1, 1e9, "steps between checkpoints"),
  quiet: { kind: "switch", schema: z.boolean("must be true or false"), help: "no progress bar" },
  json: { kind: "switch", schema: z.boolean("must be true or false"), help: "one JSON object a line, nothing else" },
};

/** Every option's name, in the order of the help text. */
export const OPTION_NAMES: readonly OptionName[] = Object.keys(OPTIONS) as OptionName[];

/** The flags for an argument parser: those that take a value and those that do not. `config` names the file. */
export const FLAGS: { readonly string: readonly string[]; readonly boolean: readonly string[] } = {
  string: [...OPTION_NAMES.filter((name) => OPTIONS[name].kind !== "switch").map(flagOf), "config"],
  boolean: OPTION_NAMES.filter((name) => OPTIONS[name].kind === "switch").map(flagOf),
};

/** What the tensors' shapes and the order of the data depend on; a checkpoint fixes it. */
const FIXED_ON_RESUME: readonly OptionName[] = [
  "preset",
  "router",
  "experts",
  "topk",
  "width",
  "layers",
  "heads",
  "expertWidth",
  "seq",
  "batch",
  "seed",
  "data",
];

/** What belongs to one process and not to the run; a saved configuration leaves it out. */
export const PROCESS_OPTIONS: readonly OptionName[] = ["seconds", "out", "resume", "quiet", "json"];

const NOT_PRESET: Omit<TrainConfig, keyof Preset | "preset"> = {
  data: "sotu",
  seed: 0,
  seconds: null,
  out: null,
  resume: null,
  quiet: false,
  json: false,
};

/** An option as given: its name in the message, its value and where it came from. */
interface Given {
  readonly shown: string;
  readonly value: unknown;
}

/**
 * Combines presets, a saved run, a file and flags, and checks the whole.
 *
 * Some routers send each token to one expert, and some bodies have no experts, so `topk` and `experts` follow the router
 * where they were not given. The preset's expert width is divided by `topk`, so that a token costs the same with
 * every router. A flag that is `false` or absent leaves the file's value alone.
 *
 * @param sources Where options come from.
 * @returns The complete configuration.
 * @throws {ConfigError} If any option is unknown, malformed, out of range or at odds with another; all are listed.
 *
 * @example Flags override a preset
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { resolveConfig } from "@switchyard/switchyard/train";
 *
 * const config = resolveConfig({ adapter: "software", flags: { steps: "20", router: "topk", topk: "2" } });
 * assertEquals([config.preset, config.steps, config.topk], ["tiny", 20, 2]);
 * ```
 */
export function resolveConfig(sources: ConfigSources): TrainConfig {
  const problems: Problem[] = [];
  const given = new Map([...givenInFile(sources.file, problems), ...givenAsFlags(sources.flags ?? {}, problems)]);

  const valid: Partial<Record<OptionName, unknown>> = {};
  const invalid = new Set<OptionName>();
  for (const [name, { shown, value }] of given) {
    const parsed = OPTIONS[name].schema.safeParse(value);
    if (parsed.success) {
      valid[name] = parsed.data;
    } else {
      invalid.add(name);
      problems.push([shown, value, requirementOf(parsed.error, value)]);
    }
  }

  const preset =
    (valid.preset ?? sources.saved?.preset ?? (sources.adapter === "software" ? "tiny" : "small")) as PresetName;
  const base: TrainConfig = sources.saved ?? { ...PRESETS[preset], ...NOT_PRESET, preset };
  // Every value in `valid` passed the schema of its option, which is what makes this a TrainConfig.
  const merged = { ...base, ...valid } as TrainConfig;
  const config = sources.saved === undefined ? followRouter(merged, given) : merged;

  const named = (name: OptionName): string => given.get(name)?.shown ?? name;
  const report = (name: OptionName, requirement: string): void => {
    problems.push([named(name), config[name], requirement]);
  };
  const sound = (...names: OptionName[]): boolean => !names.some((name) => invalid.has(name));
  checkTogether(config, sound, report);
  if (sources.saved !== undefined) checkUnchanged(config, sources.saved, sound, report);
  throwProblems("start the run", problems);
  return config;
}

/**
 * Lists the flags and what they mean, one a line, for a help text.
 *
 * @returns Lines without a trailing newline.
 */
export function describeFlags(): string {
  const rows = OPTION_NAMES.map((name) => {
    const { kind, help } = OPTIONS[name];
    return [`--${flagOf(name)}${kind === "number" ? " N" : kind === "text" ? " X" : ""}`, help] as const;
  });
  rows.push(["--config FILE.json", "the same options from a file"]);
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`).join("\n");
}

/** The flag of an option, without dashes: `expertWidth` is `expert-width`. */
export function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function followRouter(config: TrainConfig, given: ReadonlyMap<OptionName, Given>): TrainConfig {
  const { router } = config;
  const { visits } = ROUTERS[router];
  const experts = visits === "none" && !given.has("experts") ? 1 : config.experts;
  const fitting = visits === "many" ? Math.max(1, Math.min(config.topk, mostVisits(router, experts))) : 1;
  const topk = given.has("topk") ? config.topk : fitting;
  // A preset means the width that a byte passes through, so that all routers cost the same.
  const expertWidth = Math.max(1, Math.round(config.expertWidth / topk));
  return { ...config, experts, topk, expertWidth: given.has("expertWidth") ? config.expertWidth : expertWidth };
}

function checkTogether(
  config: TrainConfig,
  sound: (...names: OptionName[]) => boolean,
  report: (name: OptionName, requirement: string) => void,
): void {
  const { width, heads } = config;
  if (sound("router")) checkRouter(config, sound, report);
  if (!sound("width", "heads")) return;
  if (width % heads !== 0) {
    report("heads", `must divide width (${width})`);
  } else if ((width / heads) % 2 !== 0) {
    report("heads", `must leave an even width per head for rotary positions (${width} / ${heads} is ${width / heads})`);
  }
}

function checkRouter(
  { router, experts, topk, width, batch, seq }: TrainConfig,
  sound: (...names: OptionName[]) => boolean,
  report: (name: OptionName, requirement: string) => void,
): void {
  const { visits, causal = true } = ROUTERS[router];
  if (!causal) {
    report("router", "is not causal: a byte's experts depend on later bytes, which a language model must not see");
  }
  if (sound("experts")) {
    if (visits === "none" && experts !== 1) report("experts", `has no meaning here: router ${router} has no experts`);
    if (router === "noisy-topk" && experts < 2) {
      report("experts", "must be at least 2: router noisy-topk compares with an expert that a byte does not visit");
    }
    if (router === "base" && sound("batch", "seq") && (batch * seq) % experts !== 0) {
      report(
        "experts",
        `must divide the ${batch * seq} bytes of a batch (${batch} x ${seq}): router base balances them`,
      );
    }
  }
  if (!sound("topk")) return;
  if (visits !== "many" && topk !== 1) report("topk", `must be 1 with router ${router}; router topk takes more`);
  const most = mostVisits(router, experts);
  if (visits === "many" && sound("experts") && most > 0 && topk > most) {
    report("topk", `must be an integer in 1..${most} (experts is ${experts})`);
  }
  if (router === "multihash" && sound("width") && width % topk !== 0) {
    report("topk", `must divide width (${width}): router multihash cuts layers into as many segments`);
  }
}

function checkUnchanged(
  config: TrainConfig,
  saved: TrainConfig,
  sound: (...names: OptionName[]) => boolean,
  report: (name: OptionName, requirement: string) => void,
): void {
  for (const name of FIXED_ON_RESUME) {
    if (sound(name) && config[name] !== saved[name]) {
      report(name, `cannot change on resume: the run has ${saved[name]}`);
    }
  }
}

function givenInFile(file: ConfigSources["file"], problems: Problem[]): Map<OptionName, Given> {
  const given = new Map<OptionName, Given>();
  if (file === undefined) return given;
  if (typeof file.values !== "object" || file.values === null || Array.isArray(file.values)) {
    throw new ConfigError("config/file", {
      summary: `Cannot read ${file.path}: it should hold one JSON object with options, not ${describe(file.values)}`,
      details: { path: file.path },
    });
  }
  for (const [key, value] of Object.entries(file.values)) {
    const name = OPTION_NAMES.find((option) => option === key || flagOf(option) === key);
    if (name === undefined) {
      problems.push([key, value, unknownOption(key, [...OPTION_NAMES])]);
    } else if (given.has(name)) {
      problems.push([key, value, `given twice, as ${given.get(name)!.shown} too`]);
    } else {
      given.set(name, { shown: key, value });
    }
  }
  return given;
}

function givenAsFlags(flags: Readonly<Record<string, unknown>>, problems: Problem[]): Map<OptionName, Given> {
  const given = new Map<OptionName, Given>();
  for (const [key, value] of Object.entries(flags)) {
    if (key === "_") {
      for (const word of value as readonly unknown[]) problems.push([String(word), undefined, "unexpected argument"]);
      continue;
    }
    // Argument parsers report an absent switch as false, so false cannot mean "given".
    if (key === "config" || value === undefined || value === false) continue;
    const shown = `--${key}`;
    const name = OPTION_NAMES.find((option) => flagOf(option) === key || option === key);
    if (name === undefined) {
      problems.push([
        shown,
        value,
        unknownOption(shown, [...FLAGS.string, ...FLAGS.boolean].map((flag) => `--${flag}`)),
      ]);
    } else {
      given.set(name, { shown, value: OPTIONS[name].kind === "number" ? numberOf(value) : value });
    }
  }
  return given;
}

function describe(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
}

function integer(minimum: number, maximum: number, help: string): Option {
  const requirement = `must be an integer in ${minimum}..${maximum}`;
  const schema = z.number(requirement).int(requirement).min(minimum, requirement).max(maximum, requirement);
  return { kind: "number", schema, help };
}

function text(schema: z.ZodType, help: string): Option {
  return { kind: "text", schema, help };
}

function folder(): z.ZodType {
  return z.string("must name a folder").min(1, "must name a folder").nullable();
}

function oneOf(...choices: readonly string[]): string {
  return `must be one of ${choices.join(", ")}`;
}
