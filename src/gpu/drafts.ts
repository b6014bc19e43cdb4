/**
 * Groups while fusion is at work: which depend on which, and the order they end up in.
 *
 * @module
 */
import type { GraphNode } from "../core/graph.ts";
import type { Group } from "./fuse.ts";

/** A group while fusion is at work. */
export interface Draft {
  kind: Group["kind"];
  rows: number;
  inner: number;
  members: GraphNode[];
  deps: Set<Draft>;
  merged: Draft | null;
}

/** Whether `from` needs `target`'s results. */
export function dependsOn(from: Draft, target: Draft): boolean {
  const seen = new Set<Draft>();
  const stack = [from];
  while (stack.length > 0) {
    let at = stack.pop()!;
    while (at.merged) at = at.merged;
    if (at === target) return true;
    if (seen.has(at)) continue;
    seen.add(at);
    stack.push(...at.deps);
  }
  return false;
}

/** When groups can run and must have run, as places of nodes in the order of creation. */
export interface Spans {
  /** The last node that a group reads, -1 if it reads none. */
  readonly ready: Map<Draft, number>;
  /** When the first reader of a group can run itself, infinite if there is none. */
  readonly needed: Map<Draft, number>;
}

/** The spans of the groups that are not merged. */
export function spansOf(drafts: readonly Draft[], place: ReadonlyMap<GraphNode, number>): Spans {
  const live = drafts.filter((draft) => draft.merged === null);
  const ready = new Map<Draft, number>();
  const needed = new Map<Draft, number>(live.map((draft) => [draft, Infinity]));
  for (const draft of live) {
    const last = [...draft.deps].map((dep) => place.get(resolve(dep).members.at(-1)!)!);
    ready.set(draft, Math.max(-1, ...last));
  }
  for (const draft of live) {
    const time = Math.max(ready.get(draft)!, place.get(draft.members[0]!)!);
    for (const dep of draft.deps) needed.set(resolve(dep), Math.min(needed.get(resolve(dep))!, time));
  }
  return { ready, needed };
}

/** The group that a group became part of, or it itself. */
function resolve(draft: Draft): Draft {
  let at = draft;
  while (at.merged) at = at.merged;
  return at;
}

/** Groups in dependency order, otherwise in order of creation, so that the backward pass frees what it is done with. */
export function sortDrafts(drafts: readonly Draft[], place: ReadonlyMap<GraphNode, number>): Draft[] {
  const done = new Set<Draft>();
  const sorted: Draft[] = [];
  for (const root of drafts.toSorted((a, b) => place.get(a.members[0]!)! - place.get(b.members[0]!)!)) {
    const stack = [{ draft: root, entered: false }];
    while (stack.length > 0) {
      const frame = stack.at(-1)!;
      if (done.has(frame.draft)) {
        stack.pop();
        continue;
      }
      if (frame.entered) {
        done.add(frame.draft);
        sorted.push(frame.draft);
        stack.pop();
        continue;
      }
      frame.entered = true;
      for (const dep of frame.draft.deps) {
        const real = resolve(dep);
        if (real !== frame.draft && !done.has(real)) stack.push({ draft: real, entered: false });
      }
    }
  }
  return atTheirTimes(sorted, place);
}

/**
 * Delays each group until what it reads is there by itself. A group that joined another one early, such as the sum of
 * the losses of all micro-batches, would else pull all their forward passes before the first backward pass.
 */
function atTheirTimes(
  sorted: readonly Draft[],
  place: ReadonlyMap<GraphNode, number>,
): Draft[] {
  const times = new Map<Draft, number>();
  for (const draft of sorted) {
    let time = place.get(draft.members[0]!)!;
    for (const dep of draft.deps) time = Math.max(time, times.get(resolve(dep)) ?? 0);
    times.set(draft, time);
  }
  // Sorting is stable, and no group is earlier than what it reads.
  return sorted.toSorted((a, b) => times.get(a)! - times.get(b)!);
}
