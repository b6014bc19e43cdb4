/**
 * Looking a memory up by locality-sensitive hashing: hidden states that point in like directions read the same row.
 *
 * Letters: T tokens, D width, M rows, N directions.
 *
 * @module
 */
import { castTo, fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { shiftLeft } from "../ops/bitwise.ts";
import { greater } from "../ops/compare.ts";
import { concat } from "../ops/concat.ts";
import { argmax } from "../ops/extremum.ts";
import { expectOptions, oneOf, positiveCount } from "../ops/options.ts";
import { sum } from "../ops/reduce.ts";
import { normal } from "../ops/samplers.ts";
import { neg } from "../ops/unary.ts";
import { maskChoices } from "./capacity.ts";
import { gateInput, throughGate } from "./gate.ts";
import { type FoundRows, lookupOf, type MemoryLookup } from "./memory_lookup.ts";
import type { Tokens } from "./plan_types.ts";
import { expectTokens } from "./tokens.ts";

/**
 * How projections on random directions become a row. `"signBits"`: N directions give N bits, and with them one of 2^N
 * rows. `"crossPolytope"`: each direction and its opposite have a row, and the nearest wins; M = 2 · N.
 */
export type LshFamily = "signBits" | "crossPolytope";

/** Options of {@linkcode lshLookup}. */
export interface LshLookupOptions {
  /** Width of the hidden states, D. */
  readonly width: number;
  /** Rows of the memory, M: a power of two from 2 up for sign bits, even for the cross-polytope. */
  readonly rows: number;
  /** `"signBits"` by default. */
  readonly family?: LshFamily;
}

/** Parameters of {@linkcode lshLookup}: never learned, but checkpoints keep them. */
export interface LshLookupParams {
  /** Random directions in columns, f32[D, N]. */
  readonly directions: Tensor;
}

/**
 * Finds one row for each token by the direction of its hidden state, with weight 1.
 *
 * Shapes: `tokens.hidden` [T, D], `params.directions` [D, N] -> rows [T, 1]. A positive factor changes no row, whether of
 * the hidden state or of all directions, so decaying the directions does no harm. Bit j of a sign-bit row says whether
 * the projection on direction j is above 0; opposite vectors have complementary bits. Row n of a cross-polytope is
 * direction n, row N + n its opposite; ties go to the lower row.
 *
 * Projections are computed in f32. No gradient passes: only the rows learn, and as hidden states drift, tokens change
 * their rows. Hash normalized states, as a body behind a norm gets them; around a large mean a bit can be constant.
 *
 * @returns A causal lookup, the same in training and outside.
 * @throws {ConfigError} If an option is invalid; all problems at once.
 *
 * @example Three sign bits
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, lshLookup, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const lookup = lshLookup({ width: 2, rows: 8 });
 * const directions = tensor([[1, 0, 1], [0, 1, -1]]);
 * const { rows } = lookup.find({ directions }, { hidden: tensor([[1, 2], [0, -3]]) });
 * assertEquals([...await rows.data()], [3, 4]);
 * ```
 *
 * Source: Charikar 2002 for sign bits; Andoni et al. 2015 for the cross-polytope; Baykal et al. 2023 for the memory.
 */
export function lshLookup(options: LshLookupOptions): MemoryLookup<LshLookupParams> {
  expectOptions(
    "lshLookup",
    { width: positiveCount, rows: positiveCount, family: oneOf("signBits", "crossPolytope").optional() },
    options,
    () => rowProblems(options),
  );
  const { width, rows, family = "signBits" } = options;
  const name = `lshLookup(${family}, ${rows})`;
  const count = family === "signBits" ? Math.log2(rows) : rows / 2; // N

  function find({ directions }: LshLookupParams, tokens: Tokens): FoundRows {
    const tokenCount = expectTokens(name, tokens);
    const size = { width, experts: count };
    const projected = throughGate(name, gateInput(name, tokens.hidden, width), directions, size, "directions"); // [T, N]
    const found = family === "signBits"
      ? signBits(projected)
      : argmax(concat([projected, neg(projected)], { axis: 1 }), { axis: 1 });
    return {
      rows: maskChoices(reshapeTo(found, [tokenCount, 1]), tokens.mask, rows),
      weights: fullLike([tokenCount, 1], "f32", 1),
    };
  }

  return lookupOf({
    name,
    experts: rows,
    k: 1,
    causal: true,
    init: (key: Key): LshLookupParams => ({ directions: normal(key, [width, count]) }),
    find,
  });
}

/** The number whose bit j says whether column j is above 0: [T, N] -> u32[T]. */
function signBits(projected: Tensor): Tensor {
  const bits = castTo(greater(projected, 0), "u32");
  return sum(shiftLeft(bits, iota(projected.shape, "u32", 1)), { axis: 1 });
}

function rowProblems({ rows, family = "signBits" }: LshLookupOptions): readonly OptionProblem[] {
  if (family === "crossPolytope") {
    return rows % 2 === 0 ? [] : [["rows", rows, "must be even (family is crossPolytope)"]];
  }
  const isPower = rows >= 2 && rows <= 2 ** 31 && Number.isInteger(Math.log2(rows));
  return isPower ? [] : [["rows", rows, "must be a power of two from 2 up (family is signBits)"]];
}
