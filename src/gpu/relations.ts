/**
 * How the element that a reader wants relates to the one it computes: what decides whether both fit in one kernel.
 *
 * @module
 */
import { type Shape, sizeOf } from "../core/shape.ts";
import type { Draft } from "./drafts.ts";

/** How the element a reader wants relates to the reader's own element. */
export type Relation =
  | { readonly at: "same"; /** Read one element at a time though the reader computes four. */ readonly apart?: true }
  | { readonly at: "row"; readonly inner: number }
  | { readonly at: "other" };
/** The very element the reader computes. */
export const SAME: Relation = { at: "same" };
/** The same element, alone. */
export const APART: Relation = { at: "same", apart: true };
/** Any other element. */
export const OTHER: Relation = { at: "other" };

/** Whether a value read at a relation is at hand inside a row kernel, for a reader that runs over whole rows or once a row. */
export function fitsRow(
  size: number,
  relation: Relation,
  shape: Pick<Draft, "rows" | "inner">,
  readerIsFull: boolean,
): boolean {
  const isFull = size === shape.rows * shape.inner;
  if (!readerIsFull) return relation.at === "same" && size === shape.rows && (!isFull || shape.inner === 1);
  if (relation.at === "same") return isFull;
  return relation.at === "row" && relation.inner === shape.inner && size === shape.rows;
}

/** If expanding repeats each element of a row along the trailing axes only: how often. */
export function rowBroadcast(from: Shape, to: Shape): number | null {
  let split = to.length;
  while (split > 0 && (from[split - 1] === 1)) split--;
  for (let axis = 0; axis < split; axis++) if (from[axis] !== to[axis]) return null;
  return sizeOf(to.slice(split));
}
