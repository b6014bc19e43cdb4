/**
 * Sizes of an attention and where its elements are, as all of its kernels see them.
 *
 * Letters: B batches, H heads, S positions, C channels of a head.
 *
 * @module
 */

/** Where the rows of an operand are. The channels of a head are adjacent. */
export interface RowPlace {
  /** First element. */
  readonly start: number;
  /** Elements from one batch to the next. */
  readonly batch: number;
  /** Elements from one head to the next. */
  readonly head: number;
  /** Elements from one position to the next. */
  readonly row: number;
  /**
   * Whether channels are as a projection left them, and turn with their position on the way in (rotary), their gradients
   * back on the way out.
   */
  readonly turned: boolean;
}

/** Sizes of an attention; all of them from 1 up. */
export interface AttentionShape {
  /** B. */
  readonly batch: number;
  /** H. */
  readonly heads: number;
  /** S. */
  readonly length: number;
  /** C. */
  readonly channels: number;
  /** Factor of the scores. */
  readonly scale: number;
  /** Where queries, keys and values are, and their gradients; those of a joint projection are beside each other. */
  readonly operands: readonly [RowPlace, RowPlace, RowPlace];
  /** Where the result is, and its cotangent. */
  readonly result: RowPlace;
}

/** Whether heads start at, and consist of, whole groups of four elements. */
export function isAligned({ channels, operands, result }: AttentionShape): boolean {
  return [...operands, result].every(({ start, batch, head, row }) =>
    [channels, start, batch, head, row].every((n) => n % 4 === 0)
  );
}

/** Whether the operands are parts of one projection, to be turned. */
export function isJoint({ operands }: AttentionShape): boolean {
  return operands[0].turned;
}
