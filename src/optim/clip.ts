/**
 * Gradient clipping by the norm of the whole tree.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, mul } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { sqrt, square } from "../ops/unary.ts";
import { floatLeaves, mapFloats } from "./leaves.ts";
import { expectOptions, positive } from "../ops/options.ts";
import { type GradientTransform, stateless } from "./transform.ts";

/**
 * The Euclidean norm of all float leaves of a tree taken together, an f32 scalar. A tree without any has norm 0.
 *
 * @example The norm over two leaves
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { globalNorm, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals(await globalNorm({ a: tensor([1, 2]), b: tensor(2) }).item(), 3);
 * ```
 */
export function globalNorm(tree: unknown): Tensor {
  const squares = Object.values(floatLeaves(tree)).map((leaf) => sum(square(castTo(leaf, "f32"))));
  const [first, ...rest] = squares;
  if (first === undefined) return fullLike([], "f32", 0);
  return sqrt(rest.reduce((total, one) => add(total, one), first));
}

/**
 * Shrinks updates so that their global norm is at most `maxNorm`, and keeps their direction.
 *
 * Below the limit they pass through bit for bit. A norm that is not a number makes every update so: nothing is hidden.
 *
 * @throws {ConfigError} If `maxNorm` is not above 0.
 *
 * @example Clipping a long gradient
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { clipByGlobalNorm, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const [clipped] = clipByGlobalNorm(5).update(tensor([6, -8]), null, tensor([0, 0]));
 * assertEquals([...await clipped.data()], [3, -4]);
 * ```
 */
export function clipByGlobalNorm(maxNorm: number): GradientTransform<null> {
  expectOptions("clipByGlobalNorm", { maxNorm: positive }, { maxNorm });
  return stateless((updates) => {
    const norm = globalNorm(updates);
    const factor = where(less(norm, maxNorm), 1, div(maxNorm, norm));
    return mapFloats(updates, (update) => mul(update, factor));
  });
}
