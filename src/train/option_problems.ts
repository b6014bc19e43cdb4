/**
 * What is wrong with options on a command line or in a file, told all at once and with the likely meaning of a typo.
 *
 * @module
 */
import type { z } from "zod";
import { ConfigError, nearestName } from "../../mod.ts";

/** One invalid option: as the user wrote it, its value (undefined for none) and what it must be. */
export type Problem = readonly [shown: string, value: unknown, requirement: string];

/**
 * Reads a flag's text as the number it spells.
 *
 * @param value What an argument parser returned.
 * @returns The number, or the value as it is where it spells none.
 */
export function numberOf(value: unknown): unknown {
  if (typeof value !== "string" || value.trim() === "") return value;
  const number = Number(value);
  return Number.isNaN(number) ? value : number;
}

/**
 * Says that an option is unknown, and which known one is near.
 *
 * @param shown The option as written.
 * @param candidates The known ones, written the same way.
 * @returns The requirement of a {@linkcode Problem}.
 */
export function unknownOption(shown: string, candidates: readonly string[]): string {
  const near = nearestName(shown, candidates);
  return near === undefined ? "unknown option" : `unknown option; did you mean ${near}?`;
}

/**
 * What a value had to be, and for a choice which one is near.
 *
 * @param error What zod found; the first issue counts.
 * @param value The value as given.
 * @returns The requirement of a {@linkcode Problem}.
 */
export function requirementOf(error: z.ZodError, value: unknown): string {
  const { message } = error.issues[0]!;
  const choices = /^must be one of (.+)$/.exec(message)?.[1]?.split(", ");
  const near = choices === undefined || typeof value !== "string" ? undefined : nearestName(value, choices);
  return near === undefined ? message : `${message}; did you mean ${near}?`;
}

/**
 * Throws one error for all problems, or returns if there is none.
 *
 * @param what What cannot be done, such as `start the run`.
 * @param problems The problems in the order in which they are shown.
 * @throws {ConfigError} If there is a problem.
 */
export function throwProblems(what: string, problems: readonly Problem[]): void {
  if (problems.length === 0) return;
  const values = problems.map(([, value]) => value === undefined ? "" : JSON.stringify(value));
  const width = Math.max(...values.map((value) => value.length));
  throw new ConfigError("config/range", {
    summary: `Cannot ${what}: ${problems.length} ${problems.length === 1 ? "option is" : "options are"} invalid`,
    facts: problems.map(([shown, , requirement], i) => [shown, `${values[i]!.padEnd(width)}  ${requirement}`]),
    details: { problems },
  });
}
