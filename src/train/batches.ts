/**
 * Windows of text. Training windows are a pure function of seed and step, so a resumed run sees the batches it would have
 * seen; validation windows are fixed and never overlap.
 *
 * @module
 */

/** A batch: `rows` windows of `length` bytes, row after row, each byte widened to a u32. */
export interface Windows {
  /** The bytes, u32[rows, length]. */
  readonly tokens: Uint32Array;
  /** Windows. */
  readonly rows: number;
  /** Bytes in a window: one more than a model predicts, since a byte is predicted from those before it. */
  readonly length: number;
}

/** Which training batch to draw. */
export interface BatchOptions {
  /** Seed of the run, an unsigned 32-bit integer. */
  readonly seed: number;
  /** Step of the run, from 0. */
  readonly step: number;
  /** Windows. */
  readonly batch: number;
  /** Predicted bytes in a window. */
  readonly seq: number;
}

/** How much to validate on. */
export interface ValidationOptions {
  /** Predicted bytes in a window. */
  readonly seq: number;
  /** Windows in a batch; a text with fewer windows gives one smaller batch. */
  readonly batch: number;
  /** Most batches; where the text holds more, windows are taken evenly from all of it. */
  readonly maxBatches: number;
}

/**
 * Draws the training batch of a step: `batch` windows, each starting anywhere in the text with equal chance.
 *
 * The draw is counter-based: it depends on the arguments alone, not on batches drawn before.
 *
 * @param text At least `seq + 1` bytes; see {@linkcode expectLongEnough}.
 * @returns u32[batch, seq + 1].
 */
export function trainingBatch(text: Uint8Array, { seed, step, batch, seq }: BatchOptions): Windows {
  const starts = text.length - seq;
  const from = Array.from({ length: batch }, (_, row) => Math.floor(uniform(seed, step, row) * starts));
  return cutWindows(text, from, seq + 1);
}

/**
 * Cuts a held-out text into batches of windows that predict no byte twice. All batches have the same shape.
 *
 * @param text At least `seq + 1` bytes; see {@linkcode expectLongEnough}.
 * @returns One to `maxBatches` batches, each u32[rows, seq + 1].
 */
export function validationBatches(text: Uint8Array, { seq, batch, maxBatches }: ValidationOptions): readonly Windows[] {
  const available = Math.floor((text.length - 1) / seq);
  const rows = Math.min(batch, available);
  const batches = Math.min(maxBatches, Math.floor(available / rows));
  const used = batches * rows;
  const from = Array.from({ length: used }, (_, index) => Math.floor(index * available / used) * seq);
  return Array.from({ length: batches }, (_, i) => cutWindows(text, from.slice(i * rows, (i + 1) * rows), seq + 1));
}

function cutWindows(text: Uint8Array, from: readonly number[], length: number): Windows {
  const tokens = new Uint32Array(from.length * length);
  from.forEach((start, row) => tokens.set(text.subarray(start, start + length), row * length));
  return { tokens, rows: from.length, length };
}

/** A number in [0, 1) with 53 random bits, from three counters. */
function uniform(seed: number, step: number, row: number): number {
  const low = mix(mix(mix(seed ^ 0x9e3779b9) ^ step) ^ row);
  const high = mix(low ^ 0x85ebca6b);
  return ((high >>> 0) * 0x200000 + (low >>> 11)) / 2 ** 53;
}

/** A bijection of 32-bit words in which every input bit reaches every output bit (the "lowbias32" constants of C. Wellons). */
function mix(word: number): number {
  word = Math.imul(word ^ (word >>> 16), 0x7feb352d);
  word = Math.imul(word ^ (word >>> 15), 0x846ca68b);
  return (word ^ (word >>> 16)) >>> 0;
}
