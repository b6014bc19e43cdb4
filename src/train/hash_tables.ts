/**
 * The tables of router `hash`, by the name that the configuration gives them.
 *
 * @module
 */
import { ConfigError, hashRouter, type HashRouterParams, type Router, type Tensor } from "../../mod.ts";
import type { VariantOptions } from "./variants.ts";

/**
 * What a table is made from: how often each byte occurs in the text, or the embeddings of a trained model, [bytes, width].
 * `"checkpoint"` where parameters are about to be read from one: they hold the table, so only its shape matters.
 */
export type TableSource =
  | { readonly counts: readonly number[] }
  | { readonly embeddings: Tensor }
  | "checkpoint";

/** What a table depends on. */
export interface HashOptions extends Pick<VariantOptions, "table"> {
  /** Number of experts. */
  readonly experts: number;
  /** Number of token ids. */
  readonly vocabulary: number;
}

/**
 * Builds the router.
 *
 * @param options Its table and sizes.
 * @param source What the table is made from; null for tables that need nothing.
 * @returns The router.
 * @throws {ConfigError} If the table needs another source.
 */
export function buildHashRouter(options: HashOptions, source: TableSource | null): Router<HashRouterParams> {
  const { table, experts, vocabulary } = options;
  const sizes = { experts, vocabulary };
  switch (table) {
    case null:
    case "random":
      return hashRouter(sizes);
    case "hashed":
      return hashRouter({ ...sizes, table });
    case "previous":
    case "bigram":
    case "position":
    case "next":
      return hashRouter({ ...sizes, reads: table });
    default:
      if (source === "checkpoint") return hashRouter({ ...sizes, table: "hashed" });
      if (table === "balanced" && source !== null && "counts" in source) {
        return hashRouter({ ...sizes, table, ...source });
      }
      if (table !== "balanced" && source !== null && "embeddings" in source) {
        return hashRouter({ ...sizes, table, ...source });
      }
      throw new ConfigError("config/table", {
        summary: `Cannot build router hash: a ${table} table is made from ${
          table === "balanced" ? "counts of the text's bytes" : "embeddings of a trained model"
        }`,
        fix: "pass what loadTableSource returns, or checkpoint where parameters are read from one",
        details: { table },
      });
  }
}
