/**
 * What the fused op means, in small differentiable ops: the oracle of its kernels, and what forward derivatives, batches
 * and derivatives of its gradient are made of. It multiplies each row by its own copy of an expert's matrix, so it is for
 * small sizes.
 *
 * Letters: T tokens, A assignments and as many rows, E experts, D model width, F expert width.
 *
 * @module
 */
import { alias, castTo, expandTo, iota, plus, reshapeTo, sumOver, times, zerosLike } from "../core/arithmetic.ts";
import { isFloat } from "../core/dtype.ts";
import type { Tensor } from "../core/tensor.ts";
import { pullback } from "../core/vjp.ts";
import { gelu, relu, silu } from "../ops/activations.ts";
import { add } from "../ops/binary.ts";
import { less, lessEqual } from "../ops/compare.ts";
import { concat } from "../ops/concat.ts";
import { cast } from "../ops/cast.ts";
import { matmul } from "../ops/matmul.ts";
import { sumRows, takeRows } from "../ops/rows.ts";
import { where } from "../ops/select.ts";
import { sliceAxis } from "../ops/slice.ts";
import type { ExpertRows } from "./execute_gradient_kernel.ts";
import type { ExecuteAttrs, ExecuteOperands } from "./execute_operands.ts";
import type { ExpertActivation } from "./execute_shape.ts";

/** Names no row, token or assignment: taking it gives zero, adding to it nothing. */
const NONE = 0xffffffff;

const ACTIVATIONS: Readonly<Record<ExpertActivation, (x: Tensor) => Tensor>> = {
  relu,
  silu,
  gelu: (x) => gelu(x, { approximate: "tanh" }),
};

/** Who is in each row of a plan; rows not in use have expert E and no token or assignment. All u32[A]. */
interface Rows {
  readonly expert: Tensor;
  readonly token: Tensor;
  readonly assign: Tensor;
}

/** Expert of each row, u32[A]: the number of experts that end at or before it, E for rows not in use. */
function rowExperts(expertOffsets: Tensor, rows: number): Tensor {
  const experts = expertOffsets.shape[0]! - 1;
  const ends = reshapeTo(sliceAxis(expertOffsets, 0, { start: 1 }), [experts, 1]);
  const hasEnded = lessEqual(expandTo(ends, [experts, rows]), iota([experts, rows], "u32", 1));
  return sumOver(cast(hasEnded, "u32"), [0]);
}

function rowsOf({ expertOffsets, rowToken, rowAssign }: RowTables): Rows {
  const expert = rowExperts(expertOffsets, rowToken.shape[0]!);
  const isUsed = less(expert, expertOffsets.shape[0]! - 1);
  return { expert, token: where(isUsed, rowToken, NONE), assign: where(isUsed, rowAssign, NONE) };
}

/** Multiplies each row by its expert's matrix: rows [A, I] and matrices [E, I, O], or [E, O, I] transposed -> [A, O]. */
function project(rows: Tensor, matrices: Tensor, expert: Tensor, layout: "plain" | "transposed" = "plain"): Tensor {
  const [count, depth] = rows.shape as readonly [number, number];
  const product = matmul(reshapeTo(rows, [count, 1, depth]), takeRows(matrices, expert), {
    transposeB: layout === "transposed",
  });
  return reshapeTo(product, [count, product.shape[2]!]);
}

function biased(rows: Tensor, bias: Tensor | undefined, expert: Tensor): Tensor {
  return bias === undefined ? rows : plus(rows, takeRows(bias, expert));
}

/** Multiplies each row by a number: rows [A, N] and factors [A]. */
function scaleRows(rows: Tensor, factors: Tensor): Tensor {
  return times(rows, expandTo(reshapeTo(factors, [factors.size, 1]), rows.shape));
}

/** The operands with all floats in f32. */
function widened(operands: ExecuteOperands<Tensor>): ExecuteOperands<Tensor> {
  const entries = Object.entries(operands).map(([name, x]) => [name, isFloat(x.dtype) ? castTo(x, "f32") : x]);
  return Object.fromEntries(entries) as unknown as ExecuteOperands<Tensor>;
}

/** Pre-activations of the rows, the gate's first: one or two of [A, F]. */
function preactivations(operands: ExecuteOperands<Tensor>, { expert, token }: Rows): readonly Tensor[] {
  const { hidden, up, upBias, gate, gateBias } = operands;
  const x = takeRows(hidden, token); // [A, D]
  const z = biased(project(x, up, expert), upBias, expert);
  return gate === undefined ? [z] : [biased(project(x, gate, expert), gateBias, expert), z];
}

/** h of pre-activations, [A, F]. */
function activate([first, second]: readonly Tensor[], { activation }: ExecuteAttrs): Tensor {
  const open = ACTIVATIONS[activation](first!);
  return second === undefined ? open : times(open, second);
}

/** The pre-activations as the kernels keep them, [A, F] or [A, 2F], in the type of the tokens. */
export function preactivationInSteps(operands: ExecuteOperands<Tensor>): Tensor {
  const found = preactivations(widened(operands), rowsOf(operands));
  return castTo(concat([...found], { axis: 1 }), operands.hidden.dtype);
}

