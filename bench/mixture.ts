/**
 * The mixtures of experts that several benchmarks run: their sizes, and the tokens whose results are checked.
 *
 * @module
 */
import type { Load } from "./forced_router.ts";

/** Sizes of a mixture of experts. */
export interface Mixture {
  /** T. */
  readonly tokens: number;
  /** D. */
  readonly width: number;
  /** E. */
  readonly experts: number;
  /** F, the inner width of one expert. */
  readonly inner: number;
  /** K, experts of a token. */
  readonly k: number;
  /** How tokens fall on experts where that is forced, evenly by default. */
  readonly load?: Load;
}

/** A mixture of the size of a test. */
export const SMALL_MIXTURE: Mixture = { tokens: 2048, width: 128, experts: 8, inner: 256, k: 1 };
/** One of the size of a layer. */
export const LARGE_MIXTURE: Mixture = { tokens: 4096, width: 256, experts: 32, inner: 512, k: 2 };

/** Tokens that are checked; they fall on both sides of block borders of any size. */
const CHECKED_TOKENS = 12;

/** The tokens whose results are compared with the definition, spread over all. */
export function checkedTokens({ tokens }: Pick<Mixture, "tokens">): readonly number[] {
  // No token twice: its gradient would be counted twice.
  const count = Math.min(CHECKED_TOKENS, tokens);
  return Array.from({ length: count }, (_, i) => Math.floor(i * (tokens - 1) / Math.max(1, count - 1)));
}
