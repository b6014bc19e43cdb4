/**
 * What a run computes in: f32, or a half-precision type with f32 parameters behind it.
 *
 * @module
 */
import { type FloatType, type LossScale, lossScale, mixedPrecision } from "../../mod.ts";
import type { Model, ModelParams } from "./model.ts";

/** The types, in the order of the help text. */
export const PRECISIONS: readonly FloatType[] = ["f32", "bf16", "f16"];

/** Below this factor of the loss a run whose gradients are not finite has more wrong with it than its type's range. */
export const LEAST_LOSS_SCALE = 1;

/** Steps without an overflow after which the factor grows: few, because a run of the program takes few. */
const GROWTH_INTERVAL = 500;

/**
 * Makes a model compute in a type. Its parameters stay f32 and are rounded where it uses them, but for routers and norms.
 *
 * @param model The model.
 * @param type The type; with f32 it stays as it is.
 * @returns A model of the same parameters.
 */
export function inPrecision(model: Model, type: FloatType): Model {
  if (type === "f32") return model;
  const { wrap } = mixedPrecision({ compute: type });
  return {
    ...model,
    name: `${model.name} in ${type}`,
    apply: wrap(model.apply),
    prefill: wrap(model.prefill),
    decodeStep: wrap(model.decodeStep),
  };
}

/**
 * Rounds the parameters of a model once, for calls that follow each other with the same ones: what is rounded already costs
 * the model of {@linkcode inPrecision} nothing more.
 *
 * @param params Its parameters.
 * @param type What it computes in.
 * @returns Parameters that give the same results.
 */
export function roundedOnce(params: ModelParams, type: FloatType): ModelParams {
  return type === "f32" ? params : mixedPrecision({ compute: type }).round(params);
}

/**
 * How the loss of a run is scaled.
 *
 * @param type What it computes in.
 * @returns A rule that follows the gradients for f16; undefined for types with the range of f32.
 */
export function lossScaleFor(type: FloatType): LossScale | undefined {
  return type === "f16" ? lossScale({ growthInterval: GROWTH_INTERVAL, minimum: LEAST_LOSS_SCALE }) : undefined;
}
