/**
 * The ids before and after each token, for routers that hash them, and what such a router remembers between calls.
 *
 * Letters: T tokens, B sequences (or pieces of them, while generating), S tokens of each.
 *
 * @module
 */
import { fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import { ConfigError } from "../core/errors.ts";
import { Tensor } from "../core/tensor.ts";
import { add, maximum, minimum, sub } from "../ops/binary.ts";
import { equal, greater, logicalAnd } from "../ops/compare.ts";
import { concat } from "../ops/concat.ts";
import { max } from "../ops/extremum.ts";
import { takeAlong } from "../ops/gather.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import { broadcastTo } from "../ops/view.ts";
import type { Tokens } from "./plan_types.ts";
import { positionsOf } from "./token_ids.ts";
import { expectArgument } from "./tokens.ts";

/**
 * The piece of each sequence that was read last, u32[B] each. It tells both neighbors of the piece, so one value serves
 * the next layer, which reads the same piece again, and the next step, which reads what follows.
 */
export interface IdHistory {
  /** Position of the piece's first token. */
  readonly start: Tensor;
  /** Id before it. */
  readonly before: Tensor;
  /** Position after the piece's last real token. */
  readonly end: Tensor;
  /** Id of that token. */
  readonly last: Tensor;
}

/** What routers carry: records by name, of which each router replaces its own. */
export interface CarriedHistory {
  /** Of routers that hash the id before. */
  readonly idHistory?: IdHistory;
}

/** The ids before the tokens. */
export interface PreviousIds {
  /** u32[T]; `vocabulary` where there is none. */
  readonly previous: Tensor;
  /** For `plan.carry`. */
  readonly history: IdHistory;
}

/** Ids and what bounds their sequences, as [B, S]. */
interface Rows {
  readonly ids: Tensor;
  readonly positions: Tensor;
  readonly mask: Tensor | undefined;
}

/** The ids, ids outside the vocabulary as `vocabulary`, and what bounds their sequences. */
function rowsOf(op: string, tokens: Tokens, ids: Tensor, vocabulary: number): Rows {
  const count = ids.shape[0]!;
  const length = Math.max(1, tokens.sequenceLength ?? count);
  const shape = [count / length, length];
  const { mask } = tokens;
  return {
    ids: reshapeTo(minimum(ids, vocabulary), shape),
    positions: reshapeTo(positionsOf(op, tokens), shape),
    mask: mask === undefined ? undefined : reshapeTo(mask, shape),
  };
}

/**
 * Finds the id before each token.
 *
 * There is none at position 0, where a document starts, and behind padding. For the first token of a piece that does not
 * start a document it is the one in `history`, if that ends or starts where the piece starts.
 *
 * @param ids u32[T].
 * @param vocabulary Number of ids; it stands for "none" and for ids outside.
 * @param history Of the layer before or the step before.
 * @throws {ConfigError} If there is a history and the tokens have no positions to join them by.
 */
export function previousIds(
  op: string,
  tokens: Tokens,
  ids: Tensor,
  vocabulary: number,
  history?: IdHistory,
): PreviousIds {
  if (history !== undefined && tokens.positions === undefined) {
    throw new ConfigError("config/token-positions", {
      summary: `Cannot route with ${op}: the context carries the ids before, and the tokens have no positions`,
      fix: "pass the positions of the tokens in their sequences: { hidden, ids, positions }",
      details: { op },
    });
  }
  const rows = rowsOf(op, tokens, ids, vocabulary);
  const [sequences, length] = rows.ids.shape as [number, number];
  if (ids.size === 0) return { previous: ids, history: emptyHistory(sequences) };
  const start = reshapeTo(sliceAxis(rows.positions, 1, { stop: 1 }), [sequences]);
  const before = idBefore(op, start, vocabulary, history); // [B]
  const shifted = concat([reshapeTo(before, [sequences, 1]), sliceAxis(rows.ids, 1, { stop: length - 1 })], {
    axis: 1,
  });
  const known = where(logicalAnd(greater(rows.positions, 0), followsReal(rows)), shifted, vocabulary); // [B, S]
  return { previous: reshapeTo(known, [ids.size]), history: historyOf(rows, start, before) };
}

function emptyHistory(sequences: number): IdHistory {
  const nothing = fullLike([sequences], "u32", 0);
  return { start: nothing, before: nothing, end: nothing, last: nothing };
}

/** The id before each piece, u32[B]. */
function idBefore(op: string, start: Tensor, vocabulary: number, history: IdHistory | undefined): Tensor {
  const none = fullLike(start.shape, "u32", vocabulary);
  if (history === undefined) return none;
  for (const [name, x] of Object.entries(history)) {
    expectArgument(op, `context.carry.idHistory.${name}`, x, start.shape, "u32");
  }
  const repeated = where(equal(start, history.start), history.before, none);
  return where(equal(start, history.end), history.last, repeated);
}

/** True where the token before in the piece is real, and at the piece's start: bool[B, S]. */
function followsReal({ ids, mask }: Rows): Tensor {
  const [sequences, length] = ids.shape as [number, number];
  if (mask === undefined) return fullLike(ids.shape, "bool", 1);
  return concat([fullLike([sequences, 1], "bool", 1), sliceAxis(mask, 1, { stop: length - 1 })], { axis: 1 });
}

function historyOf({ ids, positions, mask }: Rows, start: Tensor, before: Tensor): IdHistory {
  const [sequences, length] = ids.shape as [number, number];
  const places = broadcastTo(add(iota([length], "u32", 0), 1), ids.shape);
  const real = mask === undefined ? places : where(mask, places, 0);
  const count = max(real, { axis: 1, keepDims: true }); // [B, 1]: tokens up to and including the last real one
  const at = sub(maximum(count, 1), 1);
  const pick = (x: Tensor) => reshapeTo(takeAlong(x, at, { axis: 1 }), [sequences]);
  const isEmpty = equal(reshapeTo(count, [sequences]), 0);
  return {
    start,
    before,
    end: where(isEmpty, start, add(pick(positions), 1)),
    last: where(isEmpty, before, pick(ids)),
  };
}

/**
 * Finds the id after each token: u32[T], `vocabulary` where there is none, that is at the end of a sequence, before a
 * document's start and before padding.
 */
export function nextIds(op: string, tokens: Tokens, ids: Tensor, vocabulary: number): Tensor {
  const { ids: rows, positions, mask } = rowsOf(op, tokens, ids, vocabulary);
  const sequences = rows.shape[0]!;
  if (ids.size === 0) return ids;
  const goesOn = greater(positions, 0);
  const known = where(mask === undefined ? goesOn : logicalAnd(mask, goesOn), rows, vocabulary);
  const end = fullLike([sequences, 1], "u32", vocabulary);
  return reshapeTo(concat([sliceAxis(known, 1, { start: 1 }), end], { axis: 1 }), [ids.size]);
}

/** What a router carries, for the routers that add to it. */
export function carriedBy(carry: unknown): CarriedHistory {
  return typeof carry === "object" && carry !== null && !(carry instanceof Tensor) ? carry : {};
}
