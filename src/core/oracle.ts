/**
 * The oracle: evaluates a graph on the host in float64 through the primitives' own host rules. Slow and right; tests
 * compare kernels with it, and the compiler folds constants with it.
 *
 * @module
 */
import type { Graph } from "./graph.ts";
import type { HostArray } from "./primitive.ts";

/** Evaluates a graph (frozen with target null). Arguments come first, captured constants after them. */
export function evaluate(graph: Graph, args: readonly HostArray[]): readonly HostArray[] {
  const values = new Map<number, HostArray>();
  [...graph.inputs, ...graph.constants.map(({ value }) => value)].forEach((id, i) => values.set(id, args[i]!));
  for (const { primitive, attrs, inputs, outputs } of graph.nodes) {
    if (!primitive.host) throw new Error(`unreachable: ${primitive.name} has no host rule and was not expanded`);
    const results = primitive.host(inputs.map((id) => values.get(id)!), attrs);
    outputs.forEach((id, i) => values.set(id, results[i]!));
  }
  return graph.outputs.map((id) => values.get(id)!);
}
