/**
 * Random keys and bits. A key is split by purpose and consumed once; what it draws depends on the key and the shape
 * alone, whatever the device, batch or order. The distributions are in `samplers.ts`.
 *
 * The keys, bits and splits are those of JAX with `jax_threefry_partitionable`.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import { expectNoProblems, ShapeError } from "../core/errors.ts";
import { Key } from "../core/key.ts";
import { expectShape, formatAval, type Shape } from "../core/shape.ts";
import { Tensor } from "../core/tensor.ts";
import { tensor } from "./creation.ts";
import { expectInteger } from "./operand.ts";
import { bitsFromWords, foldWords, splitWords } from "./random_words.ts";
import { slice } from "./slice.ts";

/**
 * Makes a key from a seed.
 *
 * @param seed A whole number of 32 bits; a negative one counts as its two's complement.
 * @throws {ConfigError} If the seed is not one.
 *
 * @example Equal seeds draw equal numbers
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, normal } from "@switchyard/switchyard";
 *
 * await init();
 * const first = await normal(key(7), [3]).data();
 * assertEquals(first, await normal(key(7), [3]).data());
 * ```
 */
export function key(seed: number): Key {
  const isSeed = Number.isInteger(seed) && seed >= -(2 ** 31) && seed < 2 ** 32;
  expectNoProblems("key", isSeed ? [] : [["seed", seed, "must be a whole number from -2^31 to 2^32 - 1"]]);
  return new Key(tensor([0, seed >>> 0], { dtype: "u32" }));
}

/** The two words of a key, u32[2], for checkpoints. It does not count as a use of the key. */
export function keyData(key: Key): Tensor {
  return key.tensor;
}

/**
 * Makes a key from the words that {@linkcode keyData} gave.
 *
 * @param words u32[2], or u32[n, 2] for a batch of keys.
 * @throws {ShapeError} If the last axis does not have size 2.
 */
export function keyFromData(words: Tensor): Key {
  expectInteger("keyFromData", words);
  if (words.shape.at(-1) !== 2) {
    throw new ShapeError("shape/key", {
      summary: `Cannot make a key from ${formatAval(words)}: a key has two words`,
      facts: [["op", "keyFromData(words)"]],
      fix: "pass what keyData(key) returned",
    });
  }
  return new Key(castTo(words, "u32"));
}

/**
 * Splits a key into independent keys, and consumes it.
 *
 * More keys leave the first ones unchanged. Key n equals `foldIn(key, n)`, so use one of the two on a key, not both.
 *
 * @param count How many, two by default.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 *
 * @example A key for each purpose
 * ```ts
 * import { assertNotEquals } from "@std/assert";
 * import { init, key, normal, split } from "@switchyard/switchyard";
 *
 * await init();
 * const [forWeights, forBias] = split(key(0));
 * assertNotEquals(await normal(forWeights, [2]).data(), await normal(forBias, [2]).data());
 * ```
 */
export function split(key: Key): [Key, Key];
/** Splits a key into `count` keys. */
export function split<const N extends number>(key: Key, count: N): SplitKeys<N>;
/** Implementation of both forms. */
export function split(key: Key, count = 2): Key[] {
  const { tensor: keys } = splitBatch(key, count);
  return Array.from({ length: count }, (_, i) => new Key(slice(keys, [i])));
}

/** Tuples of keys by their length. */
export interface KeyTuples {
  /** Two keys. */
  readonly 2: [Key, Key];
  /** Three keys. */
  readonly 3: [Key, Key, Key];
  /** Four keys. */
  readonly 4: [Key, Key, Key, Key];
  /** Five keys. */
  readonly 5: [Key, Key, Key, Key, Key];
  /** Six keys. */
  readonly 6: [Key, Key, Key, Key, Key, Key];
}

/** What {@linkcode split} returns: a tuple for a small count that is written out, else an array. */
export type SplitKeys<N extends number> = N extends keyof KeyTuples ? KeyTuples[N] : Key[];

/**
 * Splits a key into a batch of keys for vmap, and consumes it.
 *
 * @returns A key whose words have the batch as axis 0: key n is that of `split(key, count)[n]`.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 *
 * @example Independent noise for each example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, type Key, key, normal, splitBatch, vmap } from "@switchyard/switchyard";
 *
 * await init();
 * const noise = vmap((each: Key) => normal(each, [3]))(splitBatch(key(0), 5));
 * assertEquals(noise.shape, [5, 3]);
 * ```
 */
export function splitBatch(key: Key, count: number): Key {
  expectShape("split(key, count)", [count]);
  return new Key(splitWords("split", key.consume("split"), count));
}

/**
 * Derives a key from a key and a number, such as the step or the layer. The key is not consumed: fold in a different
 * number each time.
 *
 * @param data A whole number of 32 bits, or an integer tensor where it changes inside a jitted function. A tensor with
 * axes gives a batch of keys for vmap.
 * @throws {ConfigError} If a number is not whole.
 * @throws {DTypeError} If a tensor does not hold integers.
 */
export function foldIn(key: Key, data: number | Tensor): Key {
  if (!(data instanceof Tensor)) {
    expectNoProblems("foldIn", Number.isInteger(data) ? [] : [["data", data, "must be a whole number"]]);
  }
  const counter = data instanceof Tensor ? castTo(expectInteger("foldIn", data), "u32") : fullLike([], "u32", data);
  return new Key(foldWords("foldIn", key.tensor, counter));
}

/**
 * Random bits: every u32 is equally likely. Consumes the key.
 *
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 */
export function bits(key: Key, shape: Shape): Tensor {
  return bitsFromWords("bits", key.consume("bits"), shape);
}
