/**
 * The choice between the two norms, for layers that have one inside.
 *
 * @module
 */
import type { Tensor } from "../core/tensor.ts";
import { layerNormLayer, type LayerNormParams } from "./layer_norm.ts";
import type { Layer } from "./layer.ts";
import { rmsNormLayer, type RmsNormParams } from "./rms_norm.ts";

/** Which norm a layer has inside. */
export type NormKind = "rmsNorm" | "layerNorm";

/** Parameters of either norm. */
export type NormParams = LayerNormParams | RmsNormParams;

/** Options of {@linkcode normLayer}. */
export interface NormOptions {
  /** Size of the last axis. */
  readonly width: number;
  /** Added under the root; undefined leaves it to the norm. */
  readonly epsilon: number | undefined;
}

/** Makes the norm of a kind. */
export function normLayer(kind: NormKind, { width, epsilon }: NormOptions): Layer<NormParams, Tensor, Tensor> {
  const options = epsilon === undefined ? { width } : { width, epsilon };
  return kind === "rmsNorm" ? rmsNormLayer(options) : layerNormLayer(options);
}
