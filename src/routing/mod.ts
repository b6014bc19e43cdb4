/**
 * Routers and dispatch plans: which expert treats which token, and with what weight.
 *
 * A router is a pure function from parameters and tokens to a {@linkcode DispatchPlan}. New routers are built from
 * {@linkcode planFromTopK} or {@linkcode planFromAssignments}; no router needs a kernel of its own.
 *
 * @module
 */
export { balanceLoss, type BalanceLossOptions, entropyOf, zLoss } from "./aux_losses.ts";
export {
  type CapacityOptions,
  type CapacityOrder,
  expertCapacity,
  rankChoices,
  type Ranking,
  type RankOptions,
} from "./capacity.ts";
export { groupOfToken, type RoutingGroups, routingGroups, type RoutingGroupsOptions, splitByGroup } from "./groups.ts";
export {
  balancedHashTable,
  hashRouter,
  type HashRouterOptions,
  type HashRouterParams,
  type HashTable,
} from "./hash_router.ts";
export { hashToBuckets, mixBits } from "./integer_hash.ts";
export {
  type AssignmentPlanOptions,
  type PlanCapacity,
  type PlanExtras,
  planFromAssignments,
  planFromTopK,
  type TopKPlanOptions,
} from "./plan.ts";
export type { DispatchPlan, PlanStats, Route, RouteContext, Router, Tokens } from "./plan_types.ts";
export { type Score, scoreLogits, type Scores, weighChosen, type WeightRule } from "./score.ts";
export { switchRouter, type SwitchRouterOptions } from "./switch_router.ts";
export { topKRouter, type TopKRouterOptions, type TopKRouterParams } from "./top_k_router.ts";
