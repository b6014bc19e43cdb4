/**
 * Running experts with dropout between their two products, which the fused op does not know.
 *
 * Letters: T tokens, A assignments, E experts, D model width, F expert width.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, mul } from "../ops/binary.ts";
import { arange } from "../ops/creation.ts";
import { dropout } from "../ops/dropout.ts";
import { sumRows, takeRows } from "../ops/rows.ts";
import { unsqueeze } from "../ops/view.ts";
import type { ExpertParams } from "../routing/execute.ts";
import type { DispatchPlan } from "../routing/plan_types.ts";
import { executeSegments } from "../routing/segment.ts";
import { type Activation, ACTIVATIONS } from "./feed_forward.ts";

/** Options of {@linkcode executeDropped}. */
export interface ExecuteDroppedOptions {
  /** Nonlinearity. */
  readonly activation: Activation;
  /** Decides which values are dropped; consumed. */
  readonly key: Key;
  /** Share of the inner values that is dropped. */
  readonly rate: number;
}

/** Token of each assignment, u32[A]. Dropped assignments may name any: they have no row. */
function tokenOfAssignment({ tokens, assignments, tokenOffsets, rowToken, assignRow }: DispatchPlan): Tensor {
  // With as many assignments for every token no table is needed.
  return tokenOffsets === undefined ? div(arange(assignments), assignments / tokens) : takeRows(rowToken, assignRow);
}

/**
 * Does what `execute` does, but drops each inner value of each assignment with a probability, and divides the others by
 * that of staying.
 *
 * Shapes: hidden [T, D] -> [T, D], in the type of `hidden`; computed in f32. The body is gated if there is a gate. It takes
 * a dispatch for each product and each sum, and stores the A · F inner values.
 *
 * @returns A tensor like `hidden`; tokens without a row get zeros.
 * @throws {ShapeError} If shapes do not fit the plan.
 */
export function executeDropped(
  plan: DispatchPlan,
  hidden: Tensor,
  { up, upBias, gate, gateBias, down, downBias }: ExpertParams,
  { activation, key, rate }: ExecuteDroppedOptions,
): Tensor {
  const token = tokenOfAssignment(plan);
  const weight = unsqueeze(plan.weight, 1); // f32[A, 1]
  /** Each assignment as a token of its own, with one row. */
  const { tokenOffsets: _ofTokens, ...rest } = plan;
  const single: DispatchPlan = { ...rest, tokens: plan.assignments, rowToken: plan.rowAssign };
  const wide = castTo(hidden, "f32");
  const isEarly = plan.scaleAt === "input";
  const source = isEarly ? mul(takeRows(wide, token), weight) : wide; // [A or T, D]

  function project(by: DispatchPlan, x: Tensor, matrix: Tensor, bias: Tensor | undefined): Tensor {
    const biases = bias === undefined ? {} : { bias: castTo(bias, "f32") };
    return executeSegments(by, x, { weight: castTo(matrix, "f32"), ...biases });
  }

  const first = isEarly ? single : plan;
  const raised = project(first, source, up, upBias); // [A, F]
  const activate = ACTIVATIONS[activation];
  const inner = gate === undefined ? activate(raised) : mul(activate(project(first, source, gate, gateBias)), raised);
  const rows = project(single, dropout(key, inner, rate), down, downBias); // [A, D]
  return castTo(sumRows(isEarly ? rows : mul(rows, weight), token, plan.tokens), hidden.dtype);
}
