/**
 * Running experts by a plan: one op for gathering tokens, both products, the nonlinearity, weighting and adding up.
 *
 * Letters: T tokens, K experts of a token, A assignments, E experts, D model width, F expert width.
 *
 * @module
 */
import { castTo, expandTo, fullLike, reshapeTo, sumOver, times, zerosLike } from "../core/arithmetic.ts";
import { isFloat } from "../core/dtype.ts";
import { ConfigError, DTypeError, ShapeError } from "../core/errors.ts";
import { formatAval, sameShape, type Shape } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { expectOptions, oneOf } from "../ops/options.ts";
import { sumRows, takeRows } from "../ops/rows.ts";
import { executePrimitive } from "./execute_forward.ts";
import { type ExecuteAttrs, listed } from "./execute_operands.ts";
import type { ExpertActivation, ExpertBody } from "./execute_shape.ts";
import type { DispatchPlan } from "./plan_types.ts";

export type { ExpertActivation, ExpertBody } from "./execute_shape.ts";

/** Parameters of all experts, stacked on axis 0; any float type. Biases may be left out one by one. */
export interface ExpertParams {
  /** First product, [E, D, F]. */
  readonly up: Tensor;
  /** Added to it, [E, F]. */
  readonly upBias?: Tensor;
  /** Second product, [E, F, D]. */
  readonly down: Tensor;
  /** Added to it, [E, D]. */
  readonly downBias?: Tensor;
  /** Product whose activation multiplies the first, [E, D, F]: for the gated body, which needs it. */
  readonly gate?: Tensor;
  /** Added to it, [E, F]. */
  readonly gateBias?: Tensor;
}

/** Options of {@linkcode execute}. */
export interface ExecuteOptions {
  /** Nonlinearity, `"gelu"` by default (the tanh form). */
  readonly activation?: ExpertActivation;
  /** `"ffn"` (the default): down(act(up(x))). `"glu"`: down(act(gate(x)) · up(x)). */
  readonly body?: ExpertBody;
  /**
   * Whether the forward pass keeps the A · F (gated: 2 · A · F) values before the nonlinearity for the backward pass.
   * `"kept"` by default; a call without a backward pass under the same `jit` keeps nothing either way. `"recomputed"` saves
   * that memory and costs one more product if there is a backward pass: right for training where memory is short.
   */
  readonly preactivations?: "kept" | "recomputed";
}

function expectOperand(name: string, x: Tensor, shape: Shape): void {
  const details = { op: "execute", name, shape: x.shape, dtype: x.dtype };
  if (!sameShape(x.shape, shape)) {
    throw new ShapeError("shape/execute", {
      summary: `Cannot run experts: ${name} is ${formatAval(x)}, its shape should be [${shape.join(", ")}]`,
      facts: [["op", "execute(plan, hidden, experts)"]],
      fix: "give all experts one size, stacked on axis 0, and as many tokens as the plan has",
      details: { ...details, expected: shape },
    });
  }
  if (isFloat(x.dtype)) return;
  throw new DTypeError("dtype/execute", {
    summary: `Cannot run experts: ${name} is ${formatAval(x)}, it should hold floats`,
    facts: [["op", "execute(plan, hidden, experts)"]],
    fix: `cast it first: cast(x, "f32")`,
    details,
  });
}

function expectOperands(plan: DispatchPlan, hidden: Tensor, experts: ExpertParams, body: ExpertBody): void {
  const [, width = 0] = hidden.shape;
  const inner = experts.up.shape[2] ?? 0;
  const { experts: count, tokens, assignments, tokenOffsets } = plan;
  if (tokenOffsets === undefined && tokens > 0 && assignments % tokens !== 0) {
    throw new ShapeError("shape/execute", {
      summary: `Cannot run experts: the plan has ${assignments} assignments for ${tokens} tokens and no tokenOffsets`,
      facts: [["op", "execute(plan, hidden, experts)"]],
      fix: "give every token the same number of assignments, or the plan tokenOffsets",
      details: { assignments, tokens },
    });
  }
  if ((body === "glu") !== (experts.gate !== undefined)) {
    throw new ConfigError("config/expert-body", {
      summary: `Cannot run experts with body "${body}": the parameters have ${experts.gate ? "a" : "no"} gate`,
      facts: [["op", "execute(plan, hidden, experts)"]],
      fix: experts.gate ? `pass { body: "glu" }, or no gate` : `pass gate [${count}, ${width}, ${inner}]`,
      details: { body },
    });
  }
  expectOperand("hidden", hidden, [tokens, width]);
  const shapes: Readonly<Record<keyof ExpertParams, Shape>> = {
    up: [count, width, inner],
    upBias: [count, inner],
    down: [count, inner, width],
    downBias: [count, width],
    gate: [count, width, inner],
    gateBias: [count, inner],
  };
  for (const [name, shape] of Object.entries(shapes)) {
    const operand = experts[name as keyof ExpertParams];
    if (operand !== undefined) expectOperand(`experts.${name}`, operand, shape);
  }
}

