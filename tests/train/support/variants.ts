/**
 * The variants of the routers that the comparison of the papers asks for, and every option of every router at least once.
 *
 * @module
 */
import { tensor } from "../../../mod.ts";
import { resolveConfig, type TrainConfig } from "../../../src/train/config.ts";
import type { TableSource } from "../../../src/train/hash_tables.ts";
import type { RouterName } from "../../../src/train/routers.ts";
import { type Flags, smallFlags } from "./runs.ts";

/** A router and its own options. */
export interface Variant {
  readonly router: RouterName;
  readonly flags: Flags;
}

/** What is in a folder of a dense run, for a configuration that only names one. */
export const SOME_RUN = "runs/dense";

/** The variants, which are all causal. */
export const VARIANTS: readonly Variant[] = [
  ...["hashed", "balanced", "previous", "bigram", "position"].map((table) => variant("hash", { table })),
  ...["clustered", "dispersed"].map((table) => variant("hash", { table, "table-from": SOME_RUN })),
  variant("switch", { capacity: "1.25", "min-capacity": "1", jitter: "0.1", "input-dropout": "0.1" }),
  variant("switch", { "eval-capacity": "1", selection: "sampled", aux: "0", "z-loss": "0" }),
  variant("topk", { capacity: "1", score: "sigmoid", priority: "token", aux: "0.1" }),
  variant("switch", { "expert-dtype": "bf16", "inner-dropout": "0.1" }),
  variant("thor", { consistency: "0" }),
  variant("thor", { consistency: "5", draw: "distinct", inference: "token" }),
  variant("thor", { inference: "ensemble", dropout: "0.1" }),
  variant("dense", { consistency: "5", dropout: "0.1" }),
  variant("sigma", { score: "softmax-before", "expert-dropout": "0.1" }),
  variant("sigma", { score: "softmax-after", aux: "0" }),
  variant("topk-activation", { k: "3" }),
  variant("pkm", { score: "softmax", k: "2" }),
  variant("memory", { lookup: "lsh", rows: "64" }),
  variant("memory", { lookup: "cross-polytope", consume: "concat" }),
  variant("memory", { lookup: "softmax", rows: "64", k: "2", aux: "0.1" }),
  variant("memory", { consume: "experts", rank: "4" }),
  variant("deepseek", { "z-loss": "0.001" }),
  variant("altup", { altup: "full", streams: "3", "altup-block": "same" }),
  variant("altup", { altup: "recycled", streams: "3" }),
  variant("altup", { altup: "sequence", layers: "4" }),
  variant("altup", { altup: "sequence", layers: "3", stride: "3" }),
];

/** Routing that sees later bytes, in training or always. */
export const NON_CAUSAL: readonly Variant[] = [
  variant("expert-choice", {}),
  variant("soft-moe", {}),
  variant("smear", {}),
  variant("hash", { table: "next" }),
  variant("switch", { capacity: "1", retries: "1" }),
  variant("topk", { capacity: "1", priority: "probability" }),
];

function variant(router: RouterName, flags: Flags): Variant {
  return { router, flags };
}

/** A variant's name for a test. */
export function nameOf({ router, flags }: Variant): string {
  return [router, ...Object.entries(flags).map(([name, value]) => `${name} ${value}`)].join(", ");
}

/** A variant's configuration, of a small model. */
export function configOf({ router, flags }: Variant): TrainConfig {
  return resolveConfig({ adapter: "software", flags: { ...smallFlags(router), ...flags } });
}

/** What a variant's table is made from, made up. */
export function sourceOf({ table }: TrainConfig): TableSource | null {
  const counts = Array.from({ length: 256 }, (_, id) => (id * 37) % 101);
  if (table === "balanced") return { counts };
  if (table !== "clustered" && table !== "dispersed") return null;
  const values = Float32Array.from({ length: 256 * 4 }, (_, i) => Math.sin(i * i));
  return { embeddings: tensor(values, { shape: [256, 4] }) };
}
