/**
 * Alternating Updates along the sequence: a layer computes every k-th position and the others follow.
 *
 * Letters: S positions, n computed ones (anchors), D width.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval } from "../core/shape.ts";
import { Tensor } from "../core/tensor.ts";
import { add, mul, sub } from "../ops/binary.ts";
import { arange, ones, zeros } from "../ops/creation.ts";
import { expectOptions } from "../ops/options.ts";
import { sliceAxis } from "../ops/slice.ts";
import { broadcastTo, reshape, unsqueeze } from "../ops/view.ts";
import { type Hidden, hiddenOf, withHidden } from "./hidden.ts";
import type { Layer, LayerContext } from "./layer.ts";
import type { MoeInput } from "./moe.ts";
import { layerPart } from "./options.ts";
import { severalOption } from "./width_blocks.ts";

/** Options of {@linkcode sequenceAltUp}. */
export interface SequenceAltUpOptions<P, X extends Tensor | MoeInput, Y extends Hidden> {
  /** A whole layer of the model, such as `transformerBlock`, with its own residual path. */
  readonly layer: Layer<P, X, Y>;
  /** Every how many positions one is computed, 2 by default. */
  readonly stride?: number;
}

/** Parameters of {@linkcode sequenceAltUp}: the layer's, and three numbers. */
export interface SequenceAltUpParams<P> {
  /** The layer's. */
  readonly layer: P;
  /** Share of its own value in the prediction of a position, f32 scalar. */
  readonly own: Tensor;
  /** Share of its anchor's value in it, f32 scalar. */
  readonly anchor: Tensor;
  /** Share of the anchor's error that is added, f32 scalar. */
  readonly correction: Tensor;
}

/**
 * Applies a layer to positions 0, k, 2k, … (the anchors) and lets each position follow the last anchor up to it.
 *
 * Shapes: hidden [..., S, D] -> [..., S, D], alone or in an object; the layer sees [..., ceil(S / k), D] and the same
 * positions of ids, positions and mask. `predicted_i = own · x_i + anchor · x_a`, then
 * `y_i = predicted_i + correction · (layer(x)_a - predicted_a)` for the anchor a of i, in f32. It starts at own 1, anchor 0
 * and correction 1: anchors get what the layer returns, the others the same increment.
 *
 * An anchor never comes after a position that follows it, so a causal layer stays causal. Attention in the layer sees
 * anchors only and counts places among them; a plan in the output is over anchors. First and last layers of a model are
 * usually left as they are.
 *
 * @returns A layer over the whole sequence.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 * @throws {ShapeError} By `apply`, if the hidden states have no axis of positions.
 *
 * @example Three of five positions are computed
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { feedForward, key, ones, sequenceAltUp } from "@switchyard/switchyard";
 *
 * const layer = sequenceAltUp({ layer: feedForward({ width: 4 }) });
 * assertEquals(layer.apply(layer.init(key(0)), ones([5, 4])).shape, [5, 4]);
 * ```
 *
 * Source: Baykal et al. 2023 (Alternating Updates for efficient transformers) for the idea; the start is ours.
 */
export function sequenceAltUp<P, X extends Tensor | MoeInput, Y extends Hidden>(
  options: SequenceAltUpOptions<P, X, Y>,
): Layer<SequenceAltUpParams<P>, X, Y> {
  expectOptions("sequenceAltUp", { layer: layerPart, stride: severalOption.optional() }, options);
  const { layer, stride = 2 } = options;
  const name = `sequenceAltUp(${layer.name}, 1 of ${stride})`;

  return {
    name,
    init(key: Key): SequenceAltUpParams<P> {
      return { layer: layer.init(key), own: ones([]), anchor: zeros([]), correction: ones([]) };
    },
    apply(params: SequenceAltUpParams<P>, x: X, context?: LayerContext): Y {
      const all = hiddenOf(x);
      expectPositions(name, all);
      const length = all.shape.at(-2)!;
      const [own, anchor, correction] = [params.own, params.anchor, params.correction].map((c) => castTo(c, "f32"));
      const wide = castTo(all, "f32");
      const anchors = sliceAxis(wide, -2, { step: stride }); // [..., n, D]
      const output = layer.apply(params.layer, anchorsOf(x, stride), context);
      const computed = castTo(hiddenOf(output), "f32"); // [..., n, D]
      const gained = mul(sub(computed, mul(anchors, add(own!, anchor!))), correction!);
      const shared = add(mul(anchors, anchor!), gained); // what every position takes from its anchor
      const followed = add(mul(wide, own!), spreadAnchors(shared, stride, length));
      return withHidden(output, castTo(followed, all.dtype));
    },
  };
}

/** Keeps the anchors of everything that has an axis of positions. */
function anchorsOf<X extends Tensor | MoeInput>(x: X, stride: number): X {
  const hidden = sliceAxis(hiddenOf(x), -2, { step: stride });
  if (x instanceof Tensor) return hidden as X;
  const { ids, positions, mask } = x;
  const every = (side: Tensor): Tensor => sliceAxis(side, -1, { step: stride });
  return {
    ...x,
    hidden,
    positions: every(positions ?? arange(x.hidden.shape.at(-2)!)),
    ...(ids === undefined ? {} : { ids: every(ids) }),
    ...(mask === undefined ? {} : { mask: every(mask) }),
  };
}

/** Repeats each anchor for the positions that follow it: [..., n, D] -> [..., S, D]. */
function spreadAnchors(anchors: Tensor, stride: number, length: number): Tensor {
  const [lead, [count, width]] = [anchors.shape.slice(0, -2), anchors.shape.slice(-2) as [number, number]];
  const repeated = broadcastTo(unsqueeze(anchors, -2), [...lead, count, stride, width]);
  return sliceAxis(reshape(repeated, [...lead, count * stride, width]), -2, { stop: length });
}

function expectPositions(op: string, x: Tensor): void {
  if (x.shape.length >= 2) return;
  throw new ShapeError("shape/sequence-alt-up", {
    summary: `Cannot apply ${op}: the hidden states are ${formatAval(x)}, there is no axis of positions`,
    fix: "pass hidden states [..., positions, width]",
    details: { op, shape: x.shape },
  });
}
