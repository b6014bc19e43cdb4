/**
 * What options of layers accept beyond the common kinds of `ops/options.ts`.
 *
 * @module
 */
import { z } from "zod";
import { numberThat } from "../ops/options.ts";

/** A finite number from 0 up. */
export const nonNegative: z.ZodType<number> = numberThat(
  "must be a number from 0 up",
  (value) => value >= 0 && value < Infinity,
);

/** True or false. */
export const flag: z.ZodType<boolean> = z.custom<boolean>((value) => typeof value === "boolean", {
  error: "must be true or false",
});

/** A function. */
export const callback: z.ZodType = z.custom((value) => typeof value === "function", { error: "must be a function" });

function hasMethods(value: unknown, ...methods: readonly string[]): boolean {
  const part = value as Readonly<Record<string, unknown>> | null | undefined;
  return methods.every((method) => typeof part?.[method] === "function");
}

/** A layer. */
export const layerPart: z.ZodType = z.custom((value) => hasMethods(value, "init", "apply"), {
  error: "must be a layer, with init and apply",
});

/** A router. */
export const routerPart: z.ZodType = z.custom((value) => hasMethods(value, "init", "route"), {
  error: "must be a router, with init and route",
});
