/**
 * The hidden states of what blocks take and return: a tensor, or an object that holds one beside ids, masks or plans.
 * Combinators that wrap either kind reach the hidden states through this file.
 *
 * @module
 */
import { Tensor } from "../core/tensor.ts";

/** Hidden states, alone or with company. */
export type Hidden = Tensor | { readonly hidden: Tensor };

/** The hidden states. */
export function hiddenOf(x: Hidden): Tensor {
  return x instanceof Tensor ? x : x.hidden;
}

/** The same with other hidden states. */
export function withHidden<X extends Hidden>(x: X, hidden: Tensor): X {
  return (x instanceof Tensor ? hidden : { ...x, hidden }) as X;
}
