/**
 * What the program knows about each of its routers without building it: one table, which options and losses follow.
 *
 * @module
 */

/**
 * Name of a router of the program, or of what takes a router's place: `dense`, `topk-activation`, `pkm`, `memory`
 * and `altup` (a model of its own) have no experts, `soft-moe` and `smear` mix instead of choosing.
 */
export type RouterName =
  | "dense"
  | "switch"
  | "topk"
  | "hash"
  | "multihash"
  | "thor"
  | "sigma"
  | "topk-activation"
  | "pkm"
  | "memory"
  | "altup"
  | "base"
  | "sinkhorn"
  | "expert-choice"
  | "noisy-topk"
  | "deepseek"
  | "soft-moe"
  | "smear"
  | "relu";

/** What options and losses depend on. */
export interface RouterFacts {
  /** What a token visits: one expert, as many as `topk` says, or none because there are none. */
  readonly visits: "none" | "one" | "many";
  /** Factors of the auxiliary losses by name, as published; none by default. */
  readonly coefficients?: Readonly<Record<string, number>>;
  /** Whether a token's experts depend on earlier tokens only; true by default. */
  readonly causal?: false;
  /** Whether it mixes tokens or experts rather than choose, so that nobody is sent anywhere; not by default. */
  readonly mixes?: true;
  /** Leaf of the router's parameters that a reducer moves after each step, and no optimizer. */
  readonly reduced?: string;
}

/** Fedus et al. 2021 for the balance, Zoph et al. 2022 for the z-loss. */
const SOFTMAX_COEFFICIENTS: Readonly<Record<string, number>> = { balance: 0.01, zLoss: 0.001 };

/** The routers, in the order in which messages name them. */
export const ROUTERS: Readonly<Record<RouterName, RouterFacts>> = {
  dense: { visits: "none" },
  switch: { visits: "one", coefficients: SOFTMAX_COEFFICIENTS },
  topk: { visits: "many", coefficients: SOFTMAX_COEFFICIENTS },
  hash: { visits: "one" },
  multihash: { visits: "many" },
  thor: { visits: "one" },
  sigma: { visits: "many", coefficients: { entropyReg: 1e-3 } },
  "topk-activation": { visits: "none" },
  pkm: { visits: "none" },
  // Only lookup `softmax` has losses.
  memory: { visits: "none", coefficients: SOFTMAX_COEFFICIENTS },
  altup: { visits: "none" },
  base: { visits: "one" },
  sinkhorn: { visits: "one" },
  "expert-choice": { visits: "one", causal: false },
  "noisy-topk": { visits: "many", coefficients: { importance: 0.1, load: 0.1 } },
  deepseek: { visits: "many", coefficients: { balance: 1e-4, zLoss: 0 }, reduced: "bias" },
  "soft-moe": { visits: "one", causal: false, mixes: true },
  smear: { visits: "one", causal: false, mixes: true },
  // The loss holds its coefficient already, which a reducer adapts.
  relu: { visits: "many", coefficients: { sparsity: 1 }, reduced: "coefficient" },
};

/** Every router's name. */
export const ROUTER_NAMES: readonly RouterName[] = Object.keys(ROUTERS) as RouterName[];

/** The most experts that a token may visit. */
export function mostVisits(router: RouterName, experts: number): number {
  // Its smooth load compares with the best expert that was not chosen.
  if (router === "noisy-topk") return experts - 1;
  // Here topk counts segments, each of which chooses one of all experts.
  return router === "multihash" ? Infinity : experts;
}
