/**
 * Sinkhorn's algorithm in logarithms: a soft assignment with even rows and columns.
 *
 * @module
 */
import { castTo, reshapeTo } from "../core/arithmetic.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, maximum, sub } from "../ops/binary.ts";
import { zeros } from "../ops/creation.ts";
import { logSumExp, sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { log, neg } from "../ops/unary.ts";

/** Options of {@linkcode sinkhorn}. */
export interface SinkhornOptions {
  /** Rounds of scaling columns, then rows. */
  readonly iterations: number;
  /** Which rows count, bool[T]; all by default. */
  readonly mask?: Tensor | undefined;
  /**
   * `"added"` (the default) is Sinkhorn's algorithm. `"subtracted"` is what the published code of sigma-MoE's S-BASE
   * baseline does, to repeat its runs: shifts are subtracted in the rounds and added at the end, and sums stay uneven.
   */
  readonly shifts?: SinkhornShifts;
}

/** How the rounds of {@linkcode sinkhorn} use the shifts of rows and columns. */
export type SinkhornShifts = "added" | "subtracted";

/** Logarithm of what padding contributes to a sum: nothing, but finite, so that a sum of nothing is no NaN. */
const NOTHING = -1e30;

/**
 * Scales the rows and columns of `exp(logits)` so that each of the n real rows sums to 1 / n and each of the E columns to
 * about 1 / E: the plan of entropic optimal transport between tokens and experts. Rows are exact after any number of
 * rounds; columns converge.
 *
 * Logits of any size are safe. Differentiable through all rounds.
 *
 * @param logits f32[T, E], finite.
 * @returns Logarithm of the plan, f32[T, E]; -1e30 or less for padding.
 *
 * @example Columns become even
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { exp, init, sinkhorn, sum, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const plan = exp(sinkhorn(tensor([[3, 0], [2, 0], [0, 1], [2, 0]]), { iterations: 20 }));
 * const [first] = await sum(plan, { axis: 0 }).data();
 * assertAlmostEquals(first!, 0.5, 1e-3);
 * ```
 *
 * Source: Cuturi 2013; Clark et al. 2022 for its use in routing.
 */
export function sinkhorn(logits: Tensor, { iterations, mask, shifts = "added" }: SinkhornOptions): Tensor {
  const [tokens, experts] = logits.shape as [number, number];
  const rows = mask === undefined ? zeros([tokens, 1]) : where(reshapeTo(mask, [tokens, 1]), 0, NOTHING); // f32[T, 1]
  const real = mask === undefined ? Math.log(Math.max(1, tokens)) : log(maximum(sum(castTo(mask, "f32")), 1));
  if (shifts === "subtracted") {
    const shifted = shiftBySubtraction(add(logits, rows), real, iterations);
    return mask === undefined ? shifted : where(reshapeTo(mask, [tokens, 1]), shifted, NOTHING);
  }
  let rowShift = rows;
  let columnShift = zeros([1, experts]);
  for (let round = 0; round < iterations; round++) {
    const columns = logSumExp(add(logits, rowShift), { axis: 0, keepDims: true });
    columnShift = neg(add(columns, Math.log(experts)));
    const sums = logSumExp(add(logits, columnShift), { axis: 1, keepDims: true });
    rowShift = sub(sub(rows, sums), real);
  }
  return add(add(logits, rowShift), columnShift);
}

/** The published variant, rows before columns as there. Rows far below all else count for nothing in the columns. */
function shiftBySubtraction(logits: Tensor, real: Tensor | number, iterations: number): Tensor {
  const [tokens, experts] = logits.shape as [number, number];
  let rowShift = zeros([tokens, 1]);
  let columnShift = zeros([1, experts]);
  for (let round = 0; round < iterations; round++) {
    rowShift = neg(add(logSumExp(sub(logits, columnShift), { axis: 1, keepDims: true }), real));
    columnShift = neg(add(logSumExp(sub(logits, rowShift), { axis: 0, keepDims: true }), Math.log(experts)));
  }
  return add(add(logits, rowShift), columnShift);
}
