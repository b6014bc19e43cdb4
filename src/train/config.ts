/**
 * The configuration of a run: how presets, a configuration file, a saved run and flags combine into one that is checked.
 * Everything here is pure; files are read in `config_file.ts`. The options themselves are in `option_table.ts`.
 *
 * @module
 */
import type { FloatType } from "../../mod.ts";
import { type Problem, requirementOf, throwProblems } from "./option_problems.ts";
import { type Checked, checkMicroBatches, checkRouter, checkSizes } from "./option_rules.ts";
import { type FileContent, type Given, givenAsFlags, givenInFile } from "./option_sources.ts";
import { FIXED_ON_RESUME, OPTIONS } from "./option_table.ts";
import { type Preset, type PresetName, PRESETS } from "./presets.ts";
import { mostVisits, ROUTERS } from "./routers.ts";
import { checkVariant } from "./variant_rules.ts";
import { NO_VARIANT, type VariantOptions } from "./variants.ts";

export { describeFlags, flagOf, FLAGS, OPTION_NAMES, PROCESS_OPTIONS } from "./option_table.ts";

/** A complete, checked configuration of one run. */
export interface TrainConfig extends Preset, VariantOptions {
  /** The preset that filled in what was not given. */
  readonly preset: PresetName;
  /**
   * Whether a router that sees later bytes (in training at least) is warned about rather than refused. What such a model
   * predicts is worth nothing where it could see the answer.
   */
  readonly allowNonCausal: boolean;
  /** What the model computes in; parameters, optimizer, gates, norms and losses stay f32. */
  readonly precision: FloatType;
  /**
   * Parts of a batch whose gradients are taken one after another and averaged, so that only one part's activations are
   * on the device at a time. The result is that of the whole batch up to rounding where a byte's routing and the losses
   * depend on the byte alone. What looks at all bytes of a batch looks at those of a part instead: losses that balance
   * experts, the routers `base` and `sinkhorn`, and random draws. It may change on resume.
   */
  readonly microBatches: number;
  /**
   * Whether the backward pass computes each block again instead of keeping its activations (rematerialization): less
   * memory for about a third more work. It may change on resume, and changes nothing but rounding.
   */
  readonly remat: boolean;
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
  /** File for a Chrome trace of one step after the first few, or null for none. */
  readonly profile: string | null;
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
  /** The parsed content of a configuration file. */
  readonly file?: FileContent;
  /** The configuration of the run that is continued; it takes the place of the preset. */
  readonly saved?: TrainConfig;
}

const NOT_PRESET: Omit<TrainConfig, keyof Preset | "preset"> = {
  ...NO_VARIANT,
  allowNonCausal: false,
  precision: "f32",
  microBatches: 1,
  remat: false,
  data: "sotu",
  seed: 0,
  seconds: null,
  out: null,
  resume: null,
  profile: null,
  quiet: false,
  json: false,
};

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
  const checked: Checked = {
    config,
    sound: (...names) => !names.some((name) => invalid.has(name)),
    report: (name, requirement) => void problems.push([named(name), config[name], requirement]),
  };
  checkRouter(checked);
  checkVariant(checked);
  checkSizes(checked);
  checkMicroBatches(checked);
  if (sources.saved !== undefined) checkUnchanged(checked, sources.saved);
  throwProblems("start the run", problems);
  return config;
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

function checkUnchanged({ config, sound, report }: Checked, saved: TrainConfig): void {
  for (const name of FIXED_ON_RESUME) {
    if (sound(name) && config[name] !== saved[name]) {
      report(name, `cannot change on resume: the run has ${saved[name] ?? "none"}`);
    }
  }
}
