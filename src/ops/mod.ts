/**
 * Every op: functions from tensors to tensors. They build the DAG and compute nothing; see {@linkcode Tensor}.
 *
 * @module
 */
export { type TensorLike } from "./operand.ts";
export { gelu, type GeluOptions, relu, sigmoid, silu, softplus } from "./activations.ts";
export {
  type AttentionLayout,
  type AttentionOptions,
  cachedAttention,
  causalAttention,
  type CausalAttentionOptions,
} from "./attention.ts";
export { add, atan2, div, maximum, minimum, mul, remainder, sub } from "./binary.ts";
export { bitwiseAnd, bitwiseNot, bitwiseOr, bitwiseXor, shiftLeft, shiftRight } from "./bitwise.ts";
export { cast } from "./cast.ts";
export { type HalfType, roundTo } from "./round_to.ts";
export {
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  logicalNot,
  logicalOr,
  logicalXor,
  notEqual,
} from "./compare.ts";
export { concat, splitAxis, stack } from "./concat.ts";
export {
  type ConsistencyLoss,
  consistencyLoss,
  type ConsistencyLossOptions,
  symmetricDivergence,
} from "./consistency_loss.ts";
export {
  arange,
  type CreationOptions,
  eye,
  full,
  linspace,
  type Nested,
  ones,
  scalar,
  tensor,
  type TensorOptions,
  zeros,
} from "./creation.ts";
export { cumsum, type CumsumOptions } from "./cumsum.ts";
export { dropout } from "./dropout.ts";
export { einsum } from "./einsum.ts";
export { erf, erfInv } from "./error_function.ts";
export { all, any, argmax, argmin, type ArgOptions, max, min, type ReduceOptions } from "./extremum.ts";
export { gather, oneHot, take, takeAlong } from "./gather.ts";
export { group, type Grouping } from "./group.ts";
export {
  crossEntropy,
  type CrossEntropyOptions,
  meanSquaredError,
  type MeanSquaredErrorOptions,
  type Reduction,
} from "./losses.ts";
export { matmul, type MatmulOptions } from "./matmul.ts";
export { layerNorm, type LayerNormOptions, rmsNorm, type RmsNormOptions } from "./norm.ts";
export { pow } from "./power.ts";
export {
  bits,
  foldIn,
  key,
  keyData,
  keyFromData,
  type KeyTuples,
  split,
  splitBatch,
  type SplitKeys,
} from "./random.ts";
export { logSumExp, mean, prod, sum, variance, type VarianceOptions } from "./reduce.ts";
export {
  bernoulli,
  type BernoulliOptions,
  categorical,
  type CategoricalOptions,
  gumbel,
  normal,
  permutation,
  randomInt,
  type RandomIntOptions,
  type SamplerOptions,
  truncatedNormal,
  type TruncatedNormalOptions,
  uniform,
  type UniformOptions,
} from "./samplers.ts";
export { scatterAdd, segmentSum } from "./scatter.ts";
export { clamp, where } from "./select.ts";
export { flip, pad, type PadOptions, type PadWidth, slice, sliceAxis, type SliceRange } from "./slice.ts";
export { logSoftmax, softmax, type SoftmaxOptions } from "./softmax.ts";
export { argsort, sort, type SortOptions } from "./sort.ts";
export { type TopK, topK } from "./top_k.ts";
export { tril, triu } from "./triangle.ts";
export {
  abs,
  ceil,
  cos,
  exp,
  expm1,
  floor,
  isFinite,
  isNaN,
  log,
  log1p,
  neg,
  reciprocal,
  round,
  rsqrt,
  sign,
  sin,
  sqrt,
  square,
  tan,
  tanh,
} from "./unary.ts";
export {
  type AxesOptions,
  type AxisOptions,
  broadcastTo,
  moveAxis,
  reshape,
  squeeze,
  swapAxes,
  transpose,
  unsqueeze,
} from "./view.ts";
