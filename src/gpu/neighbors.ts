/**
 * Joining small groups that have nothing to do with each other, such as the updates of all biases: each would be a
 * dispatch that costs more than its work.
 *
 * @module
 */
import type { Graph, GraphNode } from "../core/graph.ts";
import { sizeOf } from "../core/shape.ts";
import { dependsOn, type Draft, spansOf } from "./drafts.ts";
import { isReduce, iterationsOf } from "./reads.ts";

/** Elements up to which independent groups of one domain share a kernel: more are worth a dispatch of their own. */
const SMALL = 65_536;

/** Nodes by which a group may be late for its first reader to share a kernel: far fewer than the pass over a model has. */
const PATIENCE = 64;

/** Loop iterations up to which independent reductions share an invocation. */
const SHORT = 4096;

/**
 * Joins small groups of one domain. None is made to wait long past its first reader: the passes over two micro-batches
 * would otherwise run in step, with the activations of both.
 *
 * @param place Position of each node in the graph.
 * @param fits Whether some nodes can be one kernel in a group's shape.
 */
export function mergeNeighbors(
  graph: Graph,
  order: readonly Draft[],
  place: ReadonlyMap<GraphNode, number>,
  fits: (home: Draft, members: readonly GraphNode[]) => boolean,
): void {
  const { ready, needed } = spansOf(order, place);
  const byDomain = Map.groupBy(
    order.filter((draft) => draft.merged === null && draft.kind === "map" && draft.rows <= SMALL),
    ({ rows }) => rows,
  );
  for (const drafts of byDomain.values()) {
    for (const [i, other] of drafts.entries()) {
      if (!isShort(graph, other.members)) continue;
      for (const home of drafts.slice(i + 1)) {
        if (home.merged !== null || home.members.some(isReduce) !== other.members.some(isReduce)) continue;
        const wait = Math.max(ready.get(home)! - needed.get(other)!, ready.get(other)! - needed.get(home)!);
        if (wait > PATIENCE) continue;
        if (dependsOn(home, other) || dependsOn(other, home)) continue;
        const members = [...other.members, ...home.members].sort((a, b) => place.get(a)! - place.get(b)!);
        if (!isShort(graph, members) || !fits(home, members)) continue;
        for (const dep of other.deps) home.deps.add(dep);
        home.members = members;
        other.merged = home;
        ready.set(home, Math.max(ready.get(home)!, ready.get(other)!));
        needed.set(home, Math.min(needed.get(home)!, needed.get(other)!));
        break;
      }
    }
  }
}

function isShort(graph: Graph, members: readonly GraphNode[]): boolean {
  const reduces = members.filter(isReduce);
  // Reductions to more than one result are work for several invocations: side by side they would wait for one another.
  return reduces.every(({ outputs: [result] }) => sizeOf(graph.avals[result!]!.shape) === 1) &&
    reduces.reduce((total, node) => total + iterationsOf(graph, node), 0) <= SHORT;
}
