/**
 * Gating dropout: a wrapper that sometimes ignores a router while training.
 *
 * @module
 */
import { fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, mul } from "../ops/binary.ts";
import { belowOne, expectOptions, oneOf, type OptionShape } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { sum } from "../ops/reduce.ts";
import { takeRows } from "../ops/rows.ts";
import { bernoulli } from "../ops/samplers.ts";
import { segmentSum } from "../ops/scatter.ts";
import { where } from "../ops/select.ts";
import { pad } from "../ops/slice.ts";
import { planFromAssignments, planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { expectKey } from "./tokens.ts";

/** Options of {@linkcode withGatingDropout}. */
export interface GatingDropoutOptions {
  /** Probability that the router is ignored in a call, below 1. */
  readonly rate: number;
  /**
   * What happens then. `"local"` (the default): each token has one expert by its place, consecutive tokens the same, all
   * experts equally many. `"skip"`: no token has any expert.
   */
  readonly fallback?: "local" | "skip";
}

const OPTIONS: OptionShape = { rate: belowOne, fallback: oneOf("local", "skip").optional() };

/**
 * Ignores a router in some calls while training, with one coin for all tokens. Outside training, and at rate 0, the plan
 * is the router's own.
 *
 * A local expert's weight is the sum of the weights that the router gave the token, so results keep their size and the
 * router its gradient (the weight is our choice: the published text does not say). `aux` and `carry` are the router's in
 * either case; nothing is scaled up to make up for calls that were ignored.
 *
 * @param router Any router; its assignments must have room for one a token.
 * @returns A router with the same parameters, as causal as the given one.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `route`, if a key is missing while training.
 * @throws {ShapeError} By `route`, if the router's plan has fewer assignments than tokens.
 *
 * @example The router is ignored almost always
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, ones, topKRouter, withGatingDropout } from "@switchyard/switchyard";
 *
 * await init();
 * const router = withGatingDropout(topKRouter({ width: 4, experts: 2, k: 1 }), { rate: 0.99 });
 * const [params, hidden] = [router.init(key(0)), ones([6, 4])];
 * const plan = router.route(params, { hidden }, { train: true, key: key(1) });
 * assertEquals([...await plan.stats.load.data()], [3, 3]);
 * ```
 *
 * Source: Liu et al. 2022 (Gating Dropout).
 */
export function withGatingDropout<P>(
  router: Router<P>,
  options: GatingDropoutOptions,
): Router<P> {
  expectOptions("withGatingDropout", OPTIONS, options);
  const { rate, fallback = "local" } = options;
  const name = `gatingDropout(${rate}, ${router.name})`;

  function route(params: P, tokens: Tokens, context: RouteContext = {}): DispatchPlan {
    if (context.train !== true || rate === 0) return router.route(params, tokens, context);
    const [coinKey, ownKey] = split(expectKey(name, "gating dropout", context));
    const plan = router.route(params, tokens, { ...context, key: ownKey });
    const { aux: _aux, carry: _carry, ...other } = fallbackPlan(plan, fallback, tokens.mask);
    const isIgnored = bernoulli(coinKey, [], { probability: rate });
    const choose = (own: Tensor, instead: Tensor) => where(isIgnored, instead, own);
    return {
      ...plan,
      expertOffsets: choose(plan.expertOffsets, other.expertOffsets),
      rowToken: choose(plan.rowToken, other.rowToken),
      rowAssign: choose(plan.rowAssign, other.rowAssign),
      assignRow: choose(plan.assignRow, other.assignRow),
      weight: choose(plan.weight, other.weight),
      ...(plan.tokenOffsets === undefined ? {} : { tokenOffsets: choose(plan.tokenOffsets, other.tokenOffsets!) }),
      stats: {
        load: choose(plan.stats.load, other.stats.load),
        counts: choose(plan.stats.counts, other.stats.counts),
        dropped: choose(plan.stats.dropped, other.stats.dropped),
        entropy: choose(plan.stats.entropy, other.stats.entropy),
      },
    };
  }

  return { ...router, name, route };
}

/** The plan that replaces another, with the same room. */
function fallbackPlan(plan: DispatchPlan, fallback: "local" | "skip", mask: Tensor | undefined): DispatchPlan {
  const { tokens, experts, assignments, scaleAt } = plan;
  const place = iota([tokens], "u32", 0);
  const local = fallback === "local"
    ? div(mul(place, experts), Math.max(1, tokens))
    : fullLike([tokens], "u32", experts);
  const total = totalWeights(plan);
  if (plan.tokenOffsets === undefined) {
    const spare: readonly [number, number] = [0, assignments / Math.max(1, tokens) - 1];
    const indices = pad(reshapeTo(local, [tokens, 1]), [0, [...spare]], { value: experts });
    const weights = pad(reshapeTo(total, [tokens, 1]), [0, [...spare]]);
    return planFromTopK({ experts, indices, weights, mask, scaleAt });
  }
  if (assignments < tokens) {
    throw new ShapeError("shape/gating-dropout", {
      summary:
        `Cannot give ${tokens} tokens a local expert each: the router's plan has room for ${assignments} assignments`,
      fix: 'use a router with one assignment a token or more, or the fallback "skip"',
      details: { tokens, assignments },
    });
  }
  return planFromAssignments({
    experts,
    indices: pad(local, [[0, assignments - tokens]], { value: experts }),
    weights: pad(total, [[0, assignments - tokens]]),
    tokenOffsets: iota([tokens + 1], "u32", 0),
    mask,
    scaleAt,
  });
}

/** Sum of the weights of each token, f32[T]; dropped assignments weigh nothing. */
function totalWeights({ tokens, assignments, tokenOffsets, weight, rowAssign, rowToken }: DispatchPlan): Tensor {
  if (tokenOffsets !== undefined) return segmentSum(takeRows(weight, rowAssign), rowToken, tokens);
  return sum(reshapeTo(weight, [tokens, assignments / Math.max(1, tokens)]), { axis: 1 });
}
