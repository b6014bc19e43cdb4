/**
 * A hash of 32-bit integers that host and device compute alike: token ids to evenly spread buckets, without a table.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul } from "../ops/binary.ts";
import { bitwiseAnd, bitwiseXor, shiftRight } from "../ops/bitwise.ts";
import { expectInteger } from "../ops/operand.ts";

/** The golden ratio's fraction in 32 bits: added first, because the mixer maps 0 to 0. */
const GOLDEN = 0x9e3779b9;

/**
 * Mixes the bits of integers: each bit of the argument changes about half of the result's. 0 stays 0.
 *
 * @param x u32 of any shape; i32 counts modulo 2^32.
 * @returns u32 of the same shape.
 * @throws {DTypeError} If the argument does not hold integers.
 *
 * Source: the finalizer of MurmurHash3.
 */
export function mixBits(x: Tensor): Tensor {
  const start = castTo(expectInteger("mixBits", x), "u32");
  const first = mul(bitwiseXor(start, shiftRight(start, 16)), 0x85ebca6b);
  const second = mul(bitwiseXor(first, shiftRight(first, 13)), 0xc2b2ae35);
  return bitwiseXor(second, shiftRight(second, 16));
}

/**
 * Mixes pairs of integers in which the order counts: `mixBits(second ^ mixBits(first + 0x9e3779b9))`.
 *
 * @param first u32 of any shape, such as the ids before.
 * @param second u32 of the same shape.
 * @returns u32 of that shape.
 * @throws {DTypeError} If an argument does not hold integers.
 */
export function mixPair(first: Tensor, second: Tensor): Tensor {
  return mixBits(bitwiseXor(castTo(second, "u32"), mixBits(add(castTo(first, "u32"), GOLDEN))));
}

/**
 * Spreads mixed integers evenly over buckets: the high half of the 64-bit product of each and `buckets`, which is even
 * for every number of buckets.
 *
 * @param mixed u32 of any shape whose high bits are random, as {@linkcode mixBits} makes them.
 * @param buckets Number of buckets, 1..65,536.
 * @returns u32 numbers below `buckets`, of the same shape.
 */
export function bucketOf(mixed: Tensor, buckets: number): Tensor {
  // In halves of 16 bits neither product nor their sum exceeds 32 bits.
  const high = mul(shiftRight(mixed, 16), buckets);
  const low = shiftRight(mul(bitwiseAnd(mixed, 0xffff), buckets), 16);
  return shiftRight(add(high, low), 16);
}

/**
 * Hashes integers to buckets: their mixed bits, spread by {@linkcode bucketOf}.
 *
 * @param buckets Number of buckets, 1..65,536.
 * @returns u32 numbers below `buckets`, of the shape of `x`.
 */
export function hashToBuckets(x: Tensor, buckets: number): Tensor {
  return bucketOf(mixBits(add(castTo(x, "u32"), GOLDEN)), buckets);
}
