/**
 * Lets hand-written kernels compute f32 where the graph wants bf16, with a cast behind. Two bf16 share a word, so a
 * kernel that stores one element at a time would race with its neighbor; a map kernel stores whole words, and so do the
 * kernels that say they pack.
 *
 * @module
 */
import { castPrimitive } from "../core/arithmetic.ts";
import type { Graph, GraphNode } from "../core/graph.ts";

/** Rewrites the bf16 results of hand-written kernels. */
export function widenKernels(graph: Graph): Graph {
  const avals = [...graph.avals];
  const nodes: GraphNode[] = [];
  for (const node of graph.nodes) {
    const casts: GraphNode[] = [];
    const { lower } = node.primitive;
    const isWidened = lower.as === "kernel" && !lower.packs?.(node.inputs.map((id) => avals[id]!), node.attrs);
    const outputs = node.outputs.map((id) => {
      const { shape, dtype } = avals[id]!;
      if (!isWidened || dtype !== "bf16") return id;
      const wide = avals.push({ shape, dtype: "f32" }) - 1;
      casts.push({ primitive: castPrimitive, attrs: { dtype }, inputs: [wide], outputs: [id] });
      return wide;
    });
    nodes.push(casts.length === 0 ? node : { ...node, outputs }, ...casts);
  }
  return { ...graph, avals, nodes };
}
