/**
 * A stream of hidden states that is K blocks wide, of which a layer computes one: what the forms of Alternating Updates
 * are made of.
 *
 * Letters: K blocks, D width of a block.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul, sub } from "../ops/binary.ts";
import { numberThat, type OptionShape, positiveCount } from "../ops/options.ts";
import { sliceAxis } from "../ops/slice.ts";
import { reshape, unsqueeze } from "../ops/view.ts";
import { layerPart } from "./options.ts";

/** Sizes of a stream. */
export interface StreamSize {
  /** Size of a block, D. */
  readonly width: number;
  /** Number of blocks, K. */
  readonly blocks: number;
}

/** A count of at least 2. */
export const severalOption: OptionShape[string] = numberThat(
  "must be a whole number from 2 up",
  (value) => Number.isSafeInteger(value) && value >= 2,
);

/** What every layer around a stream accepts. */
export const STREAM_OPTIONS: OptionShape = {
  layer: layerPart,
  width: positiveCount,
  blocks: severalOption.optional(),
};

/**
 * Cuts the last axis into blocks: [..., K · D] -> f32[..., K, D].
 *
 * @param op Name of the layer, for the message.
 * @throws {ShapeError} If the last axis has another size.
 */
export function splitBlocks(op: string, x: Tensor, { width, blocks }: StreamSize): Tensor {
  expectWidth(op, x, blocks * width, `${blocks} blocks of ${width}`);
  // Half precision would lose the small increments that most blocks get.
  return castTo(reshape(x, [...x.shape.slice(0, -1), blocks, width]), "f32");
}

/** Puts blocks side by side, in the type of the stream they came from: [..., K, D] -> [..., K · D]. */
export function joinBlocks(stream: Tensor, like: Tensor): Tensor {
  const [blocks, width] = stream.shape.slice(-2) as [number, number];
  return castTo(reshape(stream, [...stream.shape.slice(0, -2), blocks * width]), like.dtype);
}

/** One block of [..., K, D], [..., D]. */
export function blockOf(stream: Tensor, block: number): Tensor {
  const part = sliceAxis(stream, -2, { start: block, stop: block + 1 });
  return reshape(part, [...stream.shape.slice(0, -2), stream.shape.at(-1)!]);
}

/**
 * Mixes blocks: `result_i = Σ_j coefficients[i, j] · x_j`.
 *
 * @param coefficients f32[K, K], or [..., K, K] by token.
 */
export function mixBlocks(stream: Tensor, coefficients: Tensor): Tensor {
  // K outer products rather than a matrix product: K is tiny, and all of it is one elementwise kernel.
  const terms = Array.from({ length: stream.shape.at(-2)! }, (_, j) => {
    const own = { start: j, stop: j + 1 };
    return mul(sliceAxis(coefficients, -1, own), sliceAxis(stream, -2, own)); // [..., K, 1] · [..., 1, D]
  });
  return terms.reduce((total, term) => add(total, term));
}

/**
 * Spreads what the computed block gained over all blocks: `result_i = predicted_i + gains_i · (computed - predicted_active)`.
 *
 * @param computed What the layer made of the active block, [..., D].
 * @param gains f32[K], or [..., K] by token.
 */
export function correctBlocks(predicted: Tensor, active: number, computed: Tensor, gains: Tensor): Tensor {
  const gained = sub(castTo(computed, "f32"), blockOf(predicted, active)); // [..., D]
  return add(predicted, mul(unsqueeze(gains, -1), unsqueeze(gained, -2)));
}

/**
 * Checks the last axis of hidden states.
 *
 * @throws {ShapeError} If it has another size.
 */
export function expectWidth(op: string, x: Tensor, size: number, meaning: string): void {
  if (x.shape.length >= 1 && x.shape.at(-1) === size) return;
  throw new ShapeError("shape/width-blocks", {
    summary: `Cannot apply ${op}: the hidden states are ${formatAval(x)}, their last axis should have ${size} elements`,
    facts: [["last axis", meaning]],
    fix: `pass hidden states [..., ${size}]`,
    details: { op, shape: x.shape, expected: size },
  });
}
