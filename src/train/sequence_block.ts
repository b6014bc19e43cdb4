/**
 * A block of a transformer that computes every k-th position (the anchors), in all the ways in which it can run.
 *
 * Letters: B sequences, D width.
 *
 * @module
 */
import {
  add,
  type AttentionCache,
  type BlockOutput,
  type CachedBlockOutput,
  cast,
  div,
  equal,
  full,
  type Key,
  type Layer,
  type LayerContext,
  type MoeInput,
  mul,
  remainder,
  reshape,
  sequenceAltUp,
  type SequenceAltUpParams,
  sub,
  sum,
  takeAlong,
  type Tensor,
  type TransformerBlockLayer,
  type TransformerBlockParams,
  unsqueeze,
  where,
} from "../../mod.ts";
import { folded, type FoldedBody, unfolded } from "./folded_params.ts";

/** The numbers by which other positions follow the anchors. */
export type SequenceMixing = Omit<SequenceAltUpParams<unknown>, "layer">;

/** What such a block has in the place of its body's parameters. */
export type SequenceBodyParams = FoldedBody<SequenceMixing>;

/** Every how many positions one is computed, where nothing else is said. */
export const DEFAULT_STRIDE = 2;

type Params = TransformerBlockParams<SequenceBodyParams>;
type Whole = SequenceAltUpParams<TransformerBlockParams<object>>;

/** Keys and values of the anchors, and what positions after the last one take from it. */
interface AnchorCache extends AttentionCache {
  /** Float [B, D]. */
  readonly shared: Tensor;
}

/**
 * Lets a block compute every k-th position. The others follow the last one before them, so no position sees a later one,
 * and token by token the block does what it does to a whole sequence.
 *
 * @param block The block.
 * @param stride Every how many positions one is computed.
 * @returns A block of the same width; its caches have room for anchors alone.
 */
export function sequenceBlock(
  block: TransformerBlockLayer<object>,
  stride: number,
): TransformerBlockLayer<SequenceBodyParams> {
  function around<Y extends BlockOutput>(
    apply: (params: TransformerBlockParams<object>, x: MoeInput, context?: LayerContext) => Y,
  ): Layer<Whole, MoeInput, Y> {
    const layer = { name: block.name, init: (key: Key) => block.init(key), apply };
    return sequenceAltUp({ layer, stride });
  }

  const whole = around((params, x, context) => block.apply(params, x, context));
  return {
    name: whole.name,
    init: (key: Key): Params => folded<SequenceMixing>(whole.init(key)),
    apply(params: Params, x: MoeInput, context?: LayerContext): BlockOutput {
      return whole.apply(unfolded<SequenceMixing>(params), x, context);
    },
    prefill(params: Params, x: MoeInput, room: number): CachedBlockOutput {
      const anchors = Math.ceil(room / stride);
      const output = around((inner, own) => block.prefill(inner, own, anchors)).apply(
        unfolded<SequenceMixing>(params),
        x,
      );
      const last = lastAnchors(x, stride);
      const shared = sub(rowsAt(output.hidden, last), mul(rowsAt(x.hidden, last), params.body.own));
      const cache: AnchorCache = { ...output.cache, shared };
      return { ...output, cache };
    },
    decode(params: Params, x: MoeInput & { readonly positions: Tensor }, cache: AttentionCache): CachedBlockOutput {
      // It comes from `prefill` or from here.
      const { shared: before, ...kept } = cache as AnchorCache;
      const { hidden, positions } = x;
      const { layer, own, anchor, correction } = unfolded<SequenceMixing>(params);
      const isAnchor = equal(remainder(positions, stride), 0); // [B]
      // Others are computed too, since shapes do not depend on the position: past the end of the cache, which keeps nothing.
      const place = where(isAnchor, div(positions, stride), kept.keys.shape[2]!);
      const computed = block.decode(layer, { ...x, positions: place }, kept);
      const gained = mul(sub(computed.hidden, mul(hidden, add(own, anchor))), correction);
      const shared = where(unsqueeze(isAnchor, 1), add(mul(hidden, anchor), gained), before);
      const next: AnchorCache = { ...computed.cache, shared };
      return { ...computed, hidden: add(mul(hidden, own), shared), cache: next };
    },
  };
}

/** The place of the last anchor of each prompt, u32[B]. */
function lastAnchors({ hidden, mask }: MoeInput, stride: number): Tensor {
  const [sequences, length] = hidden.shape as [number, number];
  const counts = mask === undefined ? full([sequences], length, { dtype: "u32" }) : sum(cast(mask, "u32"), { axis: 1 });
  return mul(div(sub(counts, 1), stride), stride);
}

/** One position of each sequence: [B, S, D] -> [B, D]. */
function rowsAt(hidden: Tensor, places: Tensor): Tensor {
  const [sequences, , width] = hidden.shape as [number, number, number];
  return reshape(takeAlong(hidden, reshape(places, [sequences, 1, 1]), { axis: 1 }), [sequences, width]);
}