/** The result, [T, D], in the type of the tokens. */
export function executeInSteps(given: ExecuteOperands<Tensor>, attrs: ExecuteAttrs): Tensor {
  const operands = widened(given);
  const { hidden, weight, down, downBias } = operands;
  const rows = rowsOf(operands);
  const inner = activate(preactivations(operands, rows), attrs);
  const y = biased(project(inner, down, rows.expert), downBias, rows.expert);
  const sums = sumRows(scaleRows(y, takeRows(weight, rows.assign)), rows.token, hidden.shape[0]!);
  return castTo(sums, given.hidden.dtype);
}

/** What the backward kernel computes from the cotangent of the result; all but dWeight have the type of the tokens. */
export interface DataGradients {
  /** [T, D]. */
  readonly dHidden: Tensor;
  /** [A]. */
  readonly dWeight: Tensor;
  /** Like the pre-activations. */
  readonly dPreactivation: Tensor;
  /** weight · h, [A, F]. */
  readonly innerWeighted: Tensor;
}

/** Gradients of tokens and weights, and by row what the gradients of parameters are made of. */
export function dataGradientsInSteps(
  given: ExecuteOperands<Tensor>,
  dOut: Tensor,
  attrs: ExecuteAttrs,
): DataGradients {
  const { dtype } = given.hidden;
  const operands = widened(given);
  const { hidden, weight, up, down, gate, downBias, assignRow } = operands;
  const rows = rowsOf(operands);
  const { expert } = rows;
  const z = preactivations(operands, rows).map(alias);
  const inner = activate(z, attrs);
  const dRows = takeRows(castTo(dOut, "f32"), rows.token); // [A, D]
  const dInner = project(dRows, down, expert, "transposed"); // [A, F]
  const own = takeRows(weight, rows.assign);
  const dz = pullback([inner], [scaleRows(dInner, own)], z).map((ct, i) => ct ?? zerosLike(z[i]!));
  const matrices = gate === undefined ? [up] : [gate, up];
  const dx = dz.map((ct, i) => project(ct, matrices[i]!, expert, "transposed")).reduce(plus);
  const share = sumOver(times(inner, dInner), [1]);
  const whole = downBias === undefined ? share : add(share, sumOver(times(takeRows(downBias, expert), dRows), [1]));
  return {
    dHidden: castTo(sumRows(dx, rows.token, hidden.shape[0]!), dtype),
    dWeight: takeRows(whole, assignRow),
    dPreactivation: castTo(concat([...dz], { axis: 1 }), dtype),
    innerWeighted: castTo(scaleRows(inner, own), dtype),
  };
}

/** The columns of a matrix that stand for rows of the plan, f32[A, width]. */
function planRows(matrix: Tensor, { by, width, offset }: ExpertRows, plan: Rows): Tensor {
  const wide = castTo(matrix, "f32");
  const rows = by === "row" ? wide : takeRows(wide, plan[by]);
  return sliceAxis(rows, 1, { start: offset, stop: offset + width });
}

/** Where rows are. */
export type RowTables = Pick<ExecuteOperands<Tensor>, "expertOffsets" | "rowToken" | "rowAssign">;

/** Σ leftᵀ right over each expert's rows, [E, left.width, right.width]. */
export function matrixGradientInSteps(
  [left, right]: readonly [Tensor, Tensor],
  sides: { readonly left: ExpertRows; readonly right: ExpertRows },
  tables: RowTables,
): Tensor {
  const rows = rowsOf(tables);
  const a = planRows(left, sides.left, rows);
  const b = planRows(right, sides.right, rows);
  const outer = [a.shape[0]!, a.shape[1]!, b.shape[1]!];
  const products = times(
    expandTo(reshapeTo(a, [outer[0]!, outer[1]!, 1]), outer),
    expandTo(reshapeTo(b, [outer[0]!, 1, outer[2]!]), outer),
  );
  return sumRows(products, rows.expert, tables.expertOffsets.shape[0]! - 1);
}

/** Σ right over each expert's rows, each times its weight where one is given: [E, width]. */
export function biasGradientInSteps(
  right: Tensor,
  side: ExpertRows,
  tables: RowTables,
  weight?: Tensor,
): Tensor {
  const plan = rowsOf(tables);
  const rows = planRows(right, side, plan);
  const weighted = weight === undefined ? rows : scaleRows(rows, takeRows(weight, plan.assign));
  return sumRows(weighted, plan.expert, tables.expertOffsets.shape[0]! - 1);
}

/** The product of each row's token with its expert's matrix by assignment, [A, O]; zeros for those without a row. */
export function segmentsInSteps(
  [x, weight, bias]: readonly [Tensor, Tensor, Tensor | undefined],
  tables: RowTables,
  assignRow: Tensor,
): Tensor {
  const { expert, token } = rowsOf(tables);
  return takeRows(biased(project(takeRows(x, token), weight, expert), bias, expert), assignRow);
}

/** The gradient of the tokens that {@linkcode segmentsInSteps} multiplies, [T, I], from that of its result, [A, O]. */
export function segmentTokensInSteps(dOut: Tensor, weight: Tensor, tables: RowTables, tokens: number): Tensor {
  const { expert, token, assign } = rowsOf(tables);
  return sumRows(project(takeRows(dOut, assign), weight, expert, "transposed"), token, tokens);
}
