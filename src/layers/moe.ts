/**
 * The mixture-of-experts layer: joins a router, the experts' parameters and `execute`.
 *
 * Letters: D width, E experts, F inner width of one expert, T tokens.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval, type Shape, sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { mapTree } from "../core/tree.ts";
import { arange } from "../ops/creation.ts";
import { belowOne, expectOptions, oneOf } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { roundTo } from "../ops/round_to.ts";
import { broadcastTo, reshape } from "../ops/view.ts";
import { execute, type ExpertParams } from "../routing/execute.ts";
import type { DispatchPlan, Router, Tokens } from "../routing/plan_types.ts";
import { expectKey } from "../routing/tokens.ts";
import { executeDropped } from "./execute_dropped.ts";
import { initExperts } from "./expert_params.ts";
import { type FeedForwardOptions, feedForwardOptionShape } from "./feed_forward.ts";
import type { Layer, LayerContext } from "./layer.ts";
import { routerPart } from "./options.ts";

/** Options of {@linkcode moe}. */
export interface MoeOptions<R> extends FeedForwardOptions {
  /** Chooses experts; it also says how many there are. */
  readonly router: Router<R>;
  /**
   * Whether training keeps the values before the nonlinearity for the backward pass (the default) or saves their memory
   * and computes them again. Outside training they are never kept.
   */
  readonly preactivations?: "kept" | "recomputed";
  /**
   * Type in which experts hold their parameters and read their tokens; both are rounded to it, and products still add up
   * in f32. The parameters of the layer stay as they are (f32 by `init`), so that optimizers and checkpoints do not change
   * and no small update is lost; the router sees the tokens as they came, in f32. By default nothing is rounded.
   */
  readonly expertDtype?: ExpertDtype;
  /**
   * Share of each expert's inner values that is dropped while training, 0 by default; Switch fine-tunes with 0.4. It
   * needs a key in the context. Training then takes several dispatches and stores the inner values.
   */
  readonly innerDropout?: number;
}

/** Type of experts' parameters and tokens: f16 needs an adapter that has it, bf16 works on every one. */
export type ExpertDtype = "f32" | "f16" | "bf16";

/** Parameters of {@linkcode moe}. */
export interface MoeParams<R> {
  /** The router's. */
  readonly router: R;
  /** The experts', stacked: `up` [E, D, F], `down` [E, F, D], `gate` [E, D, F] for the gated body, and biases. */
  readonly experts: ExpertParams;
}

/** Hidden states and what else routers may look at. The axis before the last is the sequence. */
export interface MoeInput {
  /** Float [..., S, D]. */
  readonly hidden: Tensor;
  /** Token ids, u32 [..., S]. */
  readonly ids?: Tensor;
  /** Places in the sequence, u32 [S] or [..., S]; 0, 1, … by default. */
  readonly positions?: Tensor;
  /** Which tokens are real, bool [..., S]; the others are routed nowhere. */
  readonly mask?: Tensor;
  /** What the layer before handed over, for routers that carry something. */
  readonly carry?: unknown;
}

/** What a mixture of experts returns. */
export interface MoeOutput {
  /** Like the input's. A token without an expert gets zeros. */
  readonly hidden: Tensor;
  /** Who treated which token, with auxiliary losses and statistics. */
  readonly plan: DispatchPlan;
}

/** A mixture of experts. It tells its router, so that a model can ask whether it is causal. */
export interface MoeLayer<R> extends Layer<MoeParams<R>, MoeInput, MoeOutput> {
  /** The router it was built with. */
  readonly router: Router<R>;
}

