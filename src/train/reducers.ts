/**
 * What moves some routers' state after each step in place of an optimizer: the balancing bias of `deepseek` and the
 * sparsity coefficient of `relu`.
 *
 * @module
 */
import {
  balanceBias,
  controlSparsity,
  type DeepseekRouterParams,
  type PlanStats,
  type ReluRouterParams,
  type Tensor,
} from "../../mod.ts";
import type { TrainConfig } from "./config.ts";
import type { ModelParams } from "./model.ts";
import { ROUTERS } from "./routers.ts";

/** Moves the routers of all blocks, by the statistics of their plans in the step. */
export type Reducer = (params: ModelParams, stats: readonly PlanStats[]) => ModelParams;

/**
 * Finds the reducer of a router.
 *
 * @param config The router, how many experts a token should visit, and the size of a batch.
 * @returns The reducer, or null for a router without state.
 */
export function reducerOf(
  { router, topk, batch, seq }: Pick<TrainConfig, "router" | "topk" | "batch" | "seq">,
): Reducer | null {
  if (router === "deepseek") {
    return mapRouters<DeepseekRouterParams>((params, stats, layer) => balanceBias(params, stats[layer]!));
  }
  if (router === "relu") {
    // One course for all layers: some may be denser than others, as published.
    const tokens = batch * seq;
    return mapRouters<ReluRouterParams>((params, stats) =>
      controlSparsity(params, stats.map((stats) => ({ tokens, stats })), { k: topk })
    );
  }
  return null;
}

/**
 * Says whether a leaf is moved by the reducer of a router, so that no optimizer may.
 *
 * @param router The router.
 * @returns A predicate over paths, or null for a router without state.
 */
export function isReducedBy(router: TrainConfig["router"]): ((path: string, leaf: Tensor) => boolean) | null {
  const { reduced } = ROUTERS[router];
  return reduced === undefined ? null : (path) => path.endsWith(`.body.router.${reduced}`);
}

/** Makes a reducer of all blocks of one for a router's parameters of type R. */
function mapRouters<R>(reduce: (params: R, stats: readonly PlanStats[], layer: number) => R): Reducer {
  return (params, stats) => ({
    ...params,
    blocks: params.blocks.map((block, layer) => {
      // The body was built for this router, which the type of a model of any router does not know.
      const body = block.body as { readonly router: R };
      return { ...block, body: { ...body, router: reduce(body.router, stats, layer) } };
    }),
  });
}
