/**
 * Position-wise layers, dense or mixed, behind one interface, so that they are compiled, checked and timed alike.
 *
 * @module
 */
import { type DispatchPlan, jit, type Jitted, mul, sum, type Tensor, valueAndGrad } from "../mod.ts";

/** What a body is differentiated by. */
export interface Differentiable {
  /** f32[T, D]. */
  readonly hidden: Tensor;
  /** Combination weights of the plan, f32[A]; a dense body has none. */
  readonly weight?: Tensor;
  /** f32[E, D, F], or f32[D, F] of a dense body. */
  readonly up: Tensor;
  /** f32[E, F, D], or f32[F, D] of a dense body. */
  readonly down: Tensor;
}

/** A layer with the data it is applied to. */
export interface Body {
  /** Short name. */
  readonly name: string;
  /** Hidden states, weights and matrices. */
  readonly given: Differentiable;
  /** Who goes where; null for a dense body. */
  readonly plan: DispatchPlan | null;
  /** Applies the layer. */
  apply(given: Differentiable, plan: DispatchPlan | null): Tensor;
}

/** A body with both passes compiled. */
export interface CompiledBody extends Body {
  /** The output, f32[T, D]. */
  readonly forward: Jitted<[given: Differentiable, plan: DispatchPlan | null], Tensor>;
  /** The sum of the output times a cotangent f32[T, D], and its gradients. */
  readonly both: Jitted<
    [given: Differentiable, plan: DispatchPlan | null, cotangent: Tensor],
    { readonly value: Tensor; readonly grads: Differentiable }
  >;
}

/** Compiles both passes. */
export function compileBody(body: Body): CompiledBody {
  const { name } = body;
  return {
    ...body,
    forward: jit((given: Differentiable, plan: DispatchPlan | null) => body.apply(given, plan), { name }),
    both: jit((given: Differentiable, plan: DispatchPlan | null, cotangent: Tensor) => {
      const loss = (given: Differentiable): Tensor => sum(mul(body.apply(given, plan), cotangent));
      const { value, grads } = valueAndGrad(loss)(given);
      return { value, grads };
    }, { name: `${name} with gradient` }),
  };
}
