/**
 * Every option of the training program in one table, in the groups and the order of the help text.
 *
 * @module
 */
import type { OptionName } from "./config.ts";
import { choice, flag, folder, integer, type Option, orNull, positive, text, upTo } from "./option_kinds.ts";
import { PRECISIONS } from "./precision.ts";
import type { Preset } from "./presets.ts";
import { ROUTER_NAMES } from "./routers.ts";
import { VARIANT_NAMES, VARIANT_OPTIONS, type VariantOptionName } from "./variants.ts";

type ModelName =
  | Exclude<keyof Preset, "steps" | "lr" | "evalEvery" | "checkpointEvery">
  | "preset"
  | "allowNonCausal"
  | "precision"
  | "seed"
  | "data";

/** What the tensors' shapes and the order of the data depend on. */
const MODEL: Readonly<Record<ModelName, Option>> = {
  preset: choice(["tiny", "small", "base"], "tiny, small or base"),
  router: choice(ROUTER_NAMES, "how tokens find experts"),
  experts: integer(1, 1024, "experts in each layer"),
  topk: integer(1, 1024, "experts a token visits, or segments of multihash"),
  width: integer(2, 16384, "model width"),
  layers: integer(1, 256, "transformer blocks"),
  heads: integer(1, 256, "attention heads"),
  expertWidth: integer(1, 65536, "hidden width of one expert"),
  allowNonCausal: flag("warn of routing that sees later bytes, instead of refusing it"),
  precision: choice(PRECISIONS, "what the model computes in: f32, bf16 or f16"),
  seq: integer(1, 65536, "bytes in a training window"),
  batch: integer(1, 65536, "windows in a batch"),
  seed: integer(0, 2 ** 32 - 1, "random seed"),
  data: text("must be sotu or a file", "sotu, or any file"),
};

type TrainingName = "steps" | "lr" | "evalEvery" | "checkpointEvery" | "microBatches" | "remat";

/** What may change from one part of a run to the next. */
const TRAINING: Readonly<Record<TrainingName, Option>> = {
  steps: integer(1, 1e9, "training steps"),
  lr: upTo(10, "peak learning rate", "above"),
  evalEvery: integer(1, 1e9, "steps between evaluations"),
  checkpointEvery: integer(1, 1e9, "steps between checkpoints"),
  microBatches: integer(1, 65536, "parts of a batch taken one after another, for less memory"),
  remat: flag("compute blocks again for their gradients, for less memory"),
};

/** What belongs to one process and not to the run. */
const PROCESS: Readonly<Record<"seconds" | "out" | "resume" | "profile" | "quiet" | "json", Option>> = {
  seconds: orNull(positive("must be a number of seconds above 0", "stop training after this long")),
  out: orNull(folder("folder of the run")),
  resume: orNull(folder("folder of a run to continue")),
  profile: orNull(text("must name a file", "file for a Chrome trace of one step's kernels")),
  quiet: flag("no progress bar"),
  json: flag("one JSON object a line, nothing else"),
};

const VARIANTS = Object.fromEntries(
  VARIANT_NAMES.map((name) => [name, orNull<Option>(VARIANT_OPTIONS[name])]),
) as Record<
  VariantOptionName,
  Option
>;

/** Every option by name, in the order of configuration files. */
export const OPTIONS: Readonly<Record<OptionName, Option>> = {
  ...MODEL,
  ...VARIANTS,
  ...TRAINING,
  ...PROCESS,
};

/** Every option's name, in that order. */
export const OPTION_NAMES: readonly OptionName[] = Object.keys(OPTIONS) as OptionName[];

/** What a saved configuration leaves out. */
export const PROCESS_OPTIONS: readonly OptionName[] = Object.keys(PROCESS) as OptionName[];

/** What a checkpoint fixes. */
export const FIXED_ON_RESUME: readonly OptionName[] = [
  ...Object.keys(MODEL) as ModelName[],
  ...VARIANT_NAMES,
];

/** The flags for an argument parser: those that take a value and those that do not. `config` names the file. */
export const FLAGS: { readonly string: readonly string[]; readonly boolean: readonly string[] } = {
  string: [...OPTION_NAMES.filter((name) => OPTIONS[name].kind !== "switch").map(flagOf), "config"],
  boolean: OPTION_NAMES.filter((name) => OPTIONS[name].kind === "switch").map(flagOf),
};

/** The flag of an option, without dashes: `expertWidth` is `expert-width`. */
export function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** A line of the help text: the flag with what it takes, and its meaning. */
type Row = readonly [flag: string, help: string];

/**
 * Lists the flags and what they mean, one a line under headings, for a help text.
 *
 * @returns Lines without a trailing newline.
 */
export function describeFlags(): string {
  const groups: readonly (readonly [heading: string, rows: readonly Row[]])[] = [
    ["Model and data", rowsOf(Object.keys(MODEL) as OptionName[])],
    ["Training", rowsOf(Object.keys(TRAINING) as OptionName[])],
    ["This process", [...rowsOf(PROCESS_OPTIONS), ["--config FILE.json", "the same options from a file"]]],
    ...variantGroups(),
  ];
  const width = Math.max(...groups.flatMap(([, rows]) => rows.map(([flag]) => flag.length)));
  return groups.map(([heading, rows]) =>
    [`${heading}:`, ...rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`)].join("\n")
  ).join("\n\n");
}

/** The options of single routers, those of the same routers together. */
function variantGroups(): (readonly [heading: string, rows: readonly Row[]])[] {
  const groups = new Map<string, OptionName[]>();
  for (const name of VARIANT_NAMES) {
    const { routers } = VARIANT_OPTIONS[name];
    const others = ROUTER_NAMES.filter((router) => !routers.includes(router));
    const whose = routers.length > 9 && others.length < 9 ? `all but ${others.join(", ")}` : routers.join(", ");
    groups.set(whose, [...groups.get(whose) ?? [], name]);
  }
  return [...groups].map(([whose, names]) => [`Router ${whose}`, rowsOf(names)]);
}

function rowsOf(names: readonly OptionName[]): readonly Row[] {
  return names.map((name) => {
    const { kind, help } = OPTIONS[name];
    return [`--${flagOf(name)}${kind === "number" ? " N" : kind === "text" ? " X" : ""}`, help];
  });
}
