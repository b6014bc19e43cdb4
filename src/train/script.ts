/**
 * What the scripts behind the tasks share: options that are checked, and errors that end the process with a message.
 *
 * @module
 */
import type { z } from "zod";
import { ConfigError, SwitchyardError } from "../../mod.ts";
import { numberOf, type Problem, requirementOf, throwProblems, unknownOption } from "./option_problems.ts";

/** One flag of a script that takes a value. */
export interface ScriptOption {
  /** Whether the text on the command line is read as a number. */
  readonly kind: "number" | "text";
  /** What is accepted; `undefined` comes in where the flag is absent, and a default may come out. */
  readonly schema: z.ZodType;
  /** What it means, for the help text. */
  readonly help: string;
}

/** The exit status of a script whose options are invalid. */
const USAGE_ERROR = 2;

/**
 * Checks the flags of a script.
 *
 * @param what What cannot be done otherwise, such as `generate text`.
 * @param options The flags that there are, by name.
 * @param flags Flags as an argument parser returns them; `_` holds what is not a flag.
 * @returns The values by flag.
 * @throws {ConfigError} If a flag is unknown, missing or invalid; all are listed.
 */
export function resolveFlags<O extends Readonly<Record<string, ScriptOption>>>(
  what: string,
  options: O,
  flags: Readonly<Record<string, unknown>>,
): { readonly [K in keyof O]: z.output<O[K]["schema"]> } {
  const problems: Problem[] = (flags["_"] as readonly unknown[] | undefined ?? []).map((word) =>
    [String(word), undefined, "unexpected argument"] as const
  );
  const known = Object.keys(options).map((name) => `--${name}`);
  for (const [name, value] of Object.entries(flags)) {
    if (name === "_" || name in options || value === false || value === undefined) continue;
    problems.push([`--${name}`, value, unknownOption(`--${name}`, known)]);
  }
  const values = Object.entries(options).map(([name, { kind, schema }]) => {
    const given = kind === "number" ? numberOf(flags[name]) : flags[name];
    const parsed = schema.safeParse(given);
    if (!parsed.success) problems.push([`--${name}`, given, requirementOf(parsed.error, given)]);
    return [name, parsed.data] as const;
  });
  throwProblems(what, problems);
  // Each value is what its schema returned.
  return Object.fromEntries(values) as { readonly [K in keyof O]: z.output<O[K]["schema"]> };
}

/**
 * Lists flags and what they mean, one a line.
 *
 * @param options The flags.
 * @returns Lines without a trailing newline.
 */
export function describeOptions(options: Readonly<Record<string, ScriptOption>>): string {
  const rows = Object.entries(options).map(([name, { kind, help }]) =>
    [`--${name} ${kind === "number" ? "N" : "X"}`, help] as const
  );
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`).join("\n");
}

/**
 * Runs a script and ends the process: with the status it returns, with 2 and a message if an option is invalid, with 1
 * and a message for any other error that the library throws on purpose. Anything else is a bug and shows its stack.
 *
 * @param script The script.
 */
export async function runScript(script: () => Promise<number>): Promise<never> {
  let status: number;
  try {
    status = await script();
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    console.error(error.message);
    status = error instanceof ConfigError ? USAGE_ERROR : 1;
  }
  Deno.exit(status);
}
