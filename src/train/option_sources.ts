/**
 * Options as they were given, on a command line or in a file, before their values are looked at.
 *
 * @module
 */
import { ConfigError } from "../../mod.ts";
import type { OptionName } from "./config.ts";
import { numberOf, type Problem, unknownOption } from "./option_problems.ts";
import { flagOf, FLAGS, OPTION_NAMES, OPTIONS } from "./option_table.ts";

/** An option as given: its name in the message, and its value. */
export interface Given {
  /** As it was written. */
  readonly shown: string;
  /** Its value; that of a number's flag is a number, if it spells one. */
  readonly value: unknown;
}

/** What a configuration file holds. */
export interface FileContent {
  /** Its path, for messages. */
  readonly path: string;
  /** The parsed JSON. */
  readonly values: unknown;
}

/**
 * Finds the options in a file, in either spelling.
 *
 * @param file The file, if there is one.
 * @param problems Gets what is unknown or given twice.
 * @returns The options by name.
 * @throws {ConfigError} If the file holds no object.
 */
export function givenInFile(file: FileContent | undefined, problems: Problem[]): ReadonlyMap<OptionName, Given> {
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

/**
 * Finds the options among flags. One that is `false` or absent is not given.
 *
 * @param flags Flags as an argument parser returns them, keyed by flag without the dashes; `_` holds what is not a flag.
 * @param problems Gets what is unknown or unexpected.
 * @returns The options by name.
 */
export function givenAsFlags(
  flags: Readonly<Record<string, unknown>>,
  problems: Problem[],
): ReadonlyMap<OptionName, Given> {
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
      const known = [...FLAGS.string, ...FLAGS.boolean].map((flag) => `--${flag}`);
      problems.push([shown, value, unknownOption(shown, known)]);
    } else {
      given.set(name, { shown, value: OPTIONS[name].kind === "number" ? numberOf(value) : value });
    }
  }
  return given;
}

function describe(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
}
