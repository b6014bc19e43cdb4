/**
 * The training loss of a language model with routed blocks: cross-entropy and weighted auxiliary losses.
 *
 * @module
 */
import { ConfigError } from "../core/errors.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul } from "../ops/binary.ts";
import { crossEntropy } from "../ops/losses.ts";
import type { DispatchPlan } from "../routing/plan_types.ts";
import type { TransformerLmOutput } from "./transformer_lm.ts";

/** Options of {@linkcode languageModelLoss}. */
export interface LanguageModelLossOptions {
  /** Positions that count, bool of the targets' shape; all by default. */
  readonly mask?: Tensor;
  /** Share of the target's probability spread over all tokens, 0 by default. */
  readonly labelSmoothing?: number;
  /** Factor of each auxiliary loss by name, such as `{ balance: 0.01 }`. One without a factor is reported only. */
  readonly coefficients?: Readonly<Record<string, number>>;
}

/** The loss and its parts, f32 scalars. */
export interface LanguageModelLoss {
  /** What to minimize. */
  readonly loss: Tensor;
  /** Mean cross-entropy in nats. */
  readonly crossEntropy: Tensor;
  /** Auxiliary losses summed over the blocks, without factors. */
  readonly aux: Readonly<Record<string, Tensor>>;
}

/** Sums auxiliary losses of one name over blocks. */
function sumAux(plans: readonly (DispatchPlan | null)[]): Readonly<Record<string, Tensor>> {
  const sums: Record<string, Tensor> = {};
  for (const plan of plans) {
    for (const [name, value] of Object.entries(plan?.aux ?? {})) {
      const before = sums[name];
      sums[name] = before === undefined ? value : add(before, value);
    }
  }
  return sums;
}

function expectKnown(coefficients: Readonly<Record<string, number>>, aux: Readonly<Record<string, Tensor>>): void {
  const unknown = Object.keys(coefficients).filter((name) => !(name in aux));
  if (unknown.length === 0) return;
  const known = Object.keys(aux);
  throw new ConfigError("config/aux", {
    summary: `Cannot weight auxiliary losses: no block has ${unknown.join(", ")}`,
    facts: [[
      "losses",
      known.length === 0 ? "none, all bodies are dense or their routers have none" : known.join(", "),
    ]],
    fix: "name losses that the routers put into plan.aux",
    details: { unknown, known },
  });
}

/**
 * Adds to the mean cross-entropy the auxiliary losses of all blocks, each name summed over the blocks and times its
 * coefficient.
 *
 * @param output What `transformerLm` returned: logits [B, S, V] and plans.
 * @param targets Next token ids, u32 or i32 [B, S].
 * @throws {ShapeError} If targets or mask do not fit the logits.
 * @throws {ConfigError} If a coefficient names a loss that no block has, or `labelSmoothing` is invalid.
 *
 * @example Without experts it is the cross-entropy
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { init, languageModelLoss, tensor, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const targets = tensor([[1, 0]], { dtype: "u32" });
 * const { loss } = languageModelLoss({ logits: zeros([1, 2, 4]), plans: [null] }, targets);
 * assertAlmostEquals(await loss.item(), Math.log(4), 1e-6);
 * ```
 */
export function languageModelLoss(
  output: TransformerLmOutput,
  targets: Tensor,
  options: LanguageModelLossOptions = {},
): LanguageModelLoss {
  const { coefficients = {}, ...entropyOptions } = options;
  const aux = sumAux(output.plans);
  expectKnown(coefficients, aux);
  const entropy = crossEntropy(output.logits, targets, entropyOptions);
  const loss = Object.entries(coefficients).reduce((sum, [name, factor]) => add(sum, mul(aux[name]!, factor)), entropy);
  return { loss, crossEntropy: entropy, aux };
}
