/**
 * Soft mixture of experts: experts treat slots, each a mixture of all tokens of a sequence, and each token gets a mixture
 * of all slots. Nothing is chosen, so everything is differentiable and nothing is dropped.
 *
 * Letters: B sequences, S tokens of one, D width, E experts, P slots of an expert.
 *
 * @module
 */
import { castTo, reshapeTo, transposeTo } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval, sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul } from "../ops/binary.ts";
import { ones } from "../ops/creation.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { sum } from "../ops/reduce.ts";
import { where } from "../ops/select.ts";
import { softmax } from "../ops/softmax.ts";
import { rsqrt, square } from "../ops/unary.ts";
import { execute, type ExpertParams } from "../routing/execute.ts";
import { planOfEvenBlocks } from "../routing/static_plan.ts";
import { initExperts } from "./expert_params.ts";
import { type FeedForwardOptions, feedForwardOptionShape } from "./feed_forward.ts";
import { fanIn } from "./initializers.ts";
import type { Layer } from "./layer.ts";
import type { MoeInput, MoeOutput } from "./moe.ts";

/** Options of {@linkcode softMoe}. */
export interface SoftMoeOptions extends FeedForwardOptions {
  /** Number of experts, E. */
  readonly experts: number;
  /** Slots of an expert in each sequence, 1 by default. With E · P about S the cost is that of a dense layer. */
  readonly slots?: number;
}

/** Parameters of {@linkcode softMoe}. */
export interface SoftMoeParams {
  /** What each slot looks for, f32[D, E · P], the slots of an expert together. */
  readonly slots: Tensor;
  /** Factor of the logits, f32 scalar. */
  readonly scale: Tensor;
  /** The experts', stacked. */
  readonly experts: ExpertParams;
}

/** A soft mixture of experts, which transformer blocks take like `moe`. */
export interface SoftMoeLayer extends Layer<SoftMoeParams, MoeInput, MoeOutput> {
  /** Stands for a router: every token sees all of its sequence. */
  readonly router: { readonly name: string; readonly causal: false; readonly experts: number };
}

/** Divides by the length over an axis. */
function normalized(x: Tensor, axis: number): Tensor {
  return mul(x, rsqrt(add(sum(square(x), { axis, keepDims: true }), 1e-6)));
}

/**
 * Mixes the tokens of each sequence into slots, runs each expert on its slots, and mixes the results back.
 *
 * Shapes: hidden [..., S, D] -> [..., S, D]. Logits are the products of normalized hidden states and normalized slots,
 * times a learned scale; a softmax over tokens mixes what comes in (the hidden states as they are), one over all slots
 * what goes out. Both are computed in f32. Padding is mixed into no slot and gets zeros.
 *
 * The plan in the output is over slots: B · E · P rows, as many for each expert, and constant. Experts run through it by
 * the same op as those of `moe`. No token comes before another here: the layer is not causal, and the same in training
 * and outside.
 *
 * @returns A layer whose `router.causal` is false.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example One expert and one slot: everybody gets the same
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, normal, softMoe } from "@switchyard/switchyard";
 *
 * await init();
 * const layer = softMoe({ experts: 1, width: 4, inner: 8 });
 * const { hidden } = layer.apply(layer.init(key(0)), { hidden: normal(key(1), [2, 4]) });
 * const data = [...await hidden.data()];
 * assertEquals(data.slice(0, 4), data.slice(4));
 * ```
 *
 * Source: Puigcerver et al. 2023.
 */
export function softMoe(options: SoftMoeOptions): SoftMoeLayer {
  expectOptions(
    "softMoe",
    { experts: positiveCount, slots: positiveCount.optional(), ...feedForwardOptionShape },
    options,
  );
  const { experts, slots = 1, ...expertOptions } = options;
  const { width, inner = 4 * width, activation = "gelu", body = "ffn" } = expertOptions;
  const name = `softMoe(${experts} x ${slots}, ${width} -> ${inner}, ${body}, ${activation})`;

  return {
    name,
    router: { name, causal: false, experts },
    init(key: Key): SoftMoeParams {
      const [slotKey, expertKey] = split(key);
      return {
        slots: fanIn(slotKey, [width, experts * slots], { inputs: width }),
        scale: ones([]),
        experts: initExperts(expertKey, experts, expertOptions),
      };
    },
    apply(params: SoftMoeParams, { hidden, mask }: MoeInput): MoeOutput {
      expectSequences(hidden, mask);
      const [length, all] = [hidden.shape.at(-2)!, experts * slots];
      const sequences = sizeOf(hidden.shape.slice(0, -2));
      const tokens = castTo(reshapeTo(hidden, [sequences, length, width]), "f32");
      const real = mask === undefined ? undefined : reshapeTo(mask, [sequences, length, 1]);
      const sought = mul(normalized(castTo(params.slots, "f32"), 0), params.scale); // [D, E · P]
      const logits = matmul(normalized(tokens, -1), sought); // [B, S, E · P]

      // A finite lowest logit: a sequence of padding alone must not become NaN.
      const visible = real === undefined ? logits : where(real, logits, -1e30);
      const dispatch = softmax(transposeTo(visible, [0, 2, 1])); // [B, E · P, S]
      const present = real === undefined ? tokens : where(real, tokens, 0);
      const filled = reshapeTo(matmul(dispatch, present), [sequences, experts, slots, width]);
      const byExpert = transposeTo(filled, [1, 0, 2, 3]); // [E, B, P, D]

      const plan = planOfEvenBlocks({ experts, rows: sequences * slots });
      const treated = execute(plan, reshapeTo(byExpert, [plan.tokens, width]), params.experts, { activation, body });
      const bySequence = transposeTo(reshapeTo(treated, [experts, sequences, slots, width]), [1, 0, 2, 3]);
      const combined = matmul(softmax(logits), reshapeTo(bySequence, [sequences, all, width])); // [B, S, D]
      const mixed = real === undefined ? combined : where(real, combined, 0);
      return { hidden: castTo(reshapeTo(mixed, hidden.shape), hidden.dtype), plan };
    },
  };

  function expectSequences(hidden: Tensor, mask: Tensor | undefined): void {
    const isSequence = hidden.shape.length >= 2 && hidden.shape.at(-1) === width;
    const isMasked = mask === undefined || String(mask.shape) === String(hidden.shape.slice(0, -1));
    if (isSequence && isMasked) return;
    throw new ShapeError("shape/soft-moe", {
      summary: `Cannot mix ${formatAval(hidden)}: it should be [..., tokens, ${width}]`,
      facts: [["op", name], ...(mask === undefined ? [] : [["mask", formatAval(mask)] as const])],
      fix: "pass whole sequences; a mask has the shape of the hidden states without the last axis",
      details: { shape: hidden.shape, width },
    });
  }
}
