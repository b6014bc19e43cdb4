/**
 * Product keys: the best of n² keys from the scores of 2n half keys.
 *
 * @module
 */
import { ConfigError, ShapeError } from "../core/errors.ts";
import { formatAval, sameShape } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, mul, remainder } from "../ops/binary.ts";
import { takeAlong } from "../ops/gather.ts";
import { topK } from "../ops/top_k.ts";
import { reshape, unsqueeze } from "../ops/view.ts";

/** The best keys, best first. */
export interface ProductKeys {
  /** Their scores, [..., k]. Differentiable. */
  readonly scores: Tensor;
  /** Their numbers, u32 [..., k]: n · (first half) + (second half). */
  readonly rows: Tensor;
}

/**
 * Finds the `k` best of n² keys, where key n · i + j scores `first[i] + second[j]`.
 *
 * Shapes: first and second [..., n] -> scores and rows [..., k]. The search is exact, because the k best sums lie among
 * those of the k best halves: it adds k² numbers, not n². Ties go to the better first half.
 *
 * @param k Keys to find, 1..n.
 * @throws {ShapeError} If the halves differ in shape, or have no axis.
 * @throws {ConfigError} If `k` is not a whole number in 1..n.
 *
 * @example The best two of nine
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, read, searchProductKeys, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const { scores, rows } = await read(searchProductKeys(tensor([0, 4, 1]), tensor([1, 0, 3]), 2));
 * assertEquals([[...scores], [...rows]], [[7, 5], [5, 3]]);
 * ```
 *
 * Source: Lample et al. 2019.
 */
export function searchProductKeys(first: Tensor, second: Tensor, k: number): ProductKeys {
  const count = first.shape.at(-1);
  if (count === undefined || !sameShape(first.shape, second.shape)) {
    throw new ShapeError("shape/product-keys", {
      summary: `Cannot search product keys: scores of the halves are ${formatAval(first)} and ${formatAval(second)}`,
      facts: [["op", "searchProductKeys(first, second, k)"]],
      fix: "give both halves the shape [..., n]",
      details: { first: first.shape, second: second.shape },
    });
  }
  if (!(Number.isInteger(k) && k >= 1 && k <= count)) {
    throw new ConfigError("config/product-keys", {
      summary: `Cannot search product keys: k is ${k}`,
      facts: [["op", "searchProductKeys(first, second, k)"], ["first", formatAval(first)]],
      fix: `use a whole number in 1..${count}, the number of half keys`,
      details: { k, halves: count },
    });
  }
  const [left, right] = [topK(first, k), topK(second, k)];
  const sums = add(unsqueeze(left.values, -1), unsqueeze(right.values, -2)); // [..., k, k]
  const best = topK(reshape(sums, [...first.shape.slice(0, -1), k * k]), k);
  const i = takeAlong(left.indices, div(best.indices, k));
  const j = takeAlong(right.indices, remainder(best.indices, k));
  return { scores: best.values, rows: add(mul(i, count), j) };
}
