/**
 * What the nodes that fusion places read of each other, looking through what is evaluated where it is read.
 *
 * @module
 */
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import type { Lowering } from "../core/kernel.ts";
import { sizeOf } from "../core/shape.ts";
import { APART, OTHER, type Relation, rowBroadcast, SAME } from "./relations.ts";

interface Step {
  readonly id: ValueId;
  readonly relation: Relation;
}

/** Reads of the anchored nodes of a graph. */
export class Reads {
  readonly #graph: Graph;
  readonly #producer: ReadonlyMap<ValueId, GraphNode>;
  readonly #anchored: ReadonlySet<GraphNode>;
  readonly #known = new Map<GraphNode, ReadonlyMap<ValueId, readonly Relation[]>>();
  /** Anchored nodes that read a value. */
  readonly consumers: ReadonlyMap<ValueId, ReadonlySet<GraphNode>>;

  /**
   * @param producer Node that makes each value.
   * @param anchored Nodes that a group computes; all others are pulled.
   */
  constructor(graph: Graph, producer: ReadonlyMap<ValueId, GraphNode>, anchored: ReadonlySet<GraphNode>) {
    this.#graph = graph;
    this.#producer = producer;
    this.#anchored = anchored;
    const consumers = new Map<ValueId, Set<GraphNode>>();
    for (const node of anchored) {
      for (const id of this.of(node).keys()) consumers.set(id, (consumers.get(id) ?? new Set()).add(node));
    }
    this.consumers = consumers;
  }

  /** The values a node reads through pulled ones, with the relations of the elements read to its own. */
  of(node: GraphNode): ReadonlyMap<ValueId, readonly Relation[]> {
    const known = this.#known.get(node);
    if (known !== undefined) return known;
    const found = new Map<ValueId, Relation[]>();
    const stack = this.#inputs(node, SAME, isReduce(node));
    const seen = new Set<string>();
    while (stack.length > 0) {
      const { id, relation } = stack.pop()!;
      const key = `${id}:${relation.at}${relation.at === "row" ? relation.inner : relation === APART ? "/" : ""}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const made = this.#producer.get(id);
      if (made === undefined || this.#anchored.has(made)) found.set(id, [...found.get(id) ?? [], relation]);
      else stack.push(...this.#inputs(made, relation, false));
    }
    this.#known.set(node, found);
    return found;
  }

  #inputs(node: GraphNode, relation: Relation, asReduce: boolean): Step[] {
    const { lower } = node.primitive;
    const { avals } = this.#graph;
    return node.inputs.map((id): Step => {
      if (lower.as === "expr") return { id, relation: lower.scalar && relation === SAME ? APART : relation };
      if (asReduce || (lower.as === "view" && lower.linear)) return { id, relation };
      if (lower.as !== "view" || node.primitive.name !== "expand") return { id, relation: OTHER };
      const inner = rowBroadcast(avals[id]!.shape, avals[node.outputs[0]!]!.shape);
      return { id, relation: inner !== null && relation.at === "same" ? { at: "row", inner } : OTHER };
    });
  }
}

/** Whether a node folds axes. */
export function isReduce(node: GraphNode): boolean {
  return node.primitive.lower.as === "reduce";
}

/** Elements a trailing reduction folds, or null if it is not over the last axes. */
export function trailingLength({ avals }: Graph, node: GraphNode): number | null {
  const lower = node.primitive.lower as Extract<Lowering<unknown>, { as: "reduce" }>;
  if (lower.parts?.(node.attrs)) return null;
  const axes = lower.axes(node.attrs);
  const shape = avals[node.inputs[0]!]!.shape;
  // Axes of size 1 behind the reduced ones change nothing.
  const significant = shape.map((n, axis) => ({ n, axis })).filter(({ n, axis }) => n !== 1 || axes.includes(axis));
  const reduced = significant.filter(({ axis }) => axes.includes(axis));
  const tail = significant.slice(significant.length - reduced.length);
  return tail.every(({ axis }) => axes.includes(axis)) ? reduced.reduce((product, { n }) => product * n, 1) : null;
}

/** Loop iterations that one invocation of a map kernel spends on a reduction. */
export function iterationsOf({ avals }: Graph, node: GraphNode): number {
  const size = (id: ValueId) => sizeOf(avals[id]!.shape);
  const length = Math.ceil(size(node.inputs[0]!) / Math.max(1, size(node.outputs[0]!)));
  // Four results of bf16 share an invocation.
  return avals[node.outputs[0]!]!.dtype === "bf16" ? 4 * length : length;
}