/** Flattens tokens for the router. */
function tokensOf({ hidden, ids, positions, mask }: MoeInput): Tokens {
  const leading: Shape = hidden.shape.slice(0, -1);
  const [count, sequenceLength] = [sizeOf(leading), leading.at(-1)!];
  const places = positions ?? arange(sequenceLength);
  for (const [name, side] of [["ids", ids], ["positions", positions], ["mask", mask]] as const) {
    const fits = side === undefined || String(side.shape) === String(leading) ||
      (name === "positions" && String(side.shape) === String([sequenceLength]));
    if (fits) continue;
    throw new ShapeError("shape/moe", {
      summary: `Cannot route: ${name} ${formatAval(side)} do not fit hidden ${formatAval(hidden)}`,
      facts: [["op", "moe"]],
      fix: `give ${name} the shape [${leading.join(", ")}]`,
      details: { name, shape: side.shape, hidden: hidden.shape },
    });
  }
  return {
    hidden: reshape(hidden, [count, hidden.shape.at(-1)!]),
    positions: reshape(broadcastTo(places, leading), [count]),
    sequenceLength,
    ...(ids === undefined ? {} : { ids: reshape(ids, [count]) }),
    ...(mask === undefined ? {} : { mask: reshape(mask, [count]) }),
  };
}

/**
 * Lets a router send each token to some of many experts, and adds up what they return by the router's weights.
 *
 * Shapes: hidden [..., S, D] -> [..., S, D]. Experts start truncated normal with variance `scale` over an expert's own
 * inputs (not over all experts'), biases at 0. Auxiliary losses are in `plan.aux`, without coefficients.
 *
 * @returns A layer whose output holds the hidden states and the plan.
 * @throws {ConfigError} If an option is invalid.
 *
 * @example Two of four experts for each token
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, moe, ones, topKRouter } from "@switchyard/switchyard";
 *
 * const layer = moe({ router: topKRouter({ width: 8, experts: 4, k: 2 }), width: 8, inner: 16 });
 * const { hidden, plan } = layer.apply(layer.init(key(0)), { hidden: ones([2, 5, 8]) });
 * assertEquals([hidden.shape, plan.assignments], [[2, 5, 8], 20]);
 * ```
 *
 * Source: Shazeer et al. 2017; Fedus et al. 2021.
 */
export function moe<R>(options: MoeOptions<R>): MoeLayer<R> {
  expectOptions("moe", {
    router: routerPart,
    ...feedForwardOptionShape,
    preactivations: oneOf("kept", "recomputed").optional(),
    expertDtype: oneOf("f32", "f16", "bf16").optional(),
    innerDropout: belowOne.optional(),
  }, options);
  const { router, width, inner = 4 * width, activation = "gelu", body = "ffn", preactivations = "kept" } = options;
  const { expertDtype, innerDropout = 0 } = options;
  const name = `moe(${router.name}, ${width} -> ${inner}, ${body}, ${activation})`;

  /** What experts read, in their type. */
  function narrowed(x: Tensor): Tensor {
    if (expertDtype === undefined) return x;
    return expertDtype === "f32" ? castTo(x, "f32") : roundTo(x, expertDtype);
  }

  /** Runs the experts in their type; with a key, dropping inner values. */
  function runExperts(plan: DispatchPlan, hidden: Tensor, params: ExpertParams, context: LayerContext): Tensor {
    const taken = castTo(narrowed(hidden), hidden.dtype);
    const experts = mapTree(params, narrowed);
    if (context.key !== undefined) {
      return executeDropped(plan, taken, experts, { activation, key: context.key, rate: innerDropout });
    }
    return execute(plan, taken, experts, {
      activation,
      body,
      preactivations: context.train === true ? preactivations : "recomputed",
    });
  }

  return {
    name,
    router,
    init(key: Key): MoeParams<R> {
      const [routerKey, expertKey] = split(key);
      return { router: router.init(routerKey), experts: initExperts(expertKey, router.experts, options) };
    },
    apply(params: MoeParams<R>, x: MoeInput, context: LayerContext = {}): MoeOutput {
      const tokens = tokensOf(x);
      const { train = false } = context;
      const isDropping = train && innerDropout > 0;
      const [routerKey, dropKey] = isDropping ? split(expectKey(name, "inner dropout", context)) : [context.key];
      const plan = router.route(params.router, tokens, {
        train,
        ...(routerKey === undefined ? {} : { key: routerKey }),
        ...(x.carry === undefined ? {} : { carry: x.carry }),
      });
      const mixed = runExperts(plan, tokens.hidden, params.experts, { train, ...(dropKey && { key: dropKey }) });
      return { hidden: reshape(mixed, x.hidden.shape), plan };
    },
  };
}
