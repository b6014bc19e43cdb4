/**
 * What a primitive is: one object that holds its shape rule, its meaning on the host, its derivative, its batching
 * rule and its lowering. A tensor points at its primitive; there is no registry.
 *
 * @module
 */
import type { Aval } from "./shape.ts";
import type { Lowering } from "./kernel.ts";
import type { Tensor } from "./tensor.ts";

/** Values on the host in float64, whatever the dtype: the oracle of every kernel. Integers are exact, booleans 0 or 1. */
export interface HostArray extends Aval {
  /** Elements in row-major order. */
  readonly data: Float64Array;
}

/** Static parameters of a node: plain JSON data, because they are part of a program's cache key. */
// deno-lint-ignore no-explicit-any -- each primitive narrows its own attributes; a union of all would tie core to ops
export type Attrs = any;

/** One tensor for each output (or input), null where there is none. */
export type MaybeTensors = readonly (Tensor | null)[];

/** What every primitive says of itself. */
export interface Rules<A> {
  /** Unique name, also part of cache keys. */
  readonly name: string;
  /** Shapes and types of the outputs; the only place that rejects inputs. */
  shape(inputs: readonly Aval[], attrs: A): readonly Aval[];
  /** Meaning in float64. A composite leaves it out: the oracle evaluates its expansion. */
  host?(inputs: readonly HostArray[], attrs: A): readonly HostArray[];
  /**
   * Outputs with a new axis 0, given inputs that have it where `mapped`. Left out, elementwise primitives spread the
   * unmapped inputs and composites batch their expansion.
   */
  batch?(inputs: readonly Tensor[], mapped: readonly boolean[], attrs: A, batchSize: number): readonly Tensor[];
  /** How it becomes WGSL. `inline` composites never reach the compiler. */
  readonly lower: Lowering<A>;
}

/**
 * How a primitive differentiates. Tangents and cotangents exist for float tensors only.
 * - `elementwise`: one output of the inputs' shape; `partials` gives ∂y/∂xᵢ, null where it is zero.
 * - `linear`: jointly linear in all float inputs; `transpose` maps the output's cotangents to the inputs'.
 * - `bilinear`: linear in each float input separately; `transpose` as above, for every input at once.
 * - `smooth`: `vjp` as a differentiable function; the forward derivative is its transpose.
 * - `discrete`: zero derivative.
 * - `composite`: `expand` states the meaning in smaller ops; an optional hand-written `vjp` overrides its reverse.
 */
export type Derivative<A> =
  | {
    readonly kind: "elementwise";
    partials(inputs: readonly Tensor[], output: Tensor, attrs: A): MaybeTensors;
  }
  | {
    readonly kind: "linear" | "bilinear";
    transpose(cotangents: readonly Tensor[], inputs: readonly Tensor[], attrs: A): MaybeTensors;
  }
  | {
    readonly kind: "smooth";
    vjp(
      cotangents: readonly Tensor[],
      inputs: readonly Tensor[],
      outputs: readonly Tensor[],
      attrs: A,
    ): MaybeTensors;
  }
  | { readonly kind: "discrete"; readonly elementwise?: boolean }
  | {
    readonly kind: "composite";
    expand(inputs: readonly Tensor[], attrs: A): readonly Tensor[];
    vjp?(
      cotangents: readonly Tensor[],
      inputs: readonly Tensor[],
      outputs: readonly Tensor[],
      attrs: A,
    ): MaybeTensors;
  };

/** A primitive operation. */
export type Primitive<A = Attrs> = Rules<A> & Derivative<A>;

/**
 * Checks a primitive's completeness by its type and freezes it.
 *
 * @returns The same object, with its attribute type forgotten so that primitives can be stored together.
 */
export function definePrimitive<A>(primitive: Primitive<A>): Primitive {
  return Object.freeze(primitive) as Primitive;
}
