/**
 * What can be derived from the two words of a key: words of other keys, and bits. Keys as users see them, with the
 * check that each is consumed once, are in `random.ts`.
 *
 * @module
 */
import { broadcastTo, fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import { expectShape, formatAval, type Shape, sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { stack } from "./concat.ts";
import { slice } from "./slice.ts";
import { type HashWord, threefry } from "./threefry.ts";

/**
 * Hashes a key with the counters (0, counter).
 *
 * @throws {ShapeError} If the key is a batch of keys, which only vmap takes apart.
 */
function hashed(op: string, words: Tensor, counter: Tensor, word: HashWord): Tensor {
  if (words.shape.length !== 1) {
    throw new ShapeError("shape/key", {
      summary: `Cannot draw from a batch of keys ${formatAval(words)} at once`,
      facts: [["op", op]],
      fix: "vmap the function over the keys, so that each call sees one",
    });
  }
  const [k0, k1] = [0, 1].map((i) => broadcastTo(slice(words, [i]), counter.shape)) as [Tensor, Tensor];
  return threefry(k0, k1, fullLike(counter.shape, "u32", 0), counter, word);
}

/** Words of the keys that a key and u32 counters give: [...counter.shape, 2]. */
export function foldWords(op: string, words: Tensor, counter: Tensor): Tensor {
  return stack([hashed(op, words, counter, 0), hashed(op, words, counter, 1)], { axis: -1 });
}

/** Words of `count` independent keys, [count, 2]: those of the counters 0..count-1. */
export function splitWords(op: string, words: Tensor, count: number): Tensor {
  return foldWords(op, words, iota([count], "u32", 0));
}

/** Random bits, u32 of a shape: element n depends on the key and n alone. */
export function bitsFromWords(op: string, words: Tensor, shape: Shape): Tensor {
  expectShape(op, shape);
  return hashed(op, words, reshapeTo(iota([sizeOf(shape)], "u32", 0), shape), "xor");
}