/**
 * Runs each token through its experts and adds up what they return, weighted.
 *
 * Shapes: `hidden` [T, D] -> [T, D], in the type of `hidden`; computed in f32 for every float type. What is kept for the
 * backward pass has the type of `hidden` too: half of it in half precision. Parameters may have any float types. Tokens
 * without a row in the plan get zeros, experts without rows get zero gradients. Differentiable in `hidden`, `plan.weight` and every
 * parameter, any number of times. Sums have a fixed order, so a run repeats bit for bit, and nothing is read back.
 *
 * Where every token has one expert the whole op is one dispatch; for more it is that and one that adds up. The values
 * between the products stay on chip where they fit. With `scaleAt: "input"` the weighted copies of the tokens are stored.
 * Derivatives of derivatives, forward derivatives and batches run in small ops, which copy an expert's matrices for each
 * row.
 *
 * @returns A tensor like `hidden`.
 * @throws {ShapeError} If shapes do not fit the plan or each other.
 * @throws {DTypeError} If an operand is not a float tensor.
 * @throws {ConfigError} If an option is invalid, or the body and the parameters disagree about a gate.
 *
 * @example Two experts that double and triple, and a token without one
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { execute, init, planFromTopK, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const plan = planFromTopK({
 *   experts: 2,
 *   indices: tensor([[0], [1], [2]], { dtype: "u32" }),
 *   weights: tensor([[1], [0.5], [1]]),
 * });
 * const experts = { up: tensor([[[2]], [[3]]]), down: tensor([[[1]], [[1]]]) };
 * const out = execute(plan, tensor([[1], [4], [7]]), experts, { activation: "relu" });
 * assertEquals([...await out.data()], [2, 6, 0]);
 * ```
 *
 * Source: ScatterMoE (Tan et al. 2024) and SonicMoE (Guo et al. 2025) for what is fused and what is kept.
 */
export function execute(
  plan: DispatchPlan,
  hidden: Tensor,
  experts: ExpertParams,
  options: ExecuteOptions = {},
): Tensor {
  expectOptions("execute", {
    activation: oneOf("relu", "gelu", "silu").optional(),
    body: oneOf("ffn", "glu").optional(),
    preactivations: oneOf("kept", "recomputed").optional(),
  }, options);
  const { activation = "gelu", body = "ffn", preactivations = "kept" } = options;
  expectOperands(plan, hidden, experts, body);
  if (hidden.size === 0 || plan.assignments === 0) return zerosLike(hidden);
  const attrs: ExecuteAttrs = {
    activation,
    body,
    bias: [experts.upBias, experts.downBias, experts.gateBias].some((bias) => bias !== undefined),
    perToken: plan.tokenOffsets === undefined ? plan.assignments / plan.tokens : null,
    keeps: preactivations === "kept" ? "preactivation" : "nothing",
  };
  const run = plan.scaleAt === "input" ? runScaledInput : runPlan;
  return run(plan, hidden, withAllBiases(experts, attrs), attrs);
}

/** The kernels know all biases or none, so missing ones are zeros beside others. */
function withAllBiases(params: ExpertParams, { body, bias }: ExecuteAttrs): ExpertParams {
  const { up, down, gate } = params;
  const [experts, width, inner] = up.shape as readonly [number, number, number];
  const biasOf = (given: Tensor | undefined, size: number) => given ?? fullLike([experts, size], up.dtype, 0);
  return {
    up,
    down,
    ...(gate === undefined ? {} : { gate }),
    ...(bias ? { upBias: biasOf(params.upBias, inner), downBias: biasOf(params.downBias, width) } : {}),
    ...(bias && body === "glu" ? { gateBias: biasOf(params.gateBias, inner) } : {}),
  };
}

function runPlan(
  plan: Omit<DispatchPlan, "aux" | "stats">,
  hidden: Tensor,
  params: ExpertParams,
  attrs: ExecuteAttrs,
): Tensor {
  const { expertOffsets, rowToken, rowAssign, assignRow, weight, tokenOffsets } = plan;
  const indices = { expertOffsets, rowToken, rowAssign, assignRow, ...(tokenOffsets ? { tokenOffsets } : {}) };
  const operands = listed({ hidden, weight, ...indices, ...params }, attrs);
  return apply(executePrimitive, operands as Tensor[], attrs);
}

/**
 * Weights what experts take in: each assignment becomes a token of its own, already weighted, with one expert; then the
 * results of a token's assignments are added.
 */
function runScaledInput(plan: DispatchPlan, hidden: Tensor, params: ExpertParams, attrs: ExecuteAttrs): Tensor {
  const { tokens, assignments, rowToken, rowAssign, assignRow, weight } = plan;
  const width = hidden.shape[1]!;
  const { perToken } = attrs;
  const flat = [assignments, width];
  // A dropped assignment has token 0 here, and no row: it adds zero.
  const tokenOf = perToken === null ? takeRows(rowToken, assignRow) : null;
  const copies = tokenOf === null
    ? reshapeTo(expandTo(reshapeTo(hidden, [tokens, 1, width]), [tokens, perToken!, width]), flat)
    : takeRows(hidden, tokenOf);
  const weighted = times(castTo(copies, "f32"), expandTo(reshapeTo(weight, [assignments, 1]), flat));
  const single = { ...plan, rowToken: rowAssign, weight: fullLike([assignments], "f32", 1) };
  const { dtype } = hidden;
  const rows = castTo(runPlan(single, castTo(weighted, dtype), params, { ...attrs, perToken: 1 }), "f32");
  const summed = tokenOf === null
    ? sumOver(reshapeTo(rows, [tokens, perToken!, width]), [1])
    : sumRows(rows, tokenOf, tokens);
  return castTo(summed, dtype);
}
