/**
 * From a configuration to a model: a byte-level transformer whose blocks have the body of the configured router.
 *
 * @module
 */
import {
  type BlockBody,
  expectCausal,
  leavesOf,
  transformerLm,
  type TransformerLmLayer,
  type TransformerLmParams,
} from "../../mod.ts";
import { alternatingLm } from "./alternating_lm.ts";
import type { TrainConfig } from "./config.ts";
import { type BodySizes, buildBody, denseBody, sharedLeaves } from "./router_bodies.ts";
import { type RouterName, ROUTERS } from "./routers.ts";

/** Bytes are the tokens. */
export const VOCABULARY = 256;

/** Parameters of a model of the program. Which body its blocks have depends on the router. */
export type ModelParams = TransformerLmParams<object>;

/** A model of the program. */
export type Model = TransformerLmLayer<object>;

/** What the shapes of a model depend on. */
export type ModelConfig = Pick<
  TrainConfig,
  "router" | "experts" | "topk" | "width" | "layers" | "heads" | "expertWidth"
>;

/** How many parameters a model has. */
export interface ParameterCount {
  /** All of them. */
  readonly parameters: number;
  /** Those that one byte uses: of experts only the ones it visits, of a memory only the rows it reads. */
  readonly activeParameters: number;
}

/**
 * Builds the model of a configuration.
 *
 * @param config The sizes and the router.
 * @returns The model.
 * @throws {ConfigError} If the router is not causal, or cannot have these sizes.
 */
export function buildModel(config: ModelConfig): Model {
  const { router, width, layers, heads } = config;
  if (router === "altup") {
    return alternatingLm({ vocabulary: VOCABULARY, width, layers, heads, body: () => denseBody(sizesOf(config)) });
  }
  return transformerLm({
    vocabulary: VOCABULARY,
    width,
    layers,
    heads,
    body: (): BlockBody<object> => {
      const body = buildBody(router, sizesOf(config));
      if ("router" in body) expectCausal("a language model", { name: body.name, causal: body.router.causal });
      return body;
    },
  });
}

/** The factors of the auxiliary losses that a router has; a hash has none to learn from. */
export function auxCoefficients(router: RouterName): Readonly<Record<string, number>> {
  return ROUTERS[router].coefficients ?? {};
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
  const { leaves, share } = sharedLeaves(config.router, sizesOf(config));
  const shared = total(floats.filter(([path]) => leaves.test(path)));
  return { parameters, activeParameters: parameters - shared * (1 - share) };
}

function sizesOf({ experts, topk, width, layers, expertWidth }: ModelConfig): BodySizes {
  return { vocabulary: VOCABULARY, experts, topk, width, layers, expertWidth };
}
