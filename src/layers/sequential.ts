/**
 * Layers one after another.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import { split } from "../ops/random.ts";
import type { Layer, LayerContext } from "./layer.ts";

/** Applies one layer. */
export function sequential<A, X, Y>(a: Layer<A, X, Y>): Layer<[A], X, Y>;
/** Applies two layers. */
export function sequential<A, B, X, I, Y>(a: Layer<A, X, I>, b: Layer<B, I, Y>): Layer<[A, B], X, Y>;
/** Applies three layers. */
export function sequential<A, B, C, X, I, J, Y>(
  a: Layer<A, X, I>,
  b: Layer<B, I, J>,
  c: Layer<C, J, Y>,
): Layer<[A, B, C], X, Y>;
/** Applies four layers. */
export function sequential<A, B, C, D, X, I, J, K, Y>(
  a: Layer<A, X, I>,
  b: Layer<B, I, J>,
  c: Layer<C, J, K>,
  d: Layer<D, K, Y>,
): Layer<[A, B, C, D], X, Y>;
/** Applies five layers. */
export function sequential<A, B, C, D, E, X, I, J, K, L, Y>(
  a: Layer<A, X, I>,
  b: Layer<B, I, J>,
  c: Layer<C, J, K>,
  d: Layer<D, K, L>,
  e: Layer<E, L, Y>,
): Layer<[A, B, C, D, E], X, Y>;
/** Applies any number of layers whose input and output are of one type. */
export function sequential<P, X>(...layers: readonly Layer<P, X, X>[]): Layer<P[], X, X>;
/**
 * Applies layers one after another. The parameters are a tuple of theirs; a layer that does not accept what the one before
 * it returns is a compile error.
 *
 * Initialization splits the key by layer, and so does application if the context has one.
 *
 * @returns A layer.
 *
 * @example Two layers and what is between them
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { feedForward, key, linear, ones, sequential } from "@switchyard/switchyard";
 *
 * const model = sequential(linear({ inputs: 3, outputs: 8 }), feedForward({ width: 8 }));
 * const [first, second] = model.init(key(0));
 * assertEquals([first.weight.shape, second.up.weight.shape], [[3, 8], [8, 32]]);
 * assertEquals(model.apply([first, second], ones([5, 3])).shape, [5, 8]);
 * ```
 */
export function sequential(...layers: readonly Layer<unknown, unknown, unknown>[]): Layer<unknown[], unknown, unknown> {
  return {
    name: `sequential(${layers.map(({ name }) => name).join(", ")})`,
    init(key: Key): unknown[] {
      const keys: readonly Key[] = split(key, layers.length);
      return layers.map((layer, i) => layer.init(keys[i]!));
    },
    apply(params: unknown[], x: unknown, context: LayerContext = {}): unknown {
      const keys: readonly Key[] = context.key === undefined ? [] : split(context.key, layers.length);
      return layers.reduce((value, layer, i) => {
        const key = keys[i];
        return layer.apply(params[i], value, key === undefined ? context : { ...context, key });
      }, x);
    },
  };
}
