/**
 * Gradient transforms: what an optimizer is, how small ones are chained to one, and how its updates reach the parameters.
 *
 * @module
 */
import { castTo, plus } from "../core/arithmetic.ts";
import { callSite, TreeError } from "../core/errors.ts";
import { isDifferentiable } from "../core/tensor.ts";
import { flatten } from "../core/tree.ts";
import { expectUpdatesFor } from "./leaves.ts";

/**
 * What an optimizer remembers between steps: a tree of tensors, or null. Counts are u32 scalars on the device, so that
 * a jitted step is compiled once.
 */
export type OptimizerState = object | null;

/**
 * Turns gradients into updates. Both methods are pure functions of trees, so they work inside `jit`.
 *
 * Only float leaves take part, in f32 whatever their own type; tables, counters and keys among the parameters pass
 * through untouched and have no state.
 */
export interface GradientTransform<S extends OptimizerState = OptimizerState> {
  /** The state before the first step. */
  init(params: unknown): S;
  /**
   * Maps gradients, or the updates of the transform before, to updates and the next state.
   *
   * @throws {TreeError} If gradients or state were made for other parameters.
   */
  update<P>(grads: P, state: S, params: P): readonly [updates: P, state: S];
}

/**
 * Applies transforms one after another: each gets the updates of the one before.
 *
 * @returns A transform whose state is the list of its parts' states.
 *
 * @example Clipping before Adam
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adam, applyUpdates, chain, clipByGlobalNorm, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = chain(clipByGlobalNorm(1), adam({ learningRate: 0.5 }));
 * const params = { w: tensor([1, 1]) };
 * const [updates] = optimizer.update({ w: tensor([300, -400]) }, optimizer.init(params), params);
 * const { w } = applyUpdates(params, updates);
 * assertEquals([...await w.data()].map((x) => Math.round(x * 1000)), [500, 1500]);
 * ```
 */
export function chain(...transforms: readonly GradientTransform[]): GradientTransform<readonly OptimizerState[]> {
  return {
    init: (params) => transforms.map((transform) => transform.init(params)),
    update<P>(grads: P, states: readonly OptimizerState[], params: P) {
      expectUpdatesFor(params, grads);
      expectStates(states, transforms.length);
      let updates = grads;
      const next = transforms.map((transform, i) => {
        const [changed, state] = transform.update(updates, states[i] ?? null, params);
        updates = changed;
        return state;
      });
      return [updates, next];
    },
  };
}

function expectStates(states: unknown, expected: number): void {
  const found = Array.isArray(states) ? states.length : 0;
  if (found === expected) return;
  throw new TreeError("tree/state", {
    summary: `Cannot update parameters: the chain has ${expected} transforms, its state has ${found}`,
    facts: [["at", callSite()]],
    fix: "pass the state that init(params) of this optimizer returned",
    details: { expected, found },
  });
}

/** A transform that remembers nothing. */
export function stateless(change: <P>(updates: P, params: P) => P): GradientTransform<null> {
  return {
    init: () => null,
    update(updates, _, params) {
      expectUpdatesFor(params, updates, "updates");
      return [change(updates, params), null];
    },
  };
}

/**
 * Adds updates to parameters.
 *
 * The sum is computed in f32 and rounded once to the parameter's type. Leaves that are not floats stay as they are.
 *
 * @returns The new parameters, with the types of the old.
 * @throws {TreeError} If the trees differ in structure or shapes.
 *
 * @example One step by hand
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { applyUpdates, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const params = { w: tensor([1, 2]), visits: tensor(7, { dtype: "u32" }) };
 * const next = applyUpdates(params, { w: tensor([0.5, -0.5]), visits: tensor(1, { dtype: "u32" }) });
 * assertEquals([...await next.w.data(), await next.visits.item()], [1.5, 1.5, 7]);
 * ```
 */
export function applyUpdates<P>(params: P, updates: P): P {
  expectUpdatesFor(params, updates, "updates");
  const [old, added] = [flatten(params), flatten(updates)];
  const byPath = new Map(added.leaves.map((leaf, i) => [added.paths[i]!, leaf]));
  return old.rebuild(old.leaves.map((leaf, i) => {
    const update = byPath.get(old.paths[i]!);
    if (update === undefined || !isDifferentiable(leaf)) return leaf;
    return castTo(plus(castTo(leaf, "f32"), castTo(update, "f32")), leaf.dtype);
  })) as P;
}
