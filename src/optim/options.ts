/**
 * Checking the options of optimizers and schedules when they are built: zod finds the problems, one ConfigError tells all.
 *
 * @module
 */
import { z } from "zod";
import { expectNoProblems, type OptionProblem } from "../core/errors.ts";

function numberThat(requirement: string, holds: (value: number) => boolean): z.ZodType<number> {
  return z.custom<number>((value) => typeof value === "number" && holds(value), { error: requirement });
}

/** A finite number above 0. */
export const positive: z.ZodType<number> = numberThat(
  "must be a number above 0",
  (value) => value > 0 && value < Infinity,
);
/** A finite number from 0 up. */
export const nonNegative: z.ZodType<number> = numberThat(
  "must be a number from 0 up",
  (value) => value >= 0 && value < Infinity,
);
/** Any finite number. */
export const finite: z.ZodType<number> = numberThat("must be a finite number", Number.isFinite);
/** The decay of a moving average: with 1 it would never move. */
export const decay: z.ZodType<number> = numberThat(
  "must be a number from 0 up, below 1",
  (value) => value >= 0 && value < 1,
);
/** A share from 0 to 1. */
export const fraction: z.ZodType<number> = numberThat(
  "must be a number from 0 to 1",
  (value) => value >= 0 && value <= 1,
);
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
/** True or false. */
export const flag: z.ZodType<boolean> = z.custom<boolean>((value) => typeof value === "boolean", {
  error: "must be true or false",
});
/** A function. */
export const callback: z.ZodType = z.custom((value) => typeof value === "function", { error: "must be a function" });
/** A learning rate: a number or a schedule. */
export const learningRate: z.ZodType = z.custom(
  (value) => typeof value === "function" || nonNegative.safeParse(value).success,
  { error: "must be a number from 0 up or a schedule" },
);

function valueAt(options: unknown, path: readonly PropertyKey[]): unknown {
  const value = path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown>)?.[key], options);
  return typeof value === "function" ? "a function" : value;
}

/**
 * Checks options against a schema.
 *
 * @param what The factory's name, for the message.
 * @throws {ConfigError} Listing every invalid, missing and unknown option.
 */
export function expectOptions(what: string, shape: Readonly<Record<string, z.ZodType>>, options: unknown): void {
  const result = z.strictObject(shape).safeParse(options);
  if (result.success) return;
  const known = Object.keys(shape).join(", ");
  const problems = result.error.issues.flatMap((issue): OptionProblem[] =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => [key, valueAt(options, [key]), `unknown option; the options are ${known}`])
      : [[issue.path.join("."), valueAt(options, issue.path), issue.message]]
  );
  expectNoProblems(what, problems);
}
