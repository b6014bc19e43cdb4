/**
 * A block of a transformer that computes one of several blocks of a wide stream, in all the ways in which it can run.
 *
 * @module
 */
import {
  altUp,
  type AltUpOptions,
  type AltUpParams,
  type AttentionCache,
  type BlockOutput,
  type CachedBlockOutput,
  type Key,
  type Layer,
  type LayerContext,
  type MoeInput,
  type Tensor,
  type TransformerBlockLayer,
  type TransformerBlockParams,
} from "../../mod.ts";
import { folded, type FoldedBody, unfolded } from "./folded_params.ts";

/** The numbers that mix the blocks of the stream. */
export type AlternatingMixing = Omit<AltUpParams<unknown>, "layer">;

/** What such a block has in the place of its body's parameters. */
export type AlternatingBodyParams = FoldedBody<AlternatingMixing>;

type Params = TransformerBlockParams<AlternatingBodyParams>;
type Whole = AltUpParams<TransformerBlockParams<object>>;

/**
 * Lets a block compute one block of a stream.
 *
 * @param block The block, of the width of one block of the stream.
 * @param options Sizes of the stream, and which of its blocks is computed.
 * @returns A block of the stream's width.
 */
export function alternatingBlock(
  block: TransformerBlockLayer<object>,
  options: Pick<AltUpOptions<object, MoeInput, BlockOutput>, "width" | "blocks" | "index" | "selection">,
): TransformerBlockLayer<AlternatingBodyParams> {
  function around<X extends MoeInput, Y extends BlockOutput>(
    apply: (params: TransformerBlockParams<object>, x: X, context?: LayerContext) => Y,
  ): Layer<Whole, X, Y> {
    const layer = { name: block.name, init: (key: Key) => block.init(key), apply };
    return altUp({ ...options, layer });
  }

  const whole = around((params, x: MoeInput, context) => block.apply(params, x, context));
  return {
    name: whole.name,
    init: (key: Key): Params => folded<AlternatingMixing>(whole.init(key)),
    apply(params: Params, x: MoeInput, context?: LayerContext): BlockOutput {
      return whole.apply(unfolded<AlternatingMixing>(params), x, context);
    },
    prefill(params: Params, x: MoeInput, room: number): CachedBlockOutput {
      return around((inner, own: MoeInput) => block.prefill(inner, own, room)).apply(
        unfolded<AlternatingMixing>(params),
        x,
      );
    },
    decode(params: Params, x: MoeInput & { readonly positions: Tensor }, cache: AttentionCache): CachedBlockOutput {
      return around((inner, own: typeof x) => block.decode(inner, own, cache)).apply(
        unfolded<AlternatingMixing>(params),
        x,
      );
    },
  };
}
