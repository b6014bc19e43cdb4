/**
 * What simpler compressors reach on a text, in bits per byte: the numbers a trained model is held against.
 *
 * @module
 */
import { gzipSync } from "node:zlib";

/**
 * Compresses a text with `gzip -9`, its header included.
 *
 * @param text At least one byte.
 * @returns Bits of the compressed text per byte of the text.
 */
export function gzipBitsPerByte(text: Uint8Array): number {
  return gzipSync(text, { level: 9 }).length * 8 / text.length;
}

const ORDERS = [0, 1, 2, 3] as const;

/**
 * Counts a byte model of order 3 on one text and measures it on another: each byte is predicted from the three before it,
 * interpolated down to order 0 and the uniform distribution with Witten–Bell weights.
 *
 * @param train The text to count.
 * @param heldOut The text to predict, at least one byte. Its counts are not learned.
 * @returns Mean negative base-2 logarithm of the predicted probability.
 *
 * Source: Witten and Bell 1991, method C.
 */
export function orderThreeBitsPerByte(train: Uint8Array, heldOut: Uint8Array): number {
  const tables = ORDERS.map((order) => countContexts(train, order));
  let bits = 0;
  for (let at = 0; at < heldOut.length; at++) {
    let probability = 1 / 256;
    for (const order of ORDERS) {
      if (at < order) break;
      const { followed, total, distinct } = tables[order]!;
      const context = contextAt(heldOut, at, order);
      const seen = total.get(context);
      if (seen === undefined) break;
      const kinds = distinct.get(context)!;
      const count = followed.get(context * 256 + heldOut[at]!) ?? 0;
      probability = (count + kinds * probability) / (seen + kinds);
    }
    bits -= Math.log2(probability);
  }
  return bits / heldOut.length;
}

interface Counts {
  /** How often a byte followed a context, by `context * 256 + byte`. */
  readonly followed: ReadonlyMap<number, number>;
  /** How often a context occurred. */
  readonly total: ReadonlyMap<number, number>;
  /** How many different bytes followed a context. */
  readonly distinct: ReadonlyMap<number, number>;
}

function countContexts(text: Uint8Array, order: number): Counts {
  const followed = new Map<number, number>();
  for (let at = order; at < text.length; at++) {
    const entry = contextAt(text, at, order) * 256 + text[at]!;
    followed.set(entry, (followed.get(entry) ?? 0) + 1);
  }
  const total = new Map<number, number>();
  const distinct = new Map<number, number>();
  for (const [entry, count] of followed) {
    const context = Math.floor(entry / 256);
    total.set(context, (total.get(context) ?? 0) + count);
    distinct.set(context, (distinct.get(context) ?? 0) + 1);
  }
  return { followed, total, distinct };
}

function contextAt(text: Uint8Array, at: number, order: number): number {
  let context = 0;
  for (let back = order; back > 0; back--) context = context * 256 + text[at - back]!;
  return context;
}
