/**
 * Options of the training program that all variants of a comparison share, and which of them a variant may set itself.
 *
 * @module
 */
import { flagOf, type OptionName, PROCESS_OPTIONS } from "../config.ts";
import type { PresetName } from "../presets.ts";

/** Options that a comparison takes for all variants, with what they mean. A router without experts ignores theirs. */
const COMMON_OPTIONS: Readonly<Partial<Record<OptionName, string>>> = {
  preset: "tiny, small or base; tiny by default, whatever the adapter",
  experts: "experts in each layer, where a router has any",
  topk: "experts a token visits, where a router takes more than one",
  width: "model width",
  layers: "transformer blocks",
  heads: "attention heads",
  expertWidth: "hidden width that a byte passes through, shared out among the experts it visits",
  seq: "bytes in a training window",
  batch: "windows in a batch",
  lr: "peak learning rate",
  data: "sotu, or any file",
  evalEvery: "steps between evaluations; an eighth of a run by default",
  checkpointEvery: "steps between checkpoints",
};

/** Names of the options that all variants share. */
export const COMMON_NAMES: readonly OptionName[] = Object.keys(COMMON_OPTIONS) as OptionName[];

/** The preset where none is given: the same on every machine, so that a command means the same everywhere. */
export const DEFAULT_PRESET: PresetName = "tiny";

/** What a variant cannot set: the text, its windows and the budget are those of the whole comparison, and so is the process. */
const SHARED_BY_ALL: readonly OptionName[] = [
  "preset",
  "seq",
  "batch",
  "data",
  "steps",
  "seed",
  "evalEvery",
  "checkpointEvery",
  ...PROCESS_OPTIONS,
];

/** Of these, what a comparison decides about for each run. */
const SET_BY_COMPARISON: readonly OptionName[] = ["seed", "resume", "profile"];

/**
 * Says why a variant cannot set an option.
 *
 * @param name The option.
 * @returns What to do instead, or undefined where a variant can set it.
 */
export function whyShared(name: OptionName): string | undefined {
  if (!SHARED_BY_ALL.includes(name)) return undefined;
  return SET_BY_COMPARISON.includes(name)
    ? "has no meaning for a variant: the comparison settles it for each run"
    : `is the same for all variants; give it as --${flagOf(name)}`;
}

/**
 * Lists the common options and what they mean, one a line, for a help text.
 *
 * @returns Lines without a trailing newline.
 */
export function describeCommonOptions(): string {
  const rows = Object.entries(COMMON_OPTIONS).map(([name, help]) => [`--${flagOf(name)} X`, help] as const);
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`).join("\n");
}
