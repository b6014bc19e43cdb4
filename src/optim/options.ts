/**
 * What options of optimizers accept beyond the common kinds of `ops/options.ts`.
 *
 * @module
 */
import { z } from "zod";
import { nonNegative } from "../ops/options.ts";

/** A learning rate: a number or a schedule. */
export const learningRate: z.ZodType = z.custom(
  (value) => typeof value === "function" || nonNegative.safeParse(value).success,
  { error: "must be a number from 0 up or a schedule" },
);
