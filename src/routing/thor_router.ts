/**
 * Routing at random: experts are drawn, not chosen, so there is nothing to learn, to balance or to drop.
 *
 * What makes experts agree is the loss, see `consistencyLoss`.
 *
 * @module
 */
import { iota } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { div } from "../ops/binary.ts";
import { expectOptions, numberThat, oneOf, type OptionShape, positiveCount } from "../ops/options.ts";
import { bits } from "../ops/random.ts";
import { permutation, randomInt } from "../ops/samplers.ts";
import { sliceAxis } from "../ops/slice.ts";
import { broadcastTo } from "../ops/view.ts";
import { planFromBlocks, planOfAll } from "./block_plan.ts";
import { bucketOf, mixPair } from "./integer_hash.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { positionsOf } from "./token_ids.ts";
import { expectArgument, expectKey, expectTokens } from "./tokens.ts";

/** How the passes of a training step draw: each for itself, or so that no two have the same expert. */
export type ThorDraw = "replacement" | "distinct";

/** Who is treated by one expert outside training, or that all experts treat everyone and their mean counts. */
export type ThorInference = "token" | "sentence" | "ensemble";

/** Options of {@linkcode thorRouter}. */
export interface ThorRouterOptions {
  /** Number of experts, 1..65,536. */
  readonly experts: number;
  /**
   * Passes that a training batch holds one after the other, 1 by default: the first T / passes tokens are the first pass
   * and have one expert, and so on. `inTwoPasses` with `passes: "together"` makes batches of 2.
   */
  readonly passes?: number;
  /** `"replacement"` by default, as in the released code; `"distinct"` needs 2 passes or more in a batch. */
  readonly draw?: ThorDraw;
  /** `"sentence"` by default. `"ensemble"` costs as much as all experts together. */
  readonly inference?: ThorInference;
}

/** Parameters of {@linkcode thorRouter}: an integer, so no optimizer moves it, but checkpoints keep it. */
export interface ThorRouterParams {
  /** What experts are drawn from outside training, a u32 scalar. */
  readonly seed: Tensor;
}

const OPTIONS: OptionShape = {
  experts: numberThat(
    "must be a whole number in 1..65536",
    (value) => Number.isInteger(value) && value >= 1 && value <= 65_536,
  ),
  passes: positiveCount.optional(),
  draw: oneOf("replacement", "distinct").optional(),
  inference: oneOf("token", "sentence", "ensemble").optional(),
};

/**
 * Routes tokens to experts drawn at random, with weight 1 and without parameters to learn.
 *
 * Shapes: `tokens.hidden` [T, D] -> plan with T assignments (T · E in an ensemble). While training one expert is drawn
 * with the context's key for all tokens of a pass, so the plan is one stretch of rows and needs no sort; padding costs
 * one. Outside training the draw depends on `params.seed` and on the place alone: per token on its sequence's number and
 * its position, per sentence on the sequence's number, so generation token by token routes as reading all at once does.
 * Another seed is another sample. `aux` is empty.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A causal router without state.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if there is no key while training, or
 * the passes do not divide the tokens.
 *
 * @example One expert for everyone while training, the mean of all outside
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, thorRouter, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const router = thorRouter({ experts: 3, inference: "ensemble" });
 * const params = router.init(key(0));
 * const training = router.route(params, { hidden: zeros([4, 8]) }, { train: true, key: key(1) });
 * assertEquals([...await training.stats.load.data()].sort(), [0, 0, 4]);
 * assertEquals([...await router.route(params, { hidden: zeros([4, 8]) }).stats.load.data()], [4, 4, 4]);
 * ```
 *
 * Source: Zuo et al. 2021, and its released code for the draws of training.
 */
export function thorRouter(options: ThorRouterOptions): Router<ThorRouterParams> {
  expectOptions("thorRouter", OPTIONS, options, () => drawProblems(options));
  const { experts, passes = 1, draw = "replacement", inference = "sentence" } = options;
  const name = `thor(${inference}, ${experts})`;

  /** The expert of each pass, u32[passes]. */
  function drawExperts(key: Key): Tensor {
    return draw === "distinct"
      ? sliceAxis(permutation(key, experts), 0, { stop: passes })
      : randomInt(key, [passes], { max: experts, dtype: "u32" });
  }

  /** The expert of each sequence, u32[B], or token, u32[T]. */
  function placeExperts(seed: Tensor, tokens: Tokens): Tensor {
    const count = tokens.hidden.shape[0]!;
    const length = Math.max(1, tokens.sequenceLength ?? count);
    const sequences = Math.max(1, count / length);
    if (inference === "sentence") {
      return bucketOf(mixPair(broadcastTo(seed, [sequences]), iota([sequences], "u32", 0)), experts);
    }
    const sequence = mixPair(broadcastTo(seed, [count]), div(iota([count], "u32", 0), length));
    return bucketOf(mixPair(sequence, positionsOf(name, tokens)), experts);
  }

  function route({ seed }: ThorRouterParams, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    const count = expectTokens(name, tokens);
    const { mask } = tokens;
    expectArgument(name, "params.seed", seed, [], "u32");
    if (context.train === true) {
      const blockExperts = drawExperts(expectKey(name, "the choice of an expert", context));
      return planFromBlocks({ tokens: count, experts, blockExperts, mask });
    }
    if (inference === "ensemble") return planOfAll(count, experts, mask);
    return planFromBlocks({ tokens: count, experts, blockExperts: placeExperts(seed, tokens), mask });
  }

  return { name, experts, causal: true, init: (key) => ({ seed: bits(key, []) }), route };
}

function drawProblems({ experts, passes = 1, draw }: ThorRouterOptions): readonly OptionProblem[] {
  if (draw !== "distinct" || (passes >= 2 && passes <= experts)) return [];
  return [["passes", passes, `must be a whole number in 2..${experts} for distinct draws (experts is ${experts})`]];
}
