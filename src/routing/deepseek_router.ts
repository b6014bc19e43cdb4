/**
 * The router of DeepSeek-V3: sigmoid scores, a bias that balances the load without a loss, and choice among the best
 * groups of experts. Its shared experts are no business of a router: they are a dense layer beside the routed one.
 *
 * @module
 */
import { castTo, reshapeTo } from "../core/arithmetic.ts";
import { stopGradient } from "../core/grad.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul, sub } from "../ops/binary.ts";
import { greater } from "../ops/compare.ts";
import { zeros } from "../ops/creation.ts";
import { oneHot } from "../ops/gather.ts";
import { expectOptions, oneOf, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { mean, sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { topK } from "../ops/top_k.ts";
import { sign } from "../ops/unary.ts";
import { balanceLoss, meanOfGroups, sumByGroup, zLoss } from "./aux_losses.ts";
import { maskChoices, rankChoices } from "./capacity.ts";
import { gateLogits, initGate } from "./gate.ts";
import { groupOfToken, routingGroups } from "./groups.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, PlanStats, Router, Tokens } from "./plan_types.ts";
import { type Score, scoreLogits, weighChosen } from "./score.ts";
import { expectArgument, expectTokens } from "./tokens.ts";
import { choiceProblems } from "./top_k_router.ts";

/** Options of {@linkcode deepseekRouter}. */
export interface DeepseekRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E, without shared ones. */
  readonly experts: number;
  /** Experts a token visits. */
  readonly k: number;
  /** How a logit becomes a score, `"sigmoid"` by default. */
  readonly score?: Score;
  /** How the chosen scores become weights, before `scale`: `"normalized"` by default. */
  readonly weights?: "normalized" | "scores";
  /** Factor of all weights, 1 by default; 2.5 in the largest published model. */
  readonly scale?: number;
  /** Groups of consecutive experts, a divisor of E; 1 by default. */
  readonly expertGroups?: number;
  /** Groups a token may choose from, all by default. */
  readonly groupLimit?: number;
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

/** Parameters of {@linkcode deepseekRouter}. */
export interface DeepseekRouterParams {
  /** Weight of the gate, f32[D, E]. */
  readonly gate: Tensor;
  /** What is added to scores where experts are chosen, f32[E]: freeze it, {@linkcode balanceBias} moves it. */
  readonly bias: Tensor;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  k: positiveCount,
  score: oneOf("sigmoid", "softmax").optional(),
  weights: oneOf("normalized", "scores").optional(),
  scale: positive.optional(),
  expertGroups: positiveCount.optional(),
  groupLimit: positiveCount.optional(),
  gateStd: positive.optional(),
};

function groupProblems({ experts, k, expertGroups = 1, groupLimit = expertGroups }: DeepseekRouterOptions) {
  const problems: OptionProblem[] = [...choiceProblems({ experts, k })];
  if (experts % expertGroups !== 0) {
    problems.push(["expertGroups", expertGroups, `must divide experts, which is ${experts}`]);
  } else if (groupLimit < expertGroups && k > groupLimit * experts / expertGroups) {
    const size = experts / expertGroups;
    problems.push(["k", k, `must be at most ${groupLimit * size}: ${groupLimit} groups have ${size} experts each`]);
  }
  if (groupLimit > expertGroups) {
    problems.push(["groupLimit", groupLimit, `must be at most ${expertGroups} (expertGroups)`]);
  }
  return problems;
}

/**
 * Routes each token to the `k` experts with the highest score plus bias, weighed by their scores without bias.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, E], `params.bias` [E] -> plan with T · k assignments. Nothing is
 * dropped. With groups, a token chooses from the `groupLimit` groups whose two best biased scores sum highest.
 *
 * The bias has no gradient and enters no weight. {@linkcode balanceBias} moves it after each step, by the loads of that
 * step; leave it out of the optimizer with `freeze`. `aux` holds `balance`, per sequence where sequences are known (the
 * published coefficient is 1e-4 of the same form), and `zLoss`.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router; its state is the bias.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Two of four groups
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { deepseekRouter, init, key, normal } from "@switchyard/switchyard";
 *
 * await init();
 * const router = deepseekRouter({ width: 8, experts: 16, k: 4, expertGroups: 4, groupLimit: 2, scale: 2.5 });
 * const plan = router.route(router.init(key(0)), { hidden: normal(key(1), [5, 8]) });
 * assertEquals(plan.assignments, 20);
 * ```
 *
 * Source: DeepSeek-AI 2024 (V3); Wang et al. 2024 for the bias.
 */
export function deepseekRouter(options: DeepseekRouterOptions): Router<DeepseekRouterParams> {
  expectOptions("deepseekRouter", OPTIONS, options, () => groupProblems(options));
  const { experts, k, score = "sigmoid", weights = "normalized", scale = 1 } = options;
  const { expertGroups = 1, groupLimit = expertGroups } = options;
  const name = `deepseek(${k}/${experts})`;

  function route({ gate, bias }: DeepseekRouterParams, tokens: Tokens): DispatchPlan {
    const { mask, sequenceLength, hidden } = tokens;
    const count = expectTokens(name, tokens);
    expectArgument(name, "params.bias", bias, [experts], "float");
    const logits = gateLogits(name, hidden, gate, options);
    const scored = scoreLogits(logits, score);
    const biased = add(stopGradient(scored.scores), castTo(bias, "f32"));
    const allowed = groupLimit < expertGroups ? withinBestGroups(biased, expertGroups, groupLimit) : biased;
    const { indices } = topK(allowed, k);
    const groups = routingGroups({ tokens: count, sequenceLength });
    const plan = planFromTopK({
      experts,
      indices,
      weights: mul(weighChosen(scored, indices, weights), scale),
      mask,
      meanDistribution: meanOfGroups(sumByGroup(scored.distribution, groups, mask), groups, mask),
    });
    const { load } = rankChoices({
      choices: maskChoices(indices, mask, experts),
      groupOf: groupOfToken(groups),
      groups: groups.groups,
      experts,
      order: "tokenMajor",
    });
    const balance = balanceLoss({ distribution: scored.distribution, load, k, groups, mask });
    return { ...plan, aux: { balance, zLoss: zLoss(logits, mask) } };
  }

  return {
    name,
    experts,
    causal: true,
    init: (key: Key): DeepseekRouterParams => ({ gate: initGate(key, options), bias: zeros([experts]) }),
    route,
  };
}

/** Lowers what is outside the `limit` best groups of each row of [T, E] below everything. */
function withinBestGroups(biased: Tensor, groups: number, limit: number): Tensor {
  const [tokens, experts] = biased.shape as [number, number];
  const byGroup = reshapeTo(biased, [tokens, groups, experts / groups]);
  const best = sum(topK(byGroup, Math.min(2, experts / groups)).values, { axis: -1 }); // [T, G]
  const isBest = greater(sum(oneHot(topK(best, limit).indices, groups), { axis: 1 }), 0);
  // Zero would not do: biased scores can be negative.
  const kept = where(reshapeTo(isBest, [tokens, groups, 1]), byGroup, -Infinity);
  return reshapeTo(kept, [tokens, experts]);
}

/** Options of {@linkcode balanceBias}. */
export interface BalanceBiasOptions {
  /** How far each bias moves, 0.001 by default; 0 freezes it, as for the last part of training. */
  readonly speed?: number;
}

/**
 * Moves the bias of each expert by `speed`: up if its load was below the mean, down if it was above. Call it once after
 * each optimizer step, with the stats of every plan of that step; it is pure and can be part of a jitted step.
 *
 * @param stats Stats of the step's plan, or of several, whose loads are added (the parts of an accumulated batch).
 * @returns New parameters; all but the bias are the same.
 *
 * @example One step
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { balanceBias, deepseekRouter, init, key, ones } from "@switchyard/switchyard";
 *
 * await init();
 * const router = deepseekRouter({ width: 2, experts: 3, k: 1 });
 * const params = router.init(key(0));
 * const { stats } = router.route({ ...params, gate: ones([2, 3]) }, { hidden: ones([6, 2]) });
 * const { bias } = balanceBias(params, stats, { speed: 0.5 });
 * assertEquals([...await bias.data()], [-0.5, 0.5, 0.5]);
 * ```
 *
 * Source: Wang et al. 2024.
 */
export function balanceBias<P extends { readonly bias: Tensor }>(
  params: P,
  stats: PlanStats | readonly PlanStats[],
  { speed = 0.001 }: BalanceBiasOptions = {},
): P {
  const parts = Array.isArray(stats) ? stats as readonly PlanStats[] : [stats as PlanStats];
  const load = parts.map((part) => castTo(part.load, "f32")).reduce((total, part) => add(total, part));
  const step = stopGradient(sign(sub(mean(load), load)));
  return { ...params, bias: add(params.bias, mul(step, speed)) };
}
