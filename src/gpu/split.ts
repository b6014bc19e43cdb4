/**
 * Splits long reductions in two: parts first, then the parts. One invocation must not loop too long (the software
 * adapter silently stops at 65,535 iterations), and few results over many elements would leave the device idle.
 *
 * @module
 */
import type { Graph, GraphNode } from "../core/graph.ts";
import type { Lowering } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, sizeOf } from "../core/shape.ts";

/** Elements one invocation reduces at most; a quarter of the software adapter's limit, since fused loops add up. */
const MAX_LENGTH = 16_384;
/** Elements of one part. Short enough to spread a single sum over the device, long enough to pay for a thread. */
const PART_LENGTH = 512;
/** Results from which a reduction keeps the device busy without being split. */
const ENOUGH_RESULTS = 64;

type Reduce = Extract<Lowering<unknown>, { as: "reduce" }>;

/** The first half of a split reduction: reduces each part, and puts the parts on a new last axis. */
function partialOf(reduce: Reduce, name: string): Primitive {
  return definePrimitive<{ inner: unknown; parts: number; made: Aval }>({
    name: `${name}Part`,
    kind: "discrete",
    shape: (_, { made }) => [made],
    lower: { ...reduce, axes: ({ inner }) => reduce.axes(inner), parts: ({ parts }) => parts },
  });
}

/** The second half: reduces the last axis. */
function finalOf(reduce: Reduce, name: string): Primitive {
  return definePrimitive<{ made: Aval; axis: number }>({
    name: `${name}Final`,
    kind: "discrete",
    shape: (_, { made }) => [made],
    lower: { as: "reduce", axes: ({ axis }) => [axis], identity: reduce.identity, combine: reduce.combine },
  });
}

/** Number of parts a reduction is split into, 1 for none. */
function partsFor(length: number, results: number): number {
  if (length <= MAX_LENGTH && (results >= ENOUGH_RESULTS || length <= 4 * PART_LENGTH)) return 1;
  const wanted = results >= ENOUGH_RESULTS ? Math.ceil(length / MAX_LENGTH) : Math.ceil(length / PART_LENGTH);
  // The second half must itself be short enough for one invocation.
  return Math.min(wanted, MAX_LENGTH);
}

/** Rewrites long reductions of a graph. */
export function splitReductions(graph: Graph): Graph {
  const avals = [...graph.avals];
  const nodes: GraphNode[] = [];
  for (const node of graph.nodes) {
    const { lower } = node.primitive;
    if (lower.as !== "reduce") {
      nodes.push(node);
      continue;
    }
    const output = avals[node.outputs[0]!]!;
    const results = sizeOf(output.shape);
    const length = results === 0 ? 0 : sizeOf(avals[node.inputs[0]!]!.shape) / results;
    const parts = partsFor(length, results);
    if (parts === 1) {
      nodes.push(node);
      continue;
    }
    const made: Aval = { shape: [...output.shape, parts], dtype: output.dtype };
    const partial = avals.push(made) - 1;
    nodes.push({
      primitive: partialOf(lower, node.primitive.name),
      attrs: { inner: node.attrs, parts, made },
      inputs: node.inputs,
      outputs: [partial],
    }, {
      primitive: finalOf(lower, node.primitive.name),
      attrs: { made: output, axis: output.shape.length },
      inputs: [partial],
      outputs: node.outputs,
    });
  }
  return { ...graph, avals, nodes };
}
