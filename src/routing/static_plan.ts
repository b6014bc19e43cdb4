/**
 * Plans that depend on sizes alone: blocks of rows of equal size, one block for each expert. Layers that mix tokens into
 * slots, or experts into one, run their experts through them.
 *
 * @module
 */
import { fullLike, iota } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "../ops/binary.ts";
import type { DispatchPlan } from "./plan_types.ts";

/** Sizes of a {@linkcode planOfEvenBlocks}. */
export interface EvenBlocksOptions {
  /** Number of experts, E. */
  readonly experts: number;
  /** Rows of each expert. */
  readonly rows: number;
  /** Auxiliary losses that the plan should carry. */
  readonly aux?: Readonly<Record<string, Tensor>>;
}

/**
 * Gives the first `rows` tokens to expert 0, the next ones to expert 1, and so on, all with the weight 1.
 *
 * Nothing is sorted: every field is a constant. There are E · rows tokens with one assignment each.
 *
 * @example Two blocks of three
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, planOfEvenBlocks } from "@switchyard/switchyard";
 *
 * await init();
 * const plan = planOfEvenBlocks({ experts: 2, rows: 3 });
 * assertEquals([...await plan.expertOffsets.data()], [0, 3, 6]);
 * ```
 */
export function planOfEvenBlocks({ experts, rows, aux = {} }: EvenBlocksOptions): DispatchPlan {
  const tokens = experts * rows;
  const order = iota([tokens], "u32", 0);
  const counts = fullLike([experts], "u32", rows);
  return {
    tokens,
    experts,
    assignments: tokens,
    expertOffsets: mul(iota([experts + 1], "u32", 0), rows),
    rowToken: order,
    rowAssign: order,
    assignRow: order,
    weight: fullLike([tokens], "f32", 1),
    scaleAt: "output",
    aux,
    stats: {
      load: counts,
      counts,
      dropped: fullLike([], "u32", 0),
      entropy: fullLike([], "f32", tokens === 0 ? 0 : Math.log(experts)),
    },
  };
}
