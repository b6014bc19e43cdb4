/**
 * Reverse mode: walks the nodes between inputs and outputs backwards and appends the nodes that carry cotangents.
 *
 * @module
 */
import { alias, plus, times, zerosLike } from "./arithmetic.ts";
import { expectNoPromise } from "./trace.ts";
import type { MaybeTensors } from "./primitive.ts";
import { atSite, isDifferentiable, type OpNode, type Tensor, tracing } from "./tensor.ts";
import { expectSameTree, flatten } from "./tree.ts";
import { type Dependents, dependentsOf } from "./walk.ts";

/**
 * Cotangents of `inputs`, given those of `outputs`. Null means zero.
 *
 * Every appended node is an ordinary differentiable node, so derivatives nest to any order.
 *
 * @param dependents What lies between inputs and outputs, found here unless the caller kept it.
 */
export function pullback(
  outputs: readonly Tensor[],
  cotangents: MaybeTensors,
  inputs: readonly Tensor[],
  { nodes, tensors }: Dependents = dependentsOf(outputs, inputs, "differentiable"),
): readonly (Tensor | null)[] {
  const found = new Map<Tensor, Tensor>();
  function accumulate(tensor: Tensor, cotangent: Tensor | null | undefined): void {
    if (!cotangent || !tensors.has(tensor)) return;
    const before = found.get(tensor);
    found.set(tensor, before === undefined ? cotangent : plus(before, cotangent));
  }
  outputs.forEach((output, i) => accumulate(output, cotangents[i]));
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((output) => found.has(output))) continue;
    const outer = node.outputs.map((output) => found.get(output) ?? zerosLike(output));
    const inner = atSite(node.site, () => transposeNode(node, outer));
    node.inputs.forEach((input, i) => accumulate(input, inner[i]));
  }
  return inputs.map((input) => found.get(input) ?? null);
}

function transposeNode(node: OpNode, cotangents: readonly Tensor[]): MaybeTensors {
  const { primitive, inputs, outputs, attrs } = node;
  switch (primitive.kind) {
    case "elementwise": {
      const partials = primitive.partials(inputs, outputs[0]!, attrs);
      return partials.map((partial) => partial && times(cotangents[0]!, partial));
    }
    case "linear":
    case "bilinear":
      return primitive.transpose(cotangents, inputs, attrs);
    case "smooth":
      return primitive.vjp(cotangents, inputs, outputs, attrs);
    case "composite": {
      if (primitive.vjp) return primitive.vjp(cotangents, inputs, outputs, attrs);
      // Fresh aliases bound the walk to this node's own expansion.
      const own = inputs.map(alias);
      return pullback(primitive.expand(own, attrs), cotangents, own);
    }
    case "discrete":
      return inputs.map(() => null);
  }
}

/** A function's value and its pullback, which maps a cotangent of the value to one cotangent for each argument. */
export type ValueAndPullback<A extends readonly unknown[], R> = readonly [value: R, pullback: (cotangent: R) => A];

/**
 * Evaluates a function and prepares its reverse derivative.
 *
 * Arguments and result are trees. Integer and boolean leaves have zero cotangents of their own type.
 *
 * @returns The value, and a function from a cotangent of the value's structure to cotangents of the arguments.
 *
 * @example A vector-Jacobian product
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, square, tensor, vjp } from "@switchyard/switchyard";
 *
 * await init();
 * const [, pull] = vjp(square, tensor([1, 2, 3]));
 * const [cotangent] = pull(tensor([1, 1, 10]));
 * assertEquals([...await cotangent.data()], [2, 4, 60]);
 * ```
 */
export function vjp<A extends readonly unknown[], R>(f: (...args: A) => R, ...args: A): ValueAndPullback<A, R> {
  const flat = flatten(args);
  const own = flat.leaves.map(alias);
  const value = tracing("vjp", () => expectNoPromise("vjp", f(...flat.rebuild(own) as A)));
  const outputs = flatten(value);
  // Found now: a value that is read before it is pulled back forgets the nodes behind it.
  const dependents = dependentsOf(outputs.leaves, own, "differentiable");
  function pull(cotangent: R): A {
    const seeds = flatten(cotangent);
    expectSameTree("pull back", outputs, seeds, ["value", "cotangent"]);
    const found = pullback(
      outputs.leaves,
      seeds.leaves.map((seed) => isDifferentiable(seed) ? seed : null),
      own,
      dependents,
    );
    return flat.rebuild(found.map((ct, i) => ct ?? zerosLike(own[i]!))) as A;
  }
  return [value, pull];
}
