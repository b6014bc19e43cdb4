/**
 * The layer of MultiHash: a feed-forward layer put together, for each token, from segments of several experts.
 *
 * Letters: D width, F inner width, N segments, E experts of a segment, T tokens.
 *
 * @module
 */
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { sizeOf } from "../core/shape.ts";
import { zeros } from "../ops/creation.ts";
import { expectOptions, flag, nonNegative, oneOf, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { reshape } from "../ops/view.ts";
import type { MultiHashRouter, MultiHashRouterParams } from "../routing/multi_hash_router.ts";
import type { Tokens } from "../routing/plan_types.ts";
import { executeSegments, type SegmentParams } from "../routing/segment.ts";
import { type Activation, ACTIVATIONS } from "./feed_forward.ts";
import { fanIn } from "./initializers.ts";
import type { Layer, LayerContext } from "./layer.ts";
import type { MoeInput, MoeOutput } from "./moe.ts";
import { routerPart } from "./options.ts";

/** Options of {@linkcode multiHash}. */
export interface MultiHashOptions {
  /** Chooses the experts, from `multiHashRouter`; it says how many segments and experts there are. */
  readonly router: MultiHashRouter;
  /** Size of the last axis of input and output, a multiple of the segments. */
  readonly width: number;
  /** Size between the two products, a multiple of the segments; 4·width by default. */
  readonly inner?: number;
  /** Nonlinearity, `"relu"` by default. */
  readonly activation?: Activation;
  /** Whether the products add biases, false by default. */
  readonly bias?: boolean;
  /** Variance of an initial inner value whose inputs have variance 1; 1 by default. */
  readonly scale?: number;
  /** The same for an output; 1 by default. */
  readonly outputScale?: number;
}

/** Parameters of {@linkcode multiHash}. Segment m of expert e is entry m · E + e of axis 0. */
export interface MultiHashParams {
  /** The router's tables. */
  readonly router: MultiHashRouterParams;
  /** Segments of the first product: weight [N · E, D, F / N], bias [N · E, F / N]. */
  readonly up: SegmentParams;
  /** Segments of the second product: weight [N · E, F, D / N], bias [N · E, D / N]. */
  readonly down: SegmentParams;
}

/** A routed layer like `moe`: it tells its router. */
export interface MultiHashLayer extends Layer<MultiHashParams, MoeInput, MoeOutput> {
  /** The router it was built with. */
  readonly router: MultiHashRouter;
}

/**
 * Puts a feed-forward layer together for each token: N hashes of its id choose an expert each, and the token gets segment
 * m of the matrices of expert m.
 *
 * Shapes: hidden [..., S, D], ids u32 [..., S] -> [..., S, D]. Both products are concatenations over the segments, and
 * each output segment reads the whole inner vector, so the layer is no sum of N experts. Parameters and products are as
 * many as with N = 1 and E experts. A token whose id is outside the vocabulary, or which is masked, gets zeros.
 *
 * @returns A layer whose output holds the hidden states and the plan of T · N assignments over N · E segments.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `apply`, if there are no ids.
 *
 * @example Two segments of three experts each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, multiHash, multiHashRouter, ones, tensor } from "@switchyard/switchyard";
 *
 * const router = multiHashRouter({ experts: 3, segments: 2, vocabulary: 5 });
 * const layer = multiHash({ router, width: 8 });
 * const params = layer.init(key(0));
 * assertEquals([params.up.weight.shape, params.down.weight.shape], [[6, 8, 16], [6, 32, 4]]);
 * const ids = tensor([[4, 0, 1]], { dtype: "u32" });
 * assertEquals(layer.apply(params, { hidden: ones([1, 3, 8]), ids }).hidden.shape, [1, 3, 8]);
 * ```
 *
 * Source: Roller et al. 2021.
 */
export function multiHash(options: MultiHashOptions): MultiHashLayer {
  expectOptions(
    "multiHash",
    {
      router: routerPart,
      width: positiveCount,
      inner: positiveCount.optional(),
      activation: oneOf("relu", "gelu", "silu").optional(),
      bias: flag.optional(),
      scale: nonNegative.optional(),
      outputScale: nonNegative.optional(),
    },
    options,
    () => segmentProblems(options),
  );
  const { router, width, inner = 4 * width, activation = "relu", bias = false } = options;
  const { scale = 1, outputScale = 1 } = options;
  const { segments, experts } = router; // experts: N · E
  const activate = ACTIVATIONS[activation];

  function initSegments(key: Key, inputs: number, outputs: number, scale: number): SegmentParams {
    const size = outputs / segments;
    return {
      weight: fanIn(key, [experts, inputs, size], { inputs, scale }),
      ...(bias ? { bias: zeros([experts, size]) } : {}),
    };
  }

  return {
    name: `multiHash(${router.name}, ${width} -> ${inner}, ${activation})`,
    router,
    init(key: Key): MultiHashParams {
      const [routerKey, upKey, downKey] = split(key, 3);
      return {
        router: router.init(routerKey),
        up: initSegments(upKey, width, inner, scale),
        down: initSegments(downKey, inner, width, outputScale),
      };
    },
    apply(params: MultiHashParams, x: MoeInput, context: LayerContext = {}): MoeOutput {
      const tokens = tokensOf(x);
      const count = tokens.hidden.shape[0]!;
      const plan = router.route(params.router, tokens, context);
      const raised = executeSegments(plan, tokens.hidden, params.up); // [T·N, F/N]
      const middle = activate(reshape(raised, [count, inner])); // segments of a token stand side by side
      const lowered = executeSegments(plan, middle, params.down); // [T·N, D/N]
      return { hidden: reshape(lowered, x.hidden.shape), plan };
    },
  };
}

/** Flattens what the router looks at. */
function tokensOf({ hidden, ids, mask }: MoeInput): Tokens {
  const count = sizeOf(hidden.shape.slice(0, -1));
  return {
    hidden: reshape(hidden, [count, hidden.shape.at(-1)!]),
    ...(ids === undefined ? {} : { ids: reshape(ids, [count]) }),
    ...(mask === undefined ? {} : { mask: reshape(mask, [count]) }),
  };
}

function segmentProblems({ router, width, inner = 4 * width }: MultiHashOptions): readonly OptionProblem[] {
  const { segments } = router;
  if (segments === undefined) return [["router", router.name, "must be made by multiHashRouter"]];
  return Object.entries({ width, inner })
    .filter(([, value]) => value % segments !== 0)
    .map(([name, value]) => [name, value, `must be a multiple of ${segments}, the number of segments`]);
}
