/**
 * The kinds of options of the training program: what each accepts, and the words of its refusal.
 *
 * @module
 */
import { z } from "zod";

/** One option. */
export interface Option {
  /** How its value is written on a command line; a switch has none. */
  readonly kind: "number" | "text" | "switch";
  /** What is accepted. */
  readonly schema: z.ZodType;
  /** What it means, for the help text. */
  readonly help: string;
}

/** A whole number in a range. */
export function integer(minimum: number, maximum: number, help: string): Option {
  const requirement = `must be an integer in ${minimum}..${maximum}`;
  const schema = z.number(requirement).int(requirement).min(minimum, requirement).max(maximum, requirement);
  return { kind: "number", schema, help };
}

/** Any number above 0; `requirement` says of what. */
export function positive(requirement: string, help: string): Option {
  return { kind: "number", schema: z.number(requirement).positive(requirement), help };
}

/** A number up to a limit, from 0 up or only above it. */
export function upTo(maximum: number, help: string, zero: "from" | "above" = "from"): Option {
  const requirement = zero === "from" ? `must be in 0..${maximum}` : `must be above 0 and at most ${maximum}`;
  const schema = z.number(requirement).max(maximum, requirement);
  return {
    kind: "number",
    schema: zero === "from" ? schema.min(0, requirement) : schema.positive(requirement),
    help,
  };
}

/** A share of a whole that is not all of it. */
export function share(help: string): Option {
  const requirement = "must be at least 0 and below 1";
  return { kind: "number", schema: z.number(requirement).min(0, requirement).lt(1, requirement), help };
}

/** One of several names. */
export function choice(choices: readonly string[], help: string): Option {
  return { kind: "text", schema: z.enum(choices, `must be one of ${choices.join(", ")}`), help };
}

/** Any text but the empty one; `requirement` says what it stands for. */
export function text(requirement: string, help: string): Option {
  return { kind: "text", schema: z.string(requirement).min(1, requirement), help };
}

/** The path of a folder. */
export function folder(help: string): Option {
  return text("must name a folder", help);
}

/** True or false. */
export function flag(help: string): Option {
  return { kind: "switch", schema: z.boolean("must be true or false"), help };
}

/** The same option, which may also be null: not given, or without a limit. */
export function orNull<O extends Option>(option: O): O {
  return { ...option, schema: option.schema.nullable() };
}
