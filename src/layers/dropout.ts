/**
 * Dropout as a layer: it applies while training and needs a key then.
 *
 * @module
 */
import { ConfigError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { dropout } from "../ops/dropout.ts";
import { belowOne, expectOptions } from "../ops/options.ts";
import type { Layer, LayerContext } from "./layer.ts";

/** Options of {@linkcode dropoutLayer}. */
export interface DropoutLayerOptions {
  /** Probability of zero, from 0 up to 1. */
  readonly rate: number;
}

/** A layer without parameters has an empty tree. */
export type NoParams = Readonly<Record<string, never>>;

/**
 * Sets elements to zero with a probability while training, and divides the others by the probability of staying.
 *
 * Shapes stay. Outside training, and at rate 0, the input passes through and no key is needed.
 *
 * @returns A layer whose `apply` throws ConfigError if it trains without a key.
 * @throws {ConfigError} If the rate is not from 0 up to 1.
 *
 * @example Only training drops
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { dropoutLayer, init, key, ones } from "@switchyard/switchyard";
 *
 * await init();
 * const layer = dropoutLayer({ rate: 0.5 });
 * const dropped = await layer.apply({}, ones([100]), { key: key(0), train: true }).data();
 * assertEquals(new Set(dropped), new Set([0, 2]));
 * assertEquals(await layer.apply({}, ones([2])).data(), new Float32Array([1, 1]));
 * ```
 *
 * Source: Srivastava et al. 2014.
 */
export function dropoutLayer(options: DropoutLayerOptions): Layer<NoParams, Tensor, Tensor> {
  expectOptions("dropoutLayer", { rate: belowOne }, options);
  const { rate } = options;
  const name = `dropout(${rate})`;
  return {
    name,
    init: (_key: Key): NoParams => ({}),
    apply(_params: NoParams, x: Tensor, { key, train = false }: LayerContext = {}): Tensor {
      if (!train || rate === 0) return x;
      if (key !== undefined) return dropout(key, x, rate);
      throw new ConfigError("random/missing-key", {
        summary: `Cannot train ${name}: it draws at random and the context has no key`,
        facts: [["context", "{ train: true }"]],
        fix: "pass { key, train: true } with a new key for each step, or leave train out",
      });
    },
  };
}
