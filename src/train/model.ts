/**
 * From a configuration to a model: a byte-level transformer whose blocks are dense or mixtures of experts.
 *
 * @module
 */
import {
  type BlockBody,
  feedForward,
  hashRouter,
  leavesOf,
  moe,
  switchRouter,
  topKRouter,
  transformerLm,
  type TransformerLmLayer,
  type TransformerLmParams,
} from "../../mod.ts";
import type { TrainConfig } from "./config.ts";
import type { RouterName } from "./presets.ts";

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
  /** Those that one byte uses: of the experts only the ones it visits. */
  readonly activeParameters: number;
}

/** Factors of the routers' auxiliary losses, as published for Switch (balance) and ST-MoE (z-loss). */
const AUX_COEFFICIENTS: Readonly<Record<string, number>> = { balance: 0.01, zLoss: 0.001 };

/** What both bodies take: a dense layer and a mixture in which a byte visits one expert cost the same. */
interface BodySizes {
  readonly width: number;
  readonly inner: number;
  readonly outputScale: number;
}

const BODIES: Readonly<Record<RouterName, (sizes: BodySizes, config: ModelConfig) => BlockBody<object>>> = {
  dense: (sizes) => feedForward(sizes),
  // Nothing is dropped: `execute` takes experts of any load at the price of an even one, and without a capacity the
  // prediction of a byte depends on the bytes before it alone, in a batch as in generation.
  switch: (sizes, { width, experts }) =>
    moe({
      ...sizes,
      router: switchRouter({ width, experts, capacityFactor: Infinity, evalCapacityFactor: Infinity }),
    }),
  topk: (sizes, { width, experts, topk }) =>
    moe({ ...sizes, router: topKRouter({ width, experts, k: topk, weights: "normalized" }) }),
  hash: (sizes, { experts }) => moe({ ...sizes, router: hashRouter({ experts, vocabulary: VOCABULARY }) }),
};

/**
 * Builds the model of a configuration.
 *
 * @param config The sizes and the router.
 * @returns The model.
 */
export function buildModel(config: ModelConfig): Model {
  const { router, width, layers, heads, expertWidth } = config;
  // What attention does by default: the residual sum of all layers starts at the size of one.
  const sizes = { width, inner: expertWidth, outputScale: 1 / (2 * layers) };
  return transformerLm({
    vocabulary: VOCABULARY,
    width,
    layers,
    heads,
    body: (): BlockBody<object> => BODIES[router](sizes, config),
  });
}

/** The factors of the auxiliary losses that a router has; a hash has none to learn from. */
export function auxCoefficients(router: RouterName): Readonly<Record<string, number>> {
  return router === "switch" || router === "topk" ? AUX_COEFFICIENTS : {};
}

/**
 * Counts the parameters of a model.
 *
 * @param config The sizes and the router.
 * @param params Parameters of that model.
 * @returns The counts; tables of integers are not parameters.
 */
export function countParameters({ experts, topk }: ModelConfig, params: ModelParams): ParameterCount {
  const floats = leavesOf(params).filter(([, leaf]) => leaf.dtype !== "u32");
  const total = (kept: typeof floats): number => kept.reduce((sum, [, leaf]) => sum + leaf.size, 0);
  const parameters = total(floats);
  const inExperts = total(floats.filter(([path]) => path.includes(".experts.")));
  return { parameters, activeParameters: parameters - inExperts * (1 - topk / experts) };
}
