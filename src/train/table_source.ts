/**
 * Reading what some tables of router `hash` are made from: the text, or a run of a dense model.
 *
 * @module
 */
import { ConfigError } from "../../mod.ts";
import type { TrainConfig } from "./config.ts";
import { readSavedConfig } from "./config_file.ts";
import type { TableSource } from "./hash_tables.ts";
import { buildModel, VOCABULARY } from "./model.ts";
import { loadTrained } from "./run_files.ts";

/**
 * Finds what a configuration's table is made from.
 *
 * @param config The table, and the run whose embeddings it needs.
 * @param text The text to train on.
 * @returns The source, or null for a table that needs none.
 * @throws {CheckpointError} If the folder of that run has no whole checkpoint.
 * @throws {ConfigError} If the run is not of a dense model.
 */
export async function loadTableSource(
  { router, table, tableFrom }: Pick<TrainConfig, "router" | "table" | "tableFrom">,
  text: Uint8Array,
): Promise<TableSource | null> {
  if (router !== "hash") return null;
  if (table === "balanced") return { counts: countBytes(text) };
  if ((table !== "clustered" && table !== "dispersed") || tableFrom === null) return null;
  const config = await readSavedConfig(tableFrom);
  if (config.router !== "dense") {
    throw new ConfigError("config/table-from", {
      summary: `Cannot make a ${table} table from ${tableFrom}: its router is ${config.router}, it should be dense`,
      fix: "pass a folder that a run with --router dense wrote to --table-from",
      details: { tableFrom, router: config.router },
    });
  }
  const { params } = await loadTrained(tableFrom, buildModel(config));
  return { embeddings: params.embedding.weight };
}

function countBytes(text: Uint8Array): readonly number[] {
  const counts = new Array<number>(VOCABULARY).fill(0);
  for (const byte of text) counts[byte]!++;
  return counts;
}
