/**
 * Iterative walks over the DAG. Recursion would overflow the stack on a long chain.
 *
 * @module
 */
import { applyAll, atSite, isDifferentiable, type OpNode, sourceOf, type Tensor } from "./tensor.ts";

/**
 * The uncomputed nodes behind some tensors, inputs before users.
 *
 * @param stop Tensors not to look behind.
 * @param oldest Nodes with a smaller id are not visited: nothing older than a transform's inputs depends on them.
 */
export function nodesBehind(
  outputs: readonly Tensor[],
  stop: { has(tensor: Tensor): boolean } = new Set(),
  oldest = 0,
): OpNode[] {
  const seen = new Set<OpNode>();
  const stack = [...outputs];
  while (stack.length > 0) {
    const tensor = stack.pop()!;
    if (tensor.id < oldest || stop.has(tensor)) continue;
    const source = sourceOf(tensor);
    if (source.kind !== "op" || seen.has(source.node)) continue;
    seen.add(source.node);
    for (const input of source.node.inputs) stack.push(input);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

/** Nodes between some inputs and outputs, and the tensors that depend on the inputs (inputs included). */
export interface Dependents {
  /** Nodes with a dependent input, in topological order. */
  readonly nodes: readonly OpNode[];
  /** Tensors that depend on the inputs. */
  readonly tensors: ReadonlySet<Tensor>;
}

/** Finds what lies between inputs and outputs. With `differentiable`, only paths along which a derivative can flow. */
export function dependentsOf(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  along: "any" | "differentiable",
): Dependents {
  const tensors = new Set(along === "any" ? inputs : inputs.filter(isDifferentiable));
  const oldest = inputs.reduce((least, input) => Math.min(least, input.id), Infinity);
  const nodes: OpNode[] = [];
  for (const node of nodesBehind(outputs, new Set(inputs), oldest)) {
    if (!node.inputs.some((input) => tensors.has(input))) continue;
    if (along === "differentiable" && node.primitive.kind === "discrete") continue;
    nodes.push(node);
    for (const output of node.outputs) {
      if (along === "any" || isDifferentiable(output)) tensors.add(output);
    }
  }
  return { nodes, tensors };
}

/** Replays what lies between `from` and `outputs` with other inputs; what does not depend on them stays as it is. */
export function substitute(
  outputs: readonly Tensor[],
  from: readonly Tensor[],
  to: readonly Tensor[],
): readonly Tensor[] {
  const replaced = new Map(from.map((tensor, i) => [tensor, to[i]!]));
  for (const node of dependentsOf(outputs, from, "any").nodes) {
    const operands = node.inputs.map((input) => replaced.get(input) ?? input);
    const results = atSite(node.site, () => applyAll(node.primitive, operands, node.attrs));
    node.outputs.forEach((output, i) => replaced.set(output, results[i]!));
  }
  return outputs.map((output) => replaced.get(output) ?? output);
}
