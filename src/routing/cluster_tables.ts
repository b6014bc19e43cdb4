/**
 * Tables of experts by token id that are made from the embeddings of a trained dense model: like tokens together, or
 * like tokens apart.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { remainder } from "../ops/binary.ts";
import { group } from "../ops/group.ts";
import { kMeans } from "./k_means.ts";

/**
 * Assigns ids to experts by k-means over their embeddings with one cluster for each expert: like tokens meet one expert.
 *
 * @param key Draws the first centroids.
 * @param embeddings Float [V, D].
 * @param experts Number of experts, at most V.
 * @returns Expert of each id, u32[V]; loads are as uneven as the clusters.
 * @throws {ConfigError} If there are more experts than ids.
 *
 * Source: Roller et al. 2021.
 */
export function clusteredHashTable(key: Key, embeddings: Tensor, experts: number): Tensor {
  return kMeans(key, embeddings, { clusters: experts }).nearest;
}

/**
 * Deals the ids of each cluster of {@linkcode clusteredHashTable} out over all experts: like tokens meet different ones.
 *
 * The ids are dealt in turn, cluster by cluster, so the numbers of ids that two experts get from one cluster, or of all
 * ids, differ by at most 1.
 *
 * @param key Draws the first centroids.
 * @param embeddings Float [V, D].
 * @param experts Number of experts and of clusters, at most V.
 * @returns Expert of each id, u32[V].
 * @throws {ConfigError} If there are more experts than ids.
 *
 * @example Two pairs of like tokens, each pair over both experts
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { dispersedHashTable, init, key, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const table = await dispersedHashTable(key(0), tensor([[0, 0], [9, 9], [0, 1], [9, 8]]), 2).data();
 * assertEquals([...table], [0, 0, 1, 1]);
 * ```
 *
 * Source: Roller et al. 2021.
 */
export function dispersedHashTable(key: Key, embeddings: Tensor, experts: number): Tensor {
  const { nearest } = kMeans(key, embeddings, { clusters: experts });
  return remainder(group(nearest, experts).rank, experts);
}
