/**
 * What a layer is: a pair of pure functions.
 *
 * @module
 */
import type { Key } from "../core/key.ts";

/** What a layer depends on besides parameters and input. */
export interface LayerContext {
  /** Random key; dropout and jitter need one while training. */
  readonly key?: Key;
  /** Whether dropout and jitter apply. False by default. */
  readonly train?: boolean;
}

/** Parameters and the pure function that applies them. `P` is a tree of tensors. */
export interface Layer<P, X, Y> {
  /** Name with the sizes that matter, such as `linear(64 -> 128)`. */
  readonly name: string;
  /** Makes initial parameters. */
  init(key: Key): P;
  /** Applies the layer. */
  apply(params: P, x: X, context?: LayerContext): Y;
}
