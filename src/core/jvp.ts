/**
 * Forward mode: walks the nodes between inputs and outputs and appends the nodes that carry tangents.
 *
 * @module
 */
import { alias, plus, times, zerosLike } from "./arithmetic.ts";
import type { MaybeTensors } from "./primitive.ts";
import { apply, applyAll, isDifferentiable, type OpNode, placeholder, type Tensor, tracing } from "./tensor.ts";
import { expectNoPromise } from "./trace.ts";
import { expectSameTree, flatten } from "./tree.ts";
import { pullback } from "./vjp.ts";
import { dependentsOf } from "./walk.ts";

/** Tangents of `outputs`, given those of `inputs`. Null means zero. */
export function pushforward(
  outputs: readonly Tensor[],
  tangents: MaybeTensors,
  inputs: readonly Tensor[],
): readonly (Tensor | null)[] {
  const { nodes } = dependentsOf(outputs, inputs, "differentiable");
  const found = new Map<Tensor, Tensor>();
  inputs.forEach((input, i) => {
    if (tangents[i] && isDifferentiable(input)) found.set(input, tangents[i]);
  });
  for (const node of nodes) {
    const incoming = node.inputs.map((input) => found.get(input) ?? null);
    if (incoming.every((tangent) => tangent === null)) continue;
    tangentsOf(node, incoming).forEach((tangent, i) => {
      if (tangent && isDifferentiable(node.outputs[i]!)) found.set(node.outputs[i]!, tangent);
    });
  }
  return outputs.map((output) => found.get(output) ?? null);
}

function sum(terms: MaybeTensors): Tensor | null {
  return terms.reduce<Tensor | null>(
    (total, term) => term === null ? total : total === null ? term : plus(total, term),
    null,
  );
}

function tangentsOf(node: OpNode, tangents: MaybeTensors): MaybeTensors {
  const { primitive, inputs, outputs, attrs } = node;
  switch (primitive.kind) {
    case "elementwise": {
      const partials = primitive.partials(inputs, outputs[0]!, attrs);
      return [sum(partials.map((partial, i) => partial && tangents[i] ? times(tangents[i], partial) : null))];
    }
    case "linear":
      return applyAll(
        primitive,
        inputs.map((input, i) => isDifferentiable(input) ? tangents[i] ?? zerosLike(input) : input),
        attrs,
      );
    case "bilinear":
      return [
        sum(
          tangents.map((tangent, i) => tangent && apply(primitive, inputs.map((x, j) => i === j ? tangent : x), attrs)),
        ),
      ];
    case "smooth": {
      // The reverse derivative is linear in its cotangents, so its transpose is the forward derivative.
      const seeds = outputs.map((output) => placeholder(output, "cotangent"));
      const pulled = primitive.vjp(seeds, inputs, outputs, attrs);
      const live = pulled.flatMap((ct, i) => ct && tangents[i] ? [[ct, tangents[i]] as const] : []);
      return pullback(live.map(([ct]) => ct), live.map(([, tangent]) => tangent), seeds);
    }
    case "composite": {
      const own = inputs.map(alias);
      return pushforward(primitive.expand(own, attrs), tangents, own);
    }
    case "discrete":
      return outputs.map(() => null);
  }
}

/**
 * Evaluates a function and its directional derivative.
 *
 * @param primals The arguments, one tree each.
 * @param tangents Directions of the same structure; those of integer leaves are ignored.
 * @returns The value and its tangent.
 *
 * @example A directional derivative
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, jvp, square, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const [value, tangent] = jvp(square, [tensor(3)], [tensor(2)]);
 * assertEquals([await value.item(), await tangent.item()], [9, 12]);
 * ```
 */
export function jvp<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  primals: A,
  tangents: A,
): readonly [value: R, tangent: R] {
  const flat = flatten(primals);
  const directions = flatten(tangents);
  expectSameTree("push forward", flat, directions, ["primals", "tangents"]);
  const own = flat.leaves.map(alias);
  const value = tracing("jvp", () => expectNoPromise("jvp", f(...flat.rebuild(own) as A)));
  const outputs = flatten(value);
  const found = pushforward(outputs.leaves, directions.leaves, own);
  return [value, outputs.rebuild(found.map((tangent, i) => tangent ?? zerosLike(outputs.leaves[i]!))) as R];
}
