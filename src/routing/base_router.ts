/**
 * The router of BASE layers: a balanced assignment while training, the best expert outside.
 *
 * @module
 */
import { castTo, reshapeTo, transposeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { sigmoid } from "../ops/activations.ts";
import { takeAlong } from "../ops/gather.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions, oneOf, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { topK } from "../ops/top_k.ts";
import { balancedAssignment } from "./balanced_assignment.ts";
import { gateInput } from "./gate.ts";
import { orthogonal } from "./orthogonal.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { expectArgument, expectTokens } from "./tokens.ts";

/** Options of {@linkcode baseRouter}. */
export interface BaseRouterOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Number of experts, E. */
  readonly experts: number;
  /**
   * What to do while training with a batch whose tokens E does not divide: `"refuse"` it (the default), or `"spread"`
   * the rest, so that no expert gets more than `ceil(T / E)`. Padding does not count as a token to balance.
   */
  readonly remainder?: "refuse" | "spread";
  /** Rounds of the auction, 64 by default. */
  readonly rounds?: number;
  /** Least increment of a bid as a share of the range of scores, 0.02 by default. */
  readonly increment?: number;
}

/** Parameters of {@linkcode baseRouter}. */
export interface BaseRouterParams {
  /** One row for each expert, f32[E, D]. */
  readonly centroids: Tensor;
}

const OPTIONS: OptionShape = {
  width: positiveCount,
  experts: positiveCount,
  remainder: oneOf("refuse", "spread").optional(),
  rounds: positiveCount.optional(),
  increment: positive.optional(),
};

/** Gain of the initial centroids. */
const GAIN = 0.1;

/**
 * Routes each token to one expert: while training such that all experts get equally many, outside to the one it scores
 * highest with.
 *
 * Shapes: `tokens.hidden` [T, D], `params.centroids` [E, D] -> plan with T assignments. The score of a token and an
 * expert is the product of hidden state and centroid, and the weight is its sigmoid, through which alone the centroids
 * learn. Nothing is dropped; `aux` is empty. The balanced assignment is {@linkcode balancedAssignment}: NaN in one token
 * leaves the others' assignment defined and shows in that token's weight.
 *
 * With an expert that adds to its input, as published, its share is `weight · expert(x)` beside the residual path, which
 * is what this plan computes.
 *
 * @param options Static settings; changing one compiles a new program.
 * @returns A router without state. It is causal outside training; while training an assignment depends on the batch.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 * @throws {ShapeError} By `route`, while training, if E does not divide the number of tokens and `remainder` says so.
 *
 * @example Even loads while training
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { baseRouter, init, key, normal } from "@switchyard/switchyard";
 *
 * await init();
 * const router = baseRouter({ width: 8, experts: 4 });
 * const plan = router.route(router.init(key(0)), { hidden: normal(key(1), [12, 8]) }, { train: true });
 * assertEquals([...await plan.stats.load.data()], [3, 3, 3, 3]);
 * ```
 *
 * Source: Lewis et al. 2021.
 */
export function baseRouter(options: BaseRouterOptions): Router<BaseRouterParams> {
  expectOptions("baseRouter", OPTIONS, options);
  const { width, experts, remainder = "refuse", rounds, increment } = options;
  const name = `base(${experts})`;

  function route({ centroids }: BaseRouterParams, tokens: Tokens, { train = false }: RouteContext = {}): DispatchPlan {
    const count = expectTokens(name, tokens);
    const { mask } = tokens;
    if (train && remainder === "refuse" && count % experts !== 0) refuseRemainder(name, count, experts);
    expectArgument(name, "params.centroids", centroids, [experts, width], "float");
    const scores = matmul(gateInput(name, tokens.hidden, width), transposeTo(castTo(centroids, "f32"), [1, 0]));
    const indices = train
      ? reshapeTo(balancedAssignment(scores, { mask, rounds, increment }), [count, 1])
      : topK(scores, 1).indices;
    return planFromTopK({ experts, indices, weights: sigmoid(takeAlong(scores, indices)), mask });
  }

  return {
    name,
    experts,
    causal: true,
    init: (key: Key): BaseRouterParams => ({ centroids: orthogonal(key, [experts, width], GAIN) }),
    route,
  };
}

function refuseRemainder(name: string, tokens: number, experts: number): never {
  throw new ShapeError("shape/balanced-assignment", {
    summary: `Cannot balance ${tokens} tokens over ${experts} experts: ${experts} does not divide ${tokens}`,
    facts: [["op", name], ["remainder", `${tokens % experts} tokens`]],
    fix: `use batches whose tokens ${experts} divides, or baseRouter({ remainder: "spread" })`,
    details: { tokens, experts },
  });
}
