/**
 * The body `segment`: each assignment multiplies its token by one matrix of its expert, and nothing is added up. It is
 * what layers are made of whose experts own slices of one matrix.
 *
 * Gathering, product, bias and scattering are one kernel, as in `execute`. Letters: T tokens, A assignments, E experts,
 * I inputs, O outputs.
 *
 * @module
 */
import { castTo, fullLike } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import type { DispatchPlan } from "./plan_types.ts";
import { multiplySegments } from "./segment_product.ts";
import { expectArgument } from "./tokens.ts";

/** Matrices of experts. */
export interface SegmentParams {
  /** Float [E, I, O]. */
  readonly weight: Tensor;
  /** Float [E, O]; none by default. */
  readonly bias?: Tensor;
}

/**
 * Multiplies the token of each assignment by its expert's matrix: `result[a] = x[token of a] · weight[expert of a] (+ bias)`.
 *
 * Shapes: x [T, I], weight [E, I, O] -> [A, O] in the type of `x`, by assignment id; zeros for dropped assignments. Computed
 * in f32 for every float type. The plan's weights are not applied. Differentiable in `x`, `weight` and `bias`, any number of
 * times; an expert without tokens has a gradient of zeros. Sums have a fixed order, so a run repeats bit for bit.
 *
 * @param plan Who is multiplied by what.
 * @throws {ShapeError} If shapes do not fit the plan.
 *
 * @example Two tokens, each by its own matrix
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { executeSegments, init, planFromTopK, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const plan = planFromTopK({
 *   experts: 2,
 *   indices: tensor([[1], [0]], { dtype: "u32" }),
 *   weights: tensor([[1], [1]]),
 * });
 * const rows = executeSegments(plan, tensor([[1], [2]]), { weight: tensor([[[3]], [[5]]]) });
 * assertEquals([...await rows.data()], [5, 6]);
 * ```
 */
export function executeSegments(plan: DispatchPlan, x: Tensor, { weight, bias }: SegmentParams): Tensor {
  const { tokens, experts, assignments, expertOffsets, rowToken, rowAssign, assignRow, tokenOffsets } = plan;
  expectFits(plan, x, weight);
  const outputs = weight.shape[2]!;
  if (bias !== undefined) expectArgument("executeSegments", "bias", bias, [experts, outputs], "float");
  if (assignments === 0 || tokens === 0) return fullLike([assignments, outputs], x.dtype, 0);
  const rows = multiplySegments({
    rows: castTo(x, "f32"),
    matrix: castTo(weight, "f32"),
    expertOffsets,
    rowToken,
    rowAssign,
    assignRow,
    ...(tokenOffsets === undefined ? {} : { tokenOffsets }),
    ...(bias === undefined ? {} : { bias: castTo(bias, "f32") }),
  }, tokenOffsets === undefined ? assignments / tokens : null);
  return castTo(rows, x.dtype);
}

function expectFits(plan: DispatchPlan, x: Tensor, weight: Tensor): void {
  const fits = x.shape.length === 2 && x.shape[0] === plan.tokens && weight.shape.length === 3 &&
    weight.shape[0] === plan.experts && weight.shape[1] === x.shape[1] &&
    (plan.tokenOffsets === undefined || plan.tokenOffsets.size === plan.tokens + 1);
  if (fits) return;
  throw new ShapeError("shape/segments", {
    summary: `Cannot execute segments: x ${formatAval(x)} and weight ${formatAval(weight)} do not fit the plan`,
    facts: [["op", "executeSegments(plan, x, { weight })"], ["plan", `${plan.tokens} tokens, ${plan.experts} experts`]],
    fix: `give x the shape [${plan.tokens}, I] and weight [${plan.experts}, I, O]`,
    details: { x: x.shape, weight: weight.shape, tokens: plan.tokens, experts: plan.experts },
  });
}
