/**
 * Parameters of a block around which something works: the numbers of that lie with the body's, so that the parameters of
 * all models have the same outer form.
 *
 * @module
 */
import type { Tensor, TransformerBlockParams } from "../../mod.ts";

/** Parameters of a whole block, and tensors beside it, as wrappers of layers have them. */
export type WrappedParams<M> = { readonly layer: TransformerBlockParams<object> } & M;

/** What a block has in the place of its body's parameters: those, and the tensors. */
export type FoldedBody<M> = { readonly layer: object } & M;

/** Moves the tensors into the body. */
export function folded<M extends { readonly [K in keyof M]: Tensor }>(
  { layer: { body, ...rest }, ...beside }: WrappedParams<M>,
): TransformerBlockParams<FoldedBody<M>> {
  // Spreading gives back the parts that were taken off, which the checker does not see for any M.
  return { ...rest, body: { layer: body, ...beside as unknown as M } };
}

/** Moves them back beside the block. */
export function unfolded<M extends { readonly [K in keyof M]: Tensor }>(
  { body: { layer, ...beside }, ...rest }: TransformerBlockParams<FoldedBody<M>>,
): WrappedParams<M> {
  return { layer: { ...rest, body: layer }, ...beside as unknown as M };
}
