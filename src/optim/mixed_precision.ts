/**
 * Which float type parameters are stored in and which one a model computes in.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { isDifferentiable, type Tensor } from "../core/tensor.ts";
import { mapTree } from "../core/tree.ts";
import { callback, expectOptions, oneOf } from "../ops/options.ts";
import { roundTo } from "../ops/round_to.ts";
import type { LeafPredicate } from "./scale.ts";

/** Type of stored parameters or of activations. f16 needs an adapter that has it; every adapter stores bf16. */
export type FloatType = "f32" | "bf16" | "f16";

/** Options of {@linkcode mixedPrecision}. */
export interface MixedPrecisionOptions {
  /** Type that `store` gives parameters, `"f32"` by default: then updates too small for the narrow type still add up. */
  readonly parameters?: FloatType;
  /** Type that the model's parameters have while it computes; activations follow it. */
  readonly compute: FloatType;
  /** Leaves that neither `store` nor `round` touches; by default {@linkcode isGateOrNorm}. */
  readonly keep?: LeafPredicate;
}

/** A choice of types. All methods are pure functions of trees; leaves that are not floats pass through. */
export interface PrecisionPolicy {
  /** Type of stored parameters. */
  readonly parameters: FloatType;
  /** Type of computing ones. */
  readonly compute: FloatType;
  /** Gives parameters the type that they are stored in, once, before training. */
  store<P>(params: P): P;
  /** Rounds parameters, or float inputs of a model, to the type it computes in. Gradients pass as they are. */
  round<T>(tree: T): T;
  /**
   * Makes a function of parameters, such as a loss or a layer's `apply`, run on rounded ones. Its gradients have the type
   * of the parameters that are passed to the result, f32 where these are.
   */
  wrap<P, A extends readonly unknown[], R>(f: (params: P, ...rest: A) => R): (params: P, ...rest: A) => R;
}

/** Parts of a path that say that a leaf chooses, or normalizes. */
const GATES_AND_NORMS = /(^|[.\]])(router|norm|\w+Norm|running|slots|keys|directions)(\.|\[|$)/;

/**
 * Chooses by path what should stay in f32: routers and their gates, whose rounding would change who goes where, and norms,
 * which are small. It is the default of {@linkcode MixedPrecisionOptions.keep}.
 *
 * @param path Such as `.blocks[0].body.router.gate`.
 */
export function isGateOrNorm(path: string): boolean {
  return GATES_AND_NORMS.test(path);
}

function converted(x: Tensor, type: FloatType): Tensor {
  return type === "f32" ? castTo(x, "f32") : roundTo(x, type);
}

/**
 * Chooses types for training: parameters are stored in one and rounded to another wherever the model computes.
 *
 * Activations follow the rounded parameters. Products, norms, softmax, attention's scores, gates and losses compute in f32
 * for every type and round their results once. Optimizers keep their state in f32 and round a parameter only when they
 * store it. f16 has a small range, so train with {@linkcode lossScale}; bf16 has that of f32 and needs none.
 *
 * Parameters stored in bf16 or f16 outright save memory, but updates below about 1/500 of a bf16 parameter (1/4000 of an
 * f16 one) are lost.
 *
 * @returns The policy.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example A loss in bf16 with f32 gradients
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, init, matmul, mixedPrecision, sum, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const policy = mixedPrecision({ compute: "bf16" });
 * const loss = policy.wrap(({ weight }: { weight: Tensor }, x: Tensor) => sum(matmul(policy.round(x), weight)));
 * const { weight } = grad(loss)({ weight: tensor([[1], [2]]) }, tensor([[1, 1.001]]));
 * assertEquals([weight.dtype, ...await weight.data()], ["f32", 1, 1]);
 * ```
 *
 * Source: Micikevicius et al. 2017.
 */
export function mixedPrecision(options: MixedPrecisionOptions): PrecisionPolicy {
  const type = oneOf("f32", "bf16", "f16");
  expectOptions("mixedPrecision", { parameters: type.optional(), compute: type, keep: callback.optional() }, options);
  const { parameters = "f32", compute, keep = isGateOrNorm } = options;

  function all<T>(tree: T, to: FloatType): T {
    return mapTree(tree, (leaf, path) => isDifferentiable(leaf) && !keep(path, leaf) ? converted(leaf, to) : leaf);
  }

  function round<T>(tree: T): T {
    return all(tree, compute);
  }

  return {
    parameters,
    compute,
    store: (params) => all(params, parameters),
    round,
    wrap: (f) => (params, ...rest) => f(round(params), ...rest),
  };
}
