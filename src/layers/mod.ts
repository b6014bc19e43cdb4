/**
 * Layers: pairs of pure functions, `init` for parameters and `apply`. Parameters are plain trees of tensors.
 *
 * @module
 */
export { type Layer, type LayerContext } from "./layer.ts";
export {
  type AttentionCache,
  type CachedOutput,
  causalSelfAttention,
  type CausalSelfAttentionLayer,
  type CausalSelfAttentionOptions,
  type CausalSelfAttentionParams,
} from "./causal_self_attention.ts";
export { dropoutLayer, type DropoutLayerOptions, type NoParams } from "./dropout.ts";
export { embedding, type EmbeddingLayer, type EmbeddingOptions, type EmbeddingParams } from "./embedding.ts";
export { type Activation, feedForward, type FeedForwardOptions, type FeedForwardParams } from "./feed_forward.ts";
export { fanIn, type FanInOptions } from "./initializers.ts";
export { type LanguageModelLoss, languageModelLoss, type LanguageModelLossOptions } from "./language_model_loss.ts";
export { layerNormLayer, type LayerNormLayerOptions, type LayerNormParams } from "./layer_norm.ts";
export { linear, type LinearOptions, type LinearParams } from "./linear.ts";
export {
  type ExpertDtype,
  moe,
  type MoeInput,
  type MoeLayer,
  type MoeOptions,
  type MoeOutput,
  type MoeParams,
} from "./moe.ts";
export { type NormKind, type NormParams } from "./norm_kind.ts";
export { rmsNormLayer, type RmsNormLayerOptions, type RmsNormParams } from "./rms_norm.ts";
export { rotary, type RotaryOptions } from "./rotary.ts";
export { sequential } from "./sequential.ts";
export {
  type BlockBody,
  type BlockOutput,
  type CachedBlockOutput,
  type DenseBody,
  type RoutedBody,
  transformerBlock,
  type TransformerBlockLayer,
  type TransformerBlockOptions,
  type TransformerBlockParams,
} from "./transformer_block.ts";
export {
  type BodyParams,
  type DecodeOutput,
  type DecodeState,
  type PrefillInput,
  transformerLm,
  type TransformerLmInput,
  type TransformerLmLayer,
  type TransformerLmOptions,
  type TransformerLmOutput,
  type TransformerLmParams,
} from "./transformer_lm.ts";
export { multiHash, type MultiHashLayer, type MultiHashOptions, type MultiHashParams } from "./multi_hash.ts";
export { sharedExperts, type SharedExpertsOptions, type SharedExpertsParams } from "./shared_experts.ts";
export { smear, type SmearLayer, type SmearOptions, type SmearOutput, type SmearParams } from "./smear.ts";
export { softMoe, type SoftMoeLayer, type SoftMoeOptions, type SoftMoeParams } from "./soft_moe.ts";
export { altUp, type AltUpOptions, type AltUpParams } from "./alt_up.ts";
export { type Hidden } from "./hidden.ts";
export {
  type MemoryLayer,
  memoryLayer,
  type MemoryLayerOptions,
  type MemoryLayerParams,
  type MemoryUse,
} from "./memory.ts";
export { projectedAltUp, type ProjectedAltUpOptions, type ProjectedAltUpParams } from "./projected_alt_up.ts";
export { recycledAltUp, type RecycledAltUpOptions } from "./recycled_alt_up.ts";
export { sequenceAltUp, type SequenceAltUpOptions, type SequenceAltUpParams } from "./sequence_alt_up.ts";
export { tokenAltUp, type TokenAltUpOptions, type TokenAltUpParams } from "./token_alt_up.ts";
export {
  type ProductKeyLookup,
  productKeyMemory,
  type ProductKeyMemoryLayer,
  type ProductKeyMemoryOptions,
  type ProductKeyMemoryParams,
} from "./product_key_memory.ts";
export {
  advanceQueryStatistics,
  type BatchNormParams,
  type ProductKeyQueryParams,
  type QueryNorm,
  type QueryStatistics,
} from "./product_key_query.ts";
export { keepGreatest, topKFeedForward, type TopKFeedForwardOptions } from "./top_k_feed_forward.ts";
