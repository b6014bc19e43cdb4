/**
 * Transforms for some leaves only: what is decayed, scaled or frozen is chosen by path.
 *
 * @module
 */
import { zerosLike } from "../core/arithmetic.ts";
import { expectUpdatesFor, filterLeaves, floatLeaves, type LeafMap, leafPath, mapFloats } from "./leaves.ts";
import { callback, expectOptions } from "../ops/options.ts";
import type { LeafPredicate } from "./scale.ts";
import type { GradientTransform, OptimizerState } from "./transform.ts";

/** What happens to the updates of leaves that were not chosen. */
type Rest = "pass" | "zero";

function restricted(inner: GradientTransform, chosen: LeafPredicate, rest: Rest): GradientTransform {
  function choose(leaves: LeafMap, params: LeafMap): LeafMap {
    // The parameters decide: a gradient has the same shape, but perhaps another type.
    return filterLeaves(leaves, (name) => params[name] !== undefined && chosen(leafPath(name), params[name]));
  }
  return {
    init(params) {
      const leaves = floatLeaves(params);
      return inner.init(choose(leaves, leaves));
    },
    update<P>(updates: P, state: OptimizerState, params: P) {
      expectUpdatesFor(params, updates, "updates");
      const leaves = floatLeaves(params);
      const [changed, next] = inner.update(choose(floatLeaves(updates), leaves), state, choose(leaves, leaves));
      return [
        mapFloats(updates, (update, name) => changed[name] ?? (rest === "zero" ? zerosLike(update) : update)),
        next,
      ];
    },
  };
}

/**
 * Applies a transform to the chosen leaves; the updates of all others pass through as they are.
 *
 * The inner transform sees no other leaf: it keeps no state for them, and a norm it takes is over the chosen ones.
 *
 * @param chosen Called when states are made and when a step is traced, with paths such as `.layers[0].weight`.
 *
 * @example A smaller step for the router
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chain, init, masked, read, scale, sgd, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const slowRouter = masked(scale(0.5), (path) => path.startsWith(".router"));
 * const optimizer = chain(slowRouter, sgd({ learningRate: 1 }));
 * const params = { router: tensor(0), head: tensor(0) };
 * const [updates] = optimizer.update({ router: tensor(8), head: tensor(8) }, optimizer.init(params), params);
 * const { router, head } = await read(updates);
 * assertEquals([router[0], head[0]], [-4, -8]);
 * ```
 */
export function masked(inner: GradientTransform, chosen: LeafPredicate): GradientTransform {
  expectOptions("masked", { chosen: callback }, { chosen });
  return restricted(inner, chosen, "pass");
}

/**
 * Keeps some leaves as they are and trains the rest with an optimizer.
 *
 * Frozen leaves get updates of zero and no state, and where nothing else needs their gradients those are not computed.
 * Use it for leaves that a reducer advances, such as a balancing bias.
 *
 * @param frozen Which leaves stay; called as in {@linkcode masked}.
 *
 * @example Freezing an embedding
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { freeze, init, read, sgd, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = freeze(sgd({ learningRate: 1 }), (path) => path === ".embedding");
 * const params = { embedding: tensor(0), head: tensor(0) };
 * const [updates] = optimizer.update({ embedding: tensor(8), head: tensor(8) }, optimizer.init(params), params);
 * const { embedding, head } = await read(updates);
 * assertEquals([embedding[0], head[0]], [0, -8]);
 * ```
 */
export function freeze(inner: GradientTransform, frozen: LeafPredicate): GradientTransform {
  expectOptions("freeze", { frozen: callback }, { frozen });
  return restricted(inner, (path, leaf) => !frozen(path, leaf), "zero");
}
