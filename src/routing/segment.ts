/**
 * The body `segment`: each assignment multiplies its token by one matrix of its expert, and nothing is added up. It is
 * what layers are made of whose experts own slices of one matrix.
 *
 * The rows of a plan are cut into tiles that belong to one expert each, with room for every way the rows may fall, so that
 * shapes are static and one batched product does the work. Letters: T tokens, A assignments, E experts, R rows of a tile,
 * I inputs, O outputs.
 *
 * @module
 */
import { fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, mul, sub } from "../ops/binary.ts";
import { less } from "../ops/compare.ts";
import { cumsum } from "../ops/cumsum.ts";
import { group } from "../ops/group.ts";
import { matmul } from "../ops/matmul.ts";
import { takeRows } from "../ops/rows.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import { unsqueeze } from "../ops/view.ts";
import type { DispatchPlan } from "./plan_types.ts";
import { expectArgument } from "./tokens.ts";

/** Matrices of experts. */
export interface SegmentParams {
  /** Float [E, I, O]. */
  readonly weight: Tensor;
  /** Float [E, O]; none by default. */
  readonly bias?: Tensor;
}

/** Marks what has no row: taking it gives zeros. */
const NONE = 0xffffffff;
const MAX_TILE_ROWS = 32;

/** The expert whose stretch each of `count` places is in, given the ends of the stretches, u32[E]; E past the last. */
function stretchOf(ends: Tensor, count: number): Tensor {
  return cumsum(group(ends, count).counts);
}

/**
 * Multiplies the token of each assignment by its expert's matrix: `result[a] = x[token of a] · weight[expert of a] (+ bias)`.
 *
 * Shapes: x [T, I], weight [E, I, O] -> [A, O], by assignment id; zeros for dropped assignments. The plan's weights are
 * not applied. Differentiable in `x`, `weight` and `bias`; an expert without tokens has a gradient of zeros.
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
  const { tokens, experts, assignments, expertOffsets, rowToken, assignRow, stats } = plan;
  expectFits(plan, x, weight);
  const outputs = weight.shape[2]!;
  if (bias !== undefined) expectArgument("executeSegments", "bias", bias, [experts, outputs], "float");
  if (assignments === 0 || tokens === 0) return fullLike([assignments, outputs], x.dtype, 0);

  const height = Math.min(MAX_TILE_ROWS, Math.ceil(assignments / experts)); // R
  const tiles = Math.floor((assignments + Math.min(experts, assignments) * (height - 1)) / height);
  const tilesOf = div(add(stats.counts, height - 1), height); // u32[E]
  const tileEnds = cumsum(tilesOf);
  const tileStarts = sub(tileEnds, tilesOf);

  const tileExpert = stretchOf(tileEnds, tiles); // u32[tiles], E for spare tiles
  const place = sub(iota([tiles], "u32", 0), takeRows(tileStarts, tileExpert)); // number of the tile in its expert
  const firstRow = add(takeRows(expertOffsets, tileExpert), mul(place, height));
  const row = add(unsqueeze(firstRow, 1), iota([tiles, height], "u32", 1)); // [tiles, R]
  const isUsed = less(row, unsqueeze(takeRows(expertOffsets, add(tileExpert, 1)), 1));
  const gathered = takeRows(x, where(isUsed, takeRows(rowToken, row), NONE)); // [tiles, R, I]
  const products = matmul(gathered, takeRows(weight, tileExpert)); // [tiles, R, O]

  const expertOfRow = stretchOf(sliceAxis(expertOffsets, 0, { start: 1 }), assignments); // u32[A]
  const expert = where(less(assignRow, assignments), takeRows(expertOfRow, assignRow), experts); // by assignment
  const fromStart = sub(assignRow, takeRows(expertOffsets, expert));
  const slot = where(less(expert, experts), add(mul(takeRows(tileStarts, expert), height), fromStart), NONE);
  const rows = takeRows(reshapeTo(products, [tiles * height, outputs]), slot); // [A, O]
  return bias === undefined ? rows : add(rows, takeRows(bias, expert));
}

function expectFits(plan: DispatchPlan, x: Tensor, weight: Tensor): void {
  const fits = x.shape.length === 2 && x.shape[0] === plan.tokens && weight.shape.length === 3 &&
    weight.shape[0] === plan.experts && weight.shape[1] === x.shape[1];
  if (fits) return;
  throw new ShapeError("shape/segments", {
    summary: `Cannot execute segments: x ${formatAval(x)} and weight ${formatAval(weight)} do not fit the plan`,
    facts: [["op", "executeSegments(plan, x, { weight })"], ["plan", `${plan.tokens} tokens, ${plan.experts} experts`]],
    fix: `give x the shape [${plan.tokens}, I] and weight [${plan.experts}, I, O]`,
    details: { x: x.shape, weight: weight.shape, tokens: plan.tokens, experts: plan.experts },
  });
}
