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
export { execute, type ExecuteOptions, type ExpertActivation, type ExpertBody, type ExpertParams } from "./execute.ts";
export { groupOfToken, type RoutingGroups, routingGroups, type RoutingGroupsOptions, splitByGroup } from "./groups.ts";
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
export { balancedAssignment, type BalancedAssignmentOptions } from "./balanced_assignment.ts";
export { baseRouter, type BaseRouterOptions, type BaseRouterParams } from "./base_router.ts";
export { expectCausal, type NonCausal } from "./causality.ts";
export {
  balanceBias,
  type BalanceBiasOptions,
  deepseekRouter,
  type DeepseekRouterOptions,
  type DeepseekRouterParams,
} from "./deepseek_router.ts";
export { expertChoiceRouter, type ExpertChoiceRouterOptions } from "./expert_choice_router.ts";
export { type GatingDropoutOptions, withGatingDropout } from "./gating_dropout.ts";
export { gshardRouter, type GshardRouterOptions } from "./gshard_router.ts";
export { mixtralRouter, type MixtralRouterOptions } from "./mixtral_router.ts";
export { noisyTopKRouter, type NoisyTopKRouterOptions, type NoisyTopKRouterParams } from "./noisy_top_k_router.ts";
export {
  controlSparsity,
  type ControlSparsityOptions,
  type CountedPlan,
  reluRouter,
  type ReluRouterOptions,
  type ReluRouterParams,
} from "./relu_router.ts";
export { sinkhorn, type SinkhornOptions, type SinkhornShifts } from "./sinkhorn.ts";
export { sinkhornRouter, type SinkhornRouterOptions } from "./sinkhorn_router.ts";
export { type EvenBlocksOptions, planOfEvenBlocks } from "./static_plan.ts";
export { type BlockPlanOptions, planFromBlocks, planOfAll } from "./block_plan.ts";
export { clusteredHashTable, dispersedHashTable } from "./cluster_tables.ts";
export {
  balancedHashTable,
  type HashKey,
  hashRouter,
  type HashRouterOptions,
  type HashRouterParams,
  type HashTable,
} from "./hash_router.ts";
export { bucketOf, hashToBuckets, mixBits, mixPair } from "./integer_hash.ts";
export { type Clustering, kMeans, type KMeansOptions } from "./k_means.ts";
export {
  type MultiHashRouter,
  multiHashRouter,
  type MultiHashRouterOptions,
  type MultiHashRouterParams,
} from "./multi_hash_router.ts";
export { type CarriedHistory, type IdHistory } from "./neighbor_ids.ts";
export { executeSegments, type SegmentParams } from "./segment.ts";
export {
  type ThorDraw,
  type ThorInference,
  thorRouter,
  type ThorRouterOptions,
  type ThorRouterParams,
} from "./thor_router.ts";
export {
  weightedHashRouter,
  type WeightedHashRouterOptions,
  type WeightedHashRouterParams,
} from "./weighted_hash_router.ts";
export { idLookup, type IdLookupOptions } from "./id_lookup.ts";
export { type LshFamily, lshLookup, type LshLookupOptions, type LshLookupParams } from "./lsh_lookup.ts";
export { type FoundRows, type MemoryLookup, planOfRows, valueRows } from "./memory_lookup.ts";
export { softmaxLookup, type SoftmaxLookupOptions } from "./softmax_lookup.ts";
export { entropyRegularizer } from "./entropy_regularizer.ts";
export { type ProductKeys, searchProductKeys } from "./product_keys.ts";
export { type RowUsage, rowUsage } from "./row_usage.ts";
export { type SigmaExpertScales, sigmaExpertScales, type SigmaExpertScalesOptions } from "./sigma_init.ts";
export { sigmaRouter, type SigmaRouterOptions, type SigmaScore } from "./sigma_router.ts";
