/**
 * From a configuration to a model: a byte-level transformer whose blocks have the body of the configured router.
 *
 * @module
 */
import { leavesOf, transformerLm, type TransformerLmLayer, type TransformerLmParams } from "../../mod.ts";
import { alternatingLm, type AlternatingLmOptions } from "./alternating_lm.ts";
import type { TrainConfig } from "./config.ts";
import type { TableSource } from "./hash_tables.ts";
import { inPrecision } from "./precision.ts";
import { type BodyOptions, buildBody, denseBody } from "./router_bodies.ts";
import { sharedLeaves } from "./shared_leaves.ts";
import type { VariantOptionName } from "./variants.ts";

/** Bytes are the tokens. */
export const VOCABULARY = 256;

/** Parameters of a model of the program. Which body its blocks have depends on the router. */
export type ModelParams = TransformerLmParams<object>;

/** A model of the program. */
export type Model = TransformerLmLayer<object>;

/** What the shapes of a model depend on, and whether its blocks are computed again for their gradients. */
export type ModelConfig = Pick<
  TrainConfig,
  | "router"
  | "experts"
  | "topk"
  | "width"
  | "layers"
  | "heads"
  | "expertWidth"
  | "allowNonCausal"
  | "precision"
  | "remat"
  | VariantOptionName
>;

/** How many parameters a model has. */
export interface ParameterCount {
  /** All of them. */
  readonly parameters: number;
  /**
   * Those that one byte uses: of experts only the ones it visits, of a memory only the rows it reads, of layers that
   * compute only some positions the share of these.
   */
  readonly activeParameters: number;
}

/**
 * Builds the model of a configuration.
 *
 * @param config The sizes, the router and its options, and what to compute in.
 * @param source What the table of router `hash` is made from, if it is balanced, clustered or dispersed.
 * @returns The model.
 * @throws {ConfigError} If the router is not causal and that is not allowed, or cannot have these sizes.
 */
export function buildModel(config: ModelConfig, source: TableSource | null = null): Model {
  return inPrecision(buildWideModel(config, source), config.precision);
}

/** The model in f32. */
function buildWideModel(config: ModelConfig, source: TableSource | null): Model {
  const { router, width, layers, heads, dropout, allowNonCausal, remat } = config;
  const sizes = { vocabulary: VOCABULARY, width, layers, heads, remat };
  const options: BodyOptions = { ...config, vocabulary: VOCABULARY };
  if (router === "altup") return alternatingLm({ ...sizes, ...formOf(config), body: () => denseBody(options) });
  return transformerLm({
    ...sizes,
    dropout: dropout ?? 0,
    nonCausal: allowNonCausal ? "warned" : "refused",
    body: () => buildBody(router, options, source),
  });
}

/**
 * Counts the parameters of a model.
 *
 * @param config The sizes and the router.
 * @param params Parameters of that model.
 * @returns The counts; tables of integers are not parameters.
 */
export function countParameters(config: ModelConfig, params: ModelParams): ParameterCount {
  const floats = leavesOf(params).filter(([, leaf]) => leaf.dtype !== "u32");
  const total = (kept: typeof floats): number => kept.reduce((sum, [, leaf]) => sum + leaf.size, 0);
  const parameters = total(floats);
  const { leaves, share } = sharedLeaves(config.router, { ...config, vocabulary: VOCABULARY });
  const shared = total(floats.filter(([path]) => leaves.test(path)));
  return { parameters, activeParameters: parameters - shared * (1 - share) };
}

function formOf(
  { altup, altupBlock, streams, stride }: ModelConfig,
): Pick<AlternatingLmOptions, "form" | "selection" | "blocks" | "stride"> {
  return {
    form: altup ?? "recycled",
    ...(altupBlock === null ? {} : { selection: altupBlock }),
    ...(streams === null ? {} : { blocks: streams }),
    ...(stride === null ? {} : { stride }),
  };
}
