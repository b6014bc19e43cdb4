/**
 * Sizes of a product-key memory that costs what a dense layer does.
 *
 * @module
 */

/** Heads of the memory. */
export const PRODUCT_KEY_HEADS = 4;

/** Sizes of the memory. */
export interface ProductKeySizes {
  /** Half keys of a head, n: the memory has n² values. */
  readonly halfKeys: number;
  /** Values that a head reads. */
  readonly k: number;
}

/**
 * Sizes a memory. Each of H heads scores its 2 · n half keys of half the width and adds up k values, so D · H · (n + k)
 * products take the place of the 2 · D · F of a dense layer.
 *
 * @param expertWidth Inner width of that layer, F.
 * @param k Values that a head reads; an eighth of what a head may cost by default.
 */
export function productKeySizes(expertWidth: number, k: number | null = null): ProductKeySizes {
  const ofHead = costOfHead(expertWidth);
  const kept = k ?? Math.max(1, Math.floor(ofHead / 8));
  return { halfKeys: ofHead - kept, k: kept };
}

/** The most values that a head can read at that cost: as many as it has half keys. */
export function mostKeptRows(expertWidth: number): number {
  return Math.floor(costOfHead(expertWidth) / 2);
}

/** Half keys and values of a head together, n + k. */
function costOfHead(expertWidth: number): number {
  return Math.max(2, Math.floor(2 * expertWidth / PRODUCT_KEY_HEADS));
}
