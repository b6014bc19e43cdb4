/**
 * SMEAR: soft merging of experts. A router looks at a whole sequence and averages the experts' parameters; the sequence
 * runs through that one merged expert.
 *
 * Letters: B sequences, S tokens of one, D width, E experts.
 *
 * @module
 */
import { castTo, reshapeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval, sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { mapTree } from "../core/tree.ts";
import { add, div, maximum, mul } from "../ops/binary.ts";
import { full, zeros } from "../ops/creation.ts";
import { matmul } from "../ops/matmul.ts";
import { layerNorm } from "../ops/norm.ts";
import { belowOne, expectOptions, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { mean, sum } from "../ops/reduce.ts";
import { bernoulli, normal } from "../ops/samplers.ts";
import { where } from "../ops/select.ts";
import { softmax } from "../ops/softmax.ts";
import { transpose } from "../ops/view.ts";
import { execute, type ExpertParams } from "../routing/execute.ts";
import { planOfEvenBlocks } from "../routing/static_plan.ts";
import { expectKey } from "../routing/tokens.ts";
import { initExperts } from "./expert_params.ts";
import { type FeedForwardOptions, feedForwardOptionShape } from "./feed_forward.ts";
import type { Layer, LayerContext } from "./layer.ts";
import type { MoeInput, MoeOutput } from "./moe.ts";

/** Options of {@linkcode smear}. */
export interface SmearOptions extends FeedForwardOptions {
  /** Number of experts, E. */
  readonly experts: number;
  /** While training, the probability that an expert is left out of a sequence's average; 0 by default. */
  readonly expertDropout?: number;
}

/** Parameters of {@linkcode smear}. */
export interface SmearParams {
  /** What each expert looks for, f32[D, E]; normalized before use. */
  readonly gate: Tensor;
  /** Scale after that normalization, f32[D]. */
  readonly gain: Tensor;
  /** Added to the logits, f32[E]. */
  readonly offset: Tensor;
  /** The experts', stacked. */
  readonly experts: ExpertParams;
}

/** What {@linkcode smear} returns. */
export interface SmearOutput extends MoeOutput {
  /** Share of each expert in each sequence's merged one, f32[B, E]. */
  readonly shares: Tensor;
}

/** A merging layer, which transformer blocks take like `moe`. */
export interface SmearLayer extends Layer<SmearParams, MoeInput, SmearOutput> {
  /** Stands for a router: every token depends on all of its sequence. */
  readonly router: { readonly name: string; readonly causal: false; readonly experts: number };
}

/** The mean of real tokens, [B, S, D] -> [B, D]. */
function pooled(tokens: Tensor, mask: Tensor | undefined): Tensor {
  if (mask === undefined) return mean(tokens, { axis: 1 });
  const [sequences, length] = tokens.shape as [number, number];
  const real = reshapeTo(mask, [sequences, length, 1]);
  const count = maximum(sum(castTo(real, "f32"), { axis: 1 }), 1); // [B, 1]
  return div(sum(where(real, tokens, 0), { axis: 1 }), count);
}

/** Averages stacked parameters [E, ...] by shares [B, E]: [B, ...]. */
function merged(experts: ExpertParams, shares: Tensor): ExpertParams {
  const [sequences, count] = shares.shape as [number, number];
  return mapTree(experts, (leaf) => {
    const flat = reshapeTo(castTo(leaf, "f32"), [count, sizeOf(leaf.shape.slice(1))]);
    return reshapeTo(matmul(shares, flat), [sequences, ...leaf.shape.slice(1)]);
  });
}

/**
 * Averages the parameters of all experts for each sequence, by what a router makes of the sequence's mean, and runs the
 * sequence through the result.
 *
 * Shapes: hidden [..., S, D] -> [..., S, D]. Shares are the softmax of `norm(mean of the sequence) · norm(gate) + offset`,
 * both norms over D, in f32; padding is not in the mean and gets zeros. Everything is differentiable, without auxiliary
 * losses.
 *
 * The plan in the output is over merged experts: one for each sequence, with its S tokens, constant. They run by the same
 * op as those of `moe`. Memory: the merged parameters are B times those of one expert, so it pays where S is much larger
 * than E. All tokens of a sequence decide together: the layer is not causal.
 *
 * @returns A layer whose `router.causal` is false.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `apply`, if a key is missing while training.
 *
 * @example Shares of three experts in two sequences
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { key, ones, smear } from "@switchyard/switchyard";
 *
 * const layer = smear({ experts: 3, width: 4, inner: 8 });
 * const { hidden, shares } = layer.apply(layer.init(key(0)), { hidden: ones([2, 5, 4]) });
 * assertEquals([hidden.shape, shares.shape], [[2, 5, 4], [2, 3]]);
 * ```
 *
 * Source: Muqeeth et al. 2023.
 */
export function smear(options: SmearOptions): SmearLayer {
  expectOptions(
    "smear",
    { experts: positiveCount, expertDropout: belowOne.optional(), ...feedForwardOptionShape },
    options,
  );
  const { experts, expertDropout = 0, ...expertOptions } = options;
  const { width, inner = 4 * width, activation = "gelu", body = "ffn" } = expertOptions;
  const name = `smear(${experts}, ${width} -> ${inner}, ${body}, ${activation})`;

  function sharesOf(params: SmearParams, tokens: Tensor, mask: Tensor | undefined, context: LayerContext): Tensor {
    const sought = layerNorm(transpose(castTo(params.gate, "f32")), { scale: params.gain }); // [E, D]
    const logits = add(matmul(layerNorm(pooled(tokens, mask)), transpose(sought)), params.offset); // [B, E]
    const shares = softmax(logits);
    if (context.train !== true || expertDropout === 0) return shares;
    const stays = bernoulli(expectKey(name, "expert dropout", context), shares.shape, {
      probability: 1 - expertDropout,
    });
    const left = where(stays, shares, 0);
    return div(left, add(sum(left, { axis: 1, keepDims: true }), 1e-10));
  }

  return {
    name,
    router: { name, causal: false, experts },
    init(key: Key): SmearParams {
      const [gateKey, expertKey] = split(key);
      return {
        gate: mul(normal(gateKey, [width, experts]), 0.01),
        gain: full([width], 0.01),
        offset: zeros([experts]),
        experts: initExperts(expertKey, experts, expertOptions),
      };
    },
    apply(params: SmearParams, { hidden, mask }: MoeInput, context: LayerContext = {}): SmearOutput {
      expectSequences(hidden, mask);
      const length = hidden.shape.at(-2)!;
      const sequences = sizeOf(hidden.shape.slice(0, -2));
      const tokens = castTo(reshapeTo(hidden, [sequences, length, width]), "f32");
      const shares = sharesOf(params, tokens, mask, context);
      const plan = planOfEvenBlocks({ experts: sequences, rows: length });
      const flat = reshapeTo(tokens, [plan.tokens, width]);
      const treated = execute(plan, flat, merged(params.experts, shares), { activation, body });
      const kept = mask === undefined ? treated : where(reshapeTo(mask, [plan.tokens, 1]), treated, 0);
      return { hidden: castTo(reshapeTo(kept, hidden.shape), hidden.dtype), plan, shares };
    },
  };

  function expectSequences(hidden: Tensor, mask: Tensor | undefined): void {
    const isSequence = hidden.shape.length >= 2 && hidden.shape.at(-1) === width;
    const isMasked = mask === undefined || String(mask.shape) === String(hidden.shape.slice(0, -1));
    if (isSequence && isMasked) return;
    throw new ShapeError("shape/smear", {
      summary: `Cannot merge experts for ${formatAval(hidden)}: it should be [..., tokens, ${width}]`,
      facts: [["op", name], ...(mask === undefined ? [] : [["mask", formatAval(mask)] as const])],
      fix: "pass whole sequences; a mask has the shape of the hidden states without the last axis",
      details: { shape: hidden.shape, width },
    });
  }
}
