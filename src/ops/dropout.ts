/**
 * Dropout.
 *
 * @module
 */
import { expectNoProblems } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "./binary.ts";
import { less } from "./compare.ts";
import { expectFloat } from "./operand.ts";
import { bitsFromWords } from "./random_words.ts";
import { where } from "./select.ts";
import { uniformFromBits } from "./threefry.ts";

/**
 * Sets elements to zero with a probability and divides the others by the probability of staying, so that the mean
 * is kept. Consumes the key.
 *
 * At rate 0 the result is `x` itself and the key is not consumed. Leave the call out in evaluation: there is no mode.
 *
 * @param rate Probability of zero, from 0 up to 1.
 * @returns A tensor like `x`.
 * @throws {ConfigError} If the rate is not from 0 up to 1.
 * @throws {DTypeError} If `x` is not a float tensor.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 *
 * @example Every element is dropped or doubled
 * ```ts
 * import { assert } from "@std/assert";
 * import { dropout, init, key, ones } from "@switchyard/switchyard";
 *
 * await init();
 * const dropped = await dropout(key(0), ones([100]), 0.5).data();
 * assert(dropped.every((value) => value === 0 || value === 2));
 * ```
 */
export function dropout(key: Key, x: Tensor, rate: number): Tensor {
  expectNoProblems("dropout", rate >= 0 && rate < 1 ? [] : [["rate", rate, "must be from 0 up to 1"]]);
  expectFloat("dropout", x);
  if (rate === 0) return x;
  const drawn = uniformFromBits(bitsFromWords("dropout", key.consume("dropout"), x.shape), 0, 1);
  return where(less(drawn, 1 - rate), mul(x, 1 / (1 - rate)), 0);
}
