/**
 * Equal parameters: the expert width at which a variant has as many parameters as another one.
 *
 * @module
 */
import { key } from "../../../mod.ts";
import type { TrainConfig } from "../config.ts";
import { buildModel, countParameters, type ParameterCount } from "../model.ts";

/** A width and the parameters that it gives. */
export interface MatchedWidth {
  /** Hidden width of one expert. */
  readonly expertWidth: number;
  /** Parameters of the model with it. */
  readonly parameters: number;
}

const WIDEST = 65_536;

/**
 * Counts the parameters of a configuration without computing any: they are drawn lazily, and what a table is made from
 * does not matter.
 *
 * @param config The configuration.
 * @returns The counts.
 * @throws {ConfigError} If the router cannot have these sizes.
 */
export function parametersOf(config: TrainConfig): ParameterCount {
  return countParameters(config, buildModel(config, "checkpoint").init(key(0)));
}

/**
 * Finds the expert width whose number of parameters is nearest to a target. More width never means fewer parameters, so
 * the width is found by halving.
 *
 * @param target Parameters to come near to.
 * @param count Counts the parameters with an expert width; -Infinity for widths that are too small to be.
 * @returns The width, in 1..65536.
 */
export function matchWidth(target: number, count: (expertWidth: number) => number): MatchedWidth {
  let [low, high] = [1, 2];
  while (high < WIDEST && count(high) < target) [low, high] = [high, high * 2];
  // The target lies between the two, or outside of what any width gives.
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (count(middle) < target) low = middle;
    else high = middle;
  }
  const [below, above] = [count(low), count(high)];
  return Math.abs(below - target) <= Math.abs(above - target)
    ? { expertWidth: low, parameters: below }
    : { expertWidth: high, parameters: above };
}
