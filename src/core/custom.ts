/**
 * Functions with a derivative of their own: `customVjp` states it, `checkpoint` recomputes instead of storing.
 *
 * @module
 */
import { alias } from "./arithmetic.ts";
import { ShapeError } from "./errors.ts";
import { definePrimitive, type MaybeTensors, type Primitive } from "./primitive.ts";
import { sameShape } from "./shape.ts";
import { apply, applyAll, isDifferentiable, placeholder, type Tensor, tracing } from "./tensor.ts";
import { expectNoPromise } from "./trace.ts";
import { flatten, type FlatTree } from "./tree.ts";
import { pullback } from "./vjp.ts";
import { nodesBehind, substitute } from "./walk.ts";

interface CallAttrs {
  /** What the function computes, over `inputs`. */
  readonly body: { readonly inputs: readonly Tensor[]; readonly outputs: readonly Tensor[] };
  readonly pull: (cotangents: readonly Tensor[], inputs: readonly Tensor[], outputs: readonly Tensor[]) => MaybeTensors;
}

/** Primitive behind {@linkcode customVjp} and {@linkcode checkpoint}: always expanded before compilation. */
export const callPrimitive: Primitive = definePrimitive<CallAttrs>({
  name: "call",
  kind: "composite",
  shape: (_, { body }) => body.outputs,
  expand: (inputs, { body }) => substitute(body.outputs, body.inputs, inputs),
  vjp: (cotangents, inputs, outputs, { pull }) => pull(cotangents, inputs, outputs),
  lower: { as: "inline" },
});

/**
 * Traces a function once and appends it as one node. Tensors it captures from outside become inputs too, after the
 * arguments: without that a parameter in a closure would silently get no gradient.
 */
function callOnce<A extends readonly unknown[], R>(
  name: string,
  f: (...args: A) => R,
  args: A,
  pullFor: (body: CallAttrs["body"], flat: FlatTree, outputs: FlatTree) => CallAttrs["pull"],
): R {
  const flat = flatten(args);
  const own = flat.leaves.map(alias);
  // Ids grow with creation: whatever is older than this comes from outside the function.
  const oldest = own[0]?.id ?? placeholder({ shape: [], dtype: "f32" }, name).id;
  const outputs = flatten(tracing(name, () => expectNoPromise(name, f(...flat.rebuild(own) as A))));
  const captured = new Set(outputs.leaves.filter((output) => output.id < oldest));
  for (const node of nodesBehind(outputs.leaves, new Set(own), oldest)) {
    for (const input of node.inputs) if (input.id < oldest) captured.add(input);
  }
  const body = { inputs: [...own, ...captured], outputs: outputs.leaves };
  return outputs.rebuild(
    applyAll(callPrimitive, [...flat.leaves, ...captured], { body, pull: pullFor(body, flat, outputs) }),
  ) as R;
}

/**
 * Gives a function a reverse derivative of your own.
 *
 * Forward mode and vmap use the function itself; reverse mode calls `backward`, whose result is differentiated as
 * written, so that second derivatives follow your rule too. Tensors that `f` captures count as constants.
 *
 * @param f Function of trees.
 * @param backward Maps the result's cotangent, the arguments and the result to one cotangent tree for each argument.
 * @throws {ShapeError} If a returned cotangent does not have its argument's shape.
 *
 * @example A straight-through estimator
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { customVjp, grad, init, round, sum, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const roundStraightThrough = customVjp((x: Tensor) => round(x), (ct) => [ct]);
 * assertEquals(await grad((x: Tensor) => sum(roundStraightThrough(x)))(tensor(1.4)).item(), 1);
 * ```
 */
export function customVjp<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  backward: (cotangent: R, args: A, result: R) => readonly [...A],
): (...args: A) => R {
  return (...args) =>
    callOnce("customVjp", f, args, (_, flat, outputs) => (cotangents, operands, results) => {
      const inputs = operands.slice(0, flat.leaves.length);
      const found = backward(
        outputs.rebuild(cotangents) as R,
        flat.rebuild(inputs) as A,
        outputs.rebuild(results) as R,
      );
      const leaves = flatten(found).leaves;
      const wrong = inputs.findIndex((input, i) =>
        isDifferentiable(input) && (leaves[i] === undefined || !sameShape(leaves[i].shape, input.shape))
      );
      if (wrong >= 0) {
        throw new ShapeError("shape/custom-vjp", {
          summary: `Cannot pull back: backward gave [${leaves[wrong]?.shape.join(", ") ?? "nothing"}] for ${
            flat.paths[wrong]
          } of shape [${inputs[wrong]!.shape.join(", ")}]`,
          facts: [["op", "customVjp(f, backward)"]],
          fix: "return one cotangent for each argument, of its shape",
        });
      }
      return leaves.map((leaf, i) => isDifferentiable(inputs[i]!) ? leaf : null);
    });
}

/**
 * Primitive behind the barrier of {@linkcode checkpoint}: passes its input through and is never merged with a twin, so
 * that a recomputation is not recognized as what was computed before.
 */
export const barrierPrimitive: Primitive = definePrimitive<{ unique: number }>({
  name: "barrier",
  kind: "linear",
  shape: ([x]) => [x!],
  host: ([x]) => [x!],
  transpose: ([ct]) => [ct!],
  lower: { as: "view", linear: true, sources: (index) => [{ input: 0, index }], lanes: () => "contiguous" },
});

let barriers = 0;

/**
 * Recomputes a function's intermediates in the backward pass instead of keeping them: memory for time.
 *
 * Value and derivatives are those of the function. Use it around a transformer block when the planned peak of a train
 * step does not fit.
 *
 * @example The gradient is unchanged
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { checkpoint, exp, grad, init, sin, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const f = checkpoint((x: Tensor) => exp(sin(x)));
 * assertAlmostEquals(await grad(f)(tensor(0)).item(), 1, 1e-6);
 * ```
 */
export function checkpoint<A extends readonly unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  return (...args) =>
    callOnce("checkpoint", f, args, (body) => (cotangents, inputs) => {
      const held = inputs.map((input) => apply(barrierPrimitive, [input], { unique: ++barriers }));
      return pullback(substitute(body.outputs, body.inputs, held), cotangents, held);
    });
}
