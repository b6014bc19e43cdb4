/**
 * Checking the options of factories when they are built: zod finds the problems, one ConfigError tells all of them.
 *
 * @module
 */
import { z } from "zod";
import { expectNoProblems, type OptionProblem } from "../core/errors.ts";
import { nearestName } from "../core/suggest.ts";

/** What each option accepts, by name. */
export type OptionShape = Readonly<Record<string, z.ZodType>>;

/** Numbers that satisfy a condition; the requirement completes "k  5  …", such as "must be above 0". */
export function numberThat(requirement: string, holds: (value: number) => boolean): z.ZodType<number> {
  return z.custom<number>((value) => typeof value === "number" && holds(value), { error: requirement });
}

/** A count of at least 1. */
export const positiveCount: z.ZodType<number> = numberThat(
  "must be a whole number from 1 up",
  (value) => Number.isSafeInteger(value) && value >= 1,
);

/** A count of at least 0. */
export const count: z.ZodType<number> = numberThat(
  "must be a whole number from 0 up",
  (value) => Number.isSafeInteger(value) && value >= 0,
);

/** A finite number above 0. */
export const positive: z.ZodType<number> = numberThat(
  "must be a number above 0",
  (value) => value > 0 && value < Infinity,
);

/** A finite number from 0 up, below 1. */
export const belowOne: z.ZodType<number> = numberThat(
  "must be a number from 0 up, below 1",
  (value) => value >= 0 && value < 1,
);

/** A finite number from 0 up. */
export const nonNegative: z.ZodType<number> = numberThat(
  "must be a number from 0 up",
  (value) => value >= 0 && value < Infinity,
);

/** Any finite number. */
export const finite: z.ZodType<number> = numberThat("must be a finite number", Number.isFinite);

/** A share from 0 to 1. */
export const fraction: z.ZodType<number> = numberThat(
  "must be a number from 0 to 1",
  (value) => value >= 0 && value <= 1,
);

/** True or false. */
export const flag: z.ZodType<boolean> = z.custom<boolean>((value) => typeof value === "boolean", {
  error: "must be true or false",
});

/** A function. */
export const callback: z.ZodType = z.custom((value) => typeof value === "function", { error: "must be a function" });

/** One of some names; a mistyped one is answered with the nearest. */
export function oneOf(...names: readonly string[]): z.ZodType<string> {
  return z.custom<string>((value) => names.includes(value as string), {
    error({ input }) {
      const near = typeof input === "string" ? nearestName(input, names) : undefined;
      return `must be one of ${names.join(", ")}${near === undefined ? "" : `; did you mean ${near}?`}`;
    },
  });
}

function valueAt(options: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | null | undefined)?.[key], options);
}

function unknownOption(key: string, options: unknown, known: readonly string[]): OptionProblem {
  const near = nearestName(key, known);
  const hint = near === undefined ? `the options are ${known.join(", ")}` : `did you mean ${near}?`;
  return [key, valueAt(options, [key]), `unknown option; ${hint}`];
}

/**
 * Checks options against a shape; options that are not in it are problems too.
 *
 * @param what The factory's name, for the message.
 * @param crossChecks Problems that concern several options at once; looked for only where each is valid by itself.
 * @throws {ConfigError} Listing every invalid, missing and unknown option.
 */
export function expectOptions(
  what: string,
  shape: OptionShape,
  options: unknown,
  crossChecks: () => readonly OptionProblem[] = () => [],
): void {
  const result = z.strictObject(shape).safeParse(options);
  if (result.success) return expectNoProblems(what, crossChecks());
  const known = Object.keys(shape);
  const problems = result.error.issues.flatMap((issue): OptionProblem[] =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => unknownOption(key, options, known))
      : [[issue.path.join(".") || "options", valueAt(options, issue.path), issue.message]]
  );
  expectNoProblems(what, problems);
}
