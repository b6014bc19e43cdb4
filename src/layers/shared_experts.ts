/**
 * Shared experts: a dense layer that every token visits beside a routed one.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add } from "../ops/binary.ts";
import { expectOptions } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import type { Layer, LayerContext } from "./layer.ts";
import type { MoeInput, MoeOutput } from "./moe.ts";
import { layerPart } from "./options.ts";
import type { RoutedBody } from "./transformer_block.ts";

/** Options of {@linkcode sharedExperts}. */
export interface SharedExpertsOptions<P, Q> {
  /** The routed layer, such as `moe`. */
  readonly routed: RoutedBody<P>;
  /** The dense one, such as `feedForward`: n shared experts are one of n times their inner width. */
  readonly shared: Layer<Q, Tensor, Tensor>;
}

/** Parameters of {@linkcode sharedExperts}. */
export interface SharedExpertsParams<P, Q> {
  /** The routed layer's. */
  readonly routed: P;
  /** The dense one's. */
  readonly shared: Q;
}

/**
 * Adds what a dense layer makes of the hidden states to what a routed layer makes of them, without a weight.
 *
 * Shapes and plan are the routed layer's. A token that the router drops still has the shared experts.
 *
 * @returns A layer that blocks take like the routed one.
 * @throws {ConfigError} If an option is no layer.
 *
 * @example One shared expert beside four routed ones
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { deepseekRouter, feedForward, key, moe, ones, sharedExperts } from "@switchyard/switchyard";
 *
 * const router = deepseekRouter({ width: 8, experts: 4, k: 2 });
 * const layer = sharedExperts({
 *   routed: moe({ router, width: 8, inner: 6 }),
 *   shared: feedForward({ width: 8, inner: 6 }),
 * });
 * const { hidden, plan } = layer.apply(layer.init(key(0)), { hidden: ones([2, 5, 8]) });
 * assertEquals([hidden.shape, plan.assignments], [[2, 5, 8], 20]);
 * ```
 *
 * Source: Dai et al. 2024 (DeepSeekMoE).
 */
export function sharedExperts<P, Q>(options: SharedExpertsOptions<P, Q>): RoutedBody<SharedExpertsParams<P, Q>> {
  expectOptions("sharedExperts", { routed: layerPart, shared: layerPart }, options);
  const { routed, shared } = options;
  return {
    name: `sharedExperts(${routed.name}, ${shared.name})`,
    router: routed.router,
    init(key: Key): SharedExpertsParams<P, Q> {
      const [routedKey, sharedKey] = split(key);
      return { routed: routed.init(routedKey), shared: shared.init(sharedKey) };
    },
    apply(params: SharedExpertsParams<P, Q>, x: MoeInput, context: LayerContext = {}): MoeOutput {
      const [routedKey, sharedKey] = context.key === undefined ? [] : split(context.key);
      const contextOf = (key: Key | undefined): LayerContext => key === undefined ? context : { ...context, key };
      const output = routed.apply(params.routed, x, contextOf(routedKey));
      const dense = shared.apply(params.shared, x.hidden, contextOf(sharedKey));
      return { ...output, hidden: add(output.hidden, dense) };
    },
  };
}
