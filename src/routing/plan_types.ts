/**
 * The contract between routers and the fused op: what a router may look at and what it hands over.
 *
 * Letters: T tokens, E experts, A assignments (token–expert pairs offered by the router; K·T when every token has K).
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";

/** Numbers about a plan, computed on the device with it and never needed by it. */
export interface PlanStats {
  /** Assignments each expert received before capacity, u32[E]. */
  readonly load: Tensor;
  /** Assignments each expert keeps, u32[E]. */
  readonly counts: Tensor;
  /** Assignments dropped by capacity or masks, u32 scalar. */
  readonly dropped: Tensor;
  /** Entropy in nats of the mean routing distribution (or of the load, for routers without probabilities), f32 scalar. */
  readonly entropy: Tensor;
}

/**
 * Which expert treats which token, and with what weight: a tree of tensors with static shapes.
 *
 * Rows are the kept assignments, grouped by expert, in the order of their assignment ids inside an expert. Rows from
 * `expertOffsets[E]` on are unused; they hold the dropped assignments, so `rowAssign` is a permutation of 0..A-1. All index fields are discrete; `weight` and `aux` are differentiable.
 */
export interface DispatchPlan {
  /** T, static. */
  readonly tokens: number;
  /** E, static. */
  readonly experts: number;
  /** A, static: the number of rows there is room for. */
  readonly assignments: number;
  /** First row of each expert and, last, the number of rows in use: u32[E + 1]. */
  readonly expertOffsets: Tensor;
  /** Token of each row, u32[A]. */
  readonly rowToken: Tensor;
  /** Assignment of each row, u32[A]. */
  readonly rowAssign: Tensor;
  /** Row of each assignment, 0xFFFFFFFF if it was dropped: u32[A]. The inverse of `rowAssign`. */
  readonly assignRow: Tensor;
  /** Combination weight by assignment, f32[A]: the only differentiable field besides `aux`. */
  readonly weight: Tensor;
  /** First assignment of each token and, last, how many are in use: u32[T + 1]. Absent if every token has A / T assignments. */
  readonly tokenOffsets?: Tensor;
  /** Whether `weight` scales what an expert puts out or what it takes in. */
  readonly scaleAt: "output" | "input";
  /** Auxiliary losses by name, f32 scalars without coefficients: the caller owns those. */
  readonly aux: Readonly<Record<string, Tensor>>;
  /** Load, drops and entropy. */
  readonly stats: PlanStats;
  /** What a stateful router hands to the next layer or step. */
  readonly carry?: unknown;
}

/** What a router may look at. */
export interface Tokens {
  /** Hidden states, float [T, D]. */
  readonly hidden: Tensor;
  /** Token ids, u32[T]; hash routers need them. */
  readonly ids?: Tensor;
  /** Positions in their sequences, u32[T]. */
  readonly positions?: Tensor;
  /** Which tokens are real, bool[T]; padding gets no row and does not count. */
  readonly mask?: Tensor;
  /** Tokens of one sequence, static: routing groups may not cross it. */
  readonly sequenceLength?: number;
}

/** Everything else a router depends on. */
export interface RouteContext {
  /** Random key, for routers that draw while training. */
  readonly key?: Key;
  /** Whether jitter, drops and training capacity apply. False by default. */
  readonly train?: boolean;
  /** What the previous layer or step handed over. */
  readonly carry?: unknown;
}

/** A pure function from parameters and tokens to a plan. */
export type Route<P> = (params: P, tokens: Tokens, context?: RouteContext) => DispatchPlan;

/** A router: parameters, and the pure function that routes with them. */
export interface Router<P> {
  /** Name with the settings that matter, such as `topK(2/8)`. */
  readonly name: string;
  /** Whether a token's plan depends on earlier tokens only. */
  readonly causal: boolean;
  /** Number of experts it routes to. */
  readonly experts: number;
  /** Makes initial parameters. */
  init(key: Key): P;
  /** Routes. */
  readonly route: Route<P>;
}
