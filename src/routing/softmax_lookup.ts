/**
 * Looking a memory up by a learned gate: the one lookup that learns where to look.
 *
 * @module
 */
import { reshapeTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { group } from "../ops/group.ts";
import { belowOne, expectOptions, positive, positiveCount } from "../ops/options.ts";
import { topK } from "../ops/top_k.ts";
import { balanceLoss, meanOverTokens, zLoss } from "./aux_losses.ts";
import { maskChoices } from "./capacity.ts";
import { disturbed, gateInput, initGate, throughGate } from "./gate.ts";
import { routingGroups } from "./groups.ts";
import { type FoundRows, lookupOf, type MemoryLookup } from "./memory_lookup.ts";
import type { RouteContext, Tokens } from "./plan_types.ts";
import { scoreLogits, weighChosen } from "./score.ts";
import { expectKey, expectTokens } from "./tokens.ts";
import type { TopKRouterParams } from "./top_k_router.ts";

/** Options of {@linkcode softmaxLookup}. */
export interface SoftmaxLookupOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Rows of the memory, M. */
  readonly rows: number;
  /** Rows that a token reads, 1..M; 1 by default. */
  readonly k?: number;
  /** While training, the gate sees each hidden value times a number in 1 - jitter to 1 + jitter; 0 by default. */
  readonly jitter?: number;
  /** Standard deviation of the initial gate, 0.02 by default. */
  readonly gateStd?: number;
}

/**
 * Finds the `k` rows with the highest softmax score for each token, weighed by these scores as they are.
 *
 * Shapes: `tokens.hidden` [T, D], `params.gate` [D, M] -> rows [T, k]. Computed in f32; ties go to the lower row. The gate
 * learns through the weights and through `aux`, which holds `balance` over all tokens and `zLoss`, without coefficients.
 *
 * @returns A causal lookup.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `find`, if there is jitter and no key.
 *
 * @example Equal scores: the lowest rows, 1/4 each
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, softmaxLookup, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const lookup = softmaxLookup({ width: 8, rows: 4, k: 2 });
 * const { rows, weights } = lookup.find({ gate: zeros([8, 4]) }, { hidden: zeros([1, 8]) });
 * assertEquals([...await rows.data(), ...await weights.data()], [0, 1, 0.25, 0.25]);
 * ```
 *
 * Source: Baykal et al. 2023.
 */
export function softmaxLookup(options: SoftmaxLookupOptions): MemoryLookup<TopKRouterParams> {
  expectOptions(
    "softmaxLookup",
    {
      width: positiveCount,
      rows: positiveCount,
      k: positiveCount.optional(),
      jitter: belowOne.optional(),
      gateStd: positive.optional(),
    },
    options,
    () => countProblems(options),
  );
  const { width, rows: experts, k = 1, jitter = 0 } = options;
  const name = `softmaxLookup(${k}/${experts})`;
  const size = { width, experts };

  function find({ gate }: TopKRouterParams, tokens: Tokens, context: RouteContext = {}): FoundRows {
    const { mask } = tokens;
    const groups = routingGroups({ tokens: expectTokens(name, tokens) });
    const input = gateInput(name, tokens.hidden, width);
    const isDisturbed = context.train === true && jitter > 0;
    const seen = isDisturbed ? disturbed(expectKey(name, "jitter", context), input, { jitter }) : input;
    const logits = throughGate(name, seen, gate, size);
    const scored = scoreLogits(logits, "softmax");
    const { indices } = topK(logits, k);
    const rows = maskChoices(indices, mask, experts);
    const load = reshapeTo(group(reshapeTo(rows, [rows.size]), experts).counts, [1, experts]);
    return {
      rows,
      weights: weighChosen(scored, indices, "scores"),
      aux: {
        balance: balanceLoss({ distribution: scored.distribution, load, k, groups, mask }),
        zLoss: zLoss(logits, mask),
      },
      meanDistribution: meanOverTokens(scored.distribution, mask),
    };
  }

  return lookupOf({
    name,
    experts,
    k,
    causal: true,
    init: (key: Key): TopKRouterParams => ({ gate: initGate(key, { ...size, gateStd: options.gateStd }) }),
    find,
  });
}

function countProblems({ rows, k = 1 }: SoftmaxLookupOptions): readonly OptionProblem[] {
  return k <= rows ? [] : [["k", k, `must be a whole number in 1..${rows} (rows is ${rows})`]];
}
