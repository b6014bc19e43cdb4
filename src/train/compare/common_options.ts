/**
 * Options of the training program that all variants of a comparison share, and which of them a variant may set itself.
 *
 * @module
 */
import { flagOf, type OptionName } from "../config.ts";
import type { PresetName } from "../presets.ts";

/** Options that a comparison takes for all variants, with what they mean. A router without experts ignores theirs. */
export const COMMON_OPTIONS: Readonly<Partial<Record<OptionName, string>>> = {
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

/** What a variant cannot set: the text, its windows and the budget are those of the whole comparison. */
export const SHARED_BY_ALL: readonly OptionName[] = [
  "preset",
  "seq",
  "batch",
  "data",
  "steps",
  "seconds",
  "seed",
  "out",
  "resume",
  "evalEvery",
  "checkpointEvery",
  "quiet",
  "json",
];

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
