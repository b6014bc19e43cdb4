/**
 * Alternating Updates whose coefficients depend on the token, the form of Gemma 3n.
 *
 * Letters: K blocks, D width of a block.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import { stopGradient } from "../core/grad.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul, sub } from "../ops/binary.ts";
import { ones, zeros } from "../ops/creation.ts";
import { matmul } from "../ops/matmul.ts";
import { rmsNorm } from "../ops/norm.ts";
import { count, expectOptions, positive } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { clamp } from "../ops/select.ts";
import { tanh } from "../ops/unary.ts";
import { reshape } from "../ops/view.ts";
import { type Hidden, hiddenOf, withHidden } from "./hidden.ts";
import { fanIn } from "./initializers.ts";
import type { Layer, LayerContext } from "./layer.ts";
import { nonNegative } from "./options.ts";
import { blockOf, correctBlocks, joinBlocks, mixBlocks, splitBlocks, STREAM_OPTIONS } from "./width_blocks.ts";

/** Options of {@linkcode tokenAltUp}. */
export interface TokenAltUpOptions<P, X extends Hidden, Y extends Hidden> {
  /** A whole layer of the model, such as `transformerBlock`, with its own residual path, from width D to width D. */
  readonly layer: Layer<P, X, Y>;
  /** Width of a block, D: the layer's. */
  readonly width: number;
  /** Number of blocks, K; 4 by default. */
  readonly blocks?: number;
  /** The computed block, the same in every layer of a model; 0 by default. */
  readonly active?: number;
  /** Bound of the weights behind the coefficients, 120 by default. */
  readonly clip?: number;
  /** Added under the root of the norm, 1e-6 by default. */
  readonly epsilon?: number;
}

/** Parameters of {@linkcode tokenAltUp}. */
export interface TokenAltUpParams<P> {
  /** The layer's. */
  readonly layer: P;
  /** Scale of the norm, [D]. */
  readonly scale: Tensor;
  /** Makes K features of a normed block, [D, K]. */
  readonly features: Tensor;
  /** Makes the prediction of the features, [K, K²]; coefficient i · K + j is the share of block j in block i. */
  readonly prediction: Tensor;
  /** Makes the correction of the features, [K, K]. */
  readonly correction: Tensor;
}

/**
 * Does what `altUp` does with coefficients that each token computes for itself, and lets the layer read the predicted
 * block.
 *
 * Shapes: hidden [..., K · D] -> [..., K · D], alone or in an object. With `m(z) = tanh(rmsNorm(z) · features / D)`:
 * `predicted = (I + m(x_a) · prediction) x`, then `y_i = predicted_i + (1 + m(out) · correction)_i · (out - predicted_a)`
 * where `out = layer(predicted_a)`; all of it in f32.
 *
 * `prediction` and `correction` start at 0, which is the identity start of `altUp`. They are read as if bounded by
 * `clip`, the prediction only while training; gradients pass the bound, so weights beyond it can come back.
 *
 * @returns A layer over the stream; see `projectedAltUp` for its two ends.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 * @throws {ShapeError} By `apply`, if the hidden states are not K · D wide.
 *
 * @example Four blocks around a dense layer
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { feedForward, key, ones, tokenAltUp } from "@switchyard/switchyard";
 *
 * const layer = tokenAltUp({ layer: feedForward({ width: 4 }), width: 4 });
 * assertEquals(layer.apply(layer.init(key(0)), ones([3, 16])).shape, [3, 16]);
 * ```
 *
 * Source: Gemma 3n, as in the transformers library.
 */
export function tokenAltUp<P, X extends Hidden, Y extends Hidden>(
  options: TokenAltUpOptions<P, X, Y>,
): Layer<TokenAltUpParams<P>, X, Y> {
  expectOptions(
    "tokenAltUp",
    { ...STREAM_OPTIONS, active: count.optional(), clip: positive.optional(), epsilon: nonNegative.optional() },
    options,
    () => activeProblems(options),
  );
  const { layer, width, blocks = 4, active = 0, clip = 120, epsilon = 1e-6 } = options;
  const name = `tokenAltUp(${layer.name}, block ${active} of ${blocks})`;

  function featuresOf({ scale, features }: TokenAltUpParams<P>, block: Tensor): Tensor {
    const normed = mul(rmsNorm(block, { scale: castTo(scale, "f32"), epsilon }), 1 / width);
    return tanh(matmul(normed, castTo(features, "f32"))); // [..., K]
  }

  return {
    name,
    init(key: Key): TokenAltUpParams<P> {
      const [layerKey, featureKey] = split(key);
      return {
        layer: layer.init(layerKey),
        scale: ones([width]),
        features: fanIn(featureKey, [width, blocks], { inputs: width }),
        prediction: zeros([blocks, blocks * blocks]),
        correction: zeros([blocks, blocks]),
      };
    },
    apply(params: TokenAltUpParams<P>, x: X, context: LayerContext = {}): Y {
      const wide = hiddenOf(x);
      const stream = splitBlocks(name, wide, { width, blocks }); // [..., K, D]
      const weight = castTo(params.prediction, "f32");
      const mixing = matmul(
        featuresOf(params, blockOf(stream, active)),
        context.train === true ? bounded(weight, clip) : weight,
      ); // [..., K²]
      const moved = mixBlocks(stream, reshape(mixing, [...mixing.shape.slice(0, -1), blocks, blocks]));
      const predicted = add(stream, moved);
      const read = castTo(blockOf(predicted, active), wide.dtype);
      const output = layer.apply(params.layer, withHidden(x, read), context);
      const computed = castTo(hiddenOf(output), "f32");
      const gains = add(matmul(featuresOf(params, computed), bounded(castTo(params.correction, "f32"), clip)), 1);
      return withHidden(output, joinBlocks(correctBlocks(predicted, active, computed, gains), wide));
    },
  };
}

/** Bounds values but not their gradients, as if the parameters themselves had been bounded before the step. */
function bounded(weight: Tensor, limit: number): Tensor {
  return add(weight, stopGradient(sub(clamp(weight, -limit, limit), weight)));
}

function activeProblems<P, X extends Hidden, Y extends Hidden>(
  { active = 0, blocks = 4 }: TokenAltUpOptions<P, X, Y>,
): readonly OptionProblem[] {
  if (active < blocks) return [];
  return [["active", active, `must be a whole number in 0..${blocks - 1} (blocks is ${blocks})`]];
}
