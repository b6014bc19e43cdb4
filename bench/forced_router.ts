/**
 * A router that ignores what it sees: it deals tokens to experts by a table, so that speed can be measured under a known
 * load. A trained router's load depends on its training.
 *
 * @module
 */
import {
  type DispatchPlan,
  full,
  type Key,
  planFromTopK,
  type RouteContext,
  type Router,
  type Tensor,
  tensor,
  type Tokens,
} from "../mod.ts";
import { randomSource } from "../tests/support/random.ts";

/** How assignments fall on experts: all alike, the e-th with odds 1/(e + 1), or the first K take everything. */
export type Load = "uniform" | "zipf" | "one";

/** Options of {@linkcode forcedRouter}. */
export interface ForcedRouterOptions {
  /** T: the table has one row a token. */
  readonly tokens: number;
  /** E. */
  readonly experts: number;
  /** K, different experts of a token. */
  readonly k: number;
  /** How assignments fall on experts, `"uniform"` by default: equal counts, as far as E divides T·K. */
  readonly load?: Load;
}

/** Parameters of {@linkcode forcedRouter}. */
export interface ForcedRouterParams {
  /** Expert of each choice, u32[T, K]. */
  readonly table: Tensor;
  /** Weight of each choice, f32[T, K], 1/K at first. */
  readonly weights: Tensor;
}

/** The choices of all tokens, row by row. Neighboring tokens go to unrelated experts, as in real text. */
export function forcedChoices({ tokens, experts, k, load = "uniform" }: ForcedRouterOptions): Uint32Array {
  const random = randomSource(1);
  const choices = new Uint32Array(tokens * k);
  const order = Array.from({ length: tokens }, (_, i) => i);
  for (let i = tokens - 1; i > 0; i--) {
    const other = random.integer(0, i + 1);
    [order[i], order[other]] = [order[other]!, order[i]!];
  }
  for (const [place, token] of order.entries()) {
    const row = load === "zipf" ? drawZipf(experts, k, random.uniform) : null;
    for (let choice = 0; choice < k; choice++) {
      const dealt = load === "uniform" ? (place * k + choice) % experts : choice;
      choices[token * k + choice] = row?.[choice] ?? dealt;
    }
  }
  return choices;
}

/** Draws different experts one after another, each with its odds among those left. */
function drawZipf(experts: number, k: number, uniform: (low: number, high: number) => number): number[] {
  const odds = Array.from({ length: experts }, (_, expert) => 1 / (expert + 1));
  return Array.from({ length: k }, () => {
    let at = uniform(0, odds.reduce((sum, value) => sum + value, 0));
    let drawn = odds.findIndex((value) => (at -= value) < 0);
    // Rounding can leave a rest behind the last one.
    if (drawn < 0) drawn = odds.findLastIndex((value) => value > 0);
    odds[drawn] = 0;
    return drawn;
  });
}

/** Makes a router that routes by a table. */
export function forcedRouter(options: ForcedRouterOptions): Router<ForcedRouterParams> {
  const { tokens, experts, k, load = "uniform" } = options;
  return {
    name: `forced(${k}/${experts}, ${load})`,
    experts,
    causal: true,
    init(_key: Key): ForcedRouterParams {
      return {
        table: tensor(forcedChoices(options), { shape: [tokens, k], dtype: "u32" }),
        weights: full([tokens, k], 1 / k),
      };
    },
    route({ table, weights }: ForcedRouterParams, _tokens: Tokens, _context?: RouteContext): DispatchPlan {
      return planFromTopK({ experts, indices: table, weights });
    },
  };
}
