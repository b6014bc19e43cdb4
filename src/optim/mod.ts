/**
 * Optimizers as chains of gradient transforms, schedules, and the training step and loop that own the state.
 *
 * Everything is a pure function of trees of tensors. A step that is jitted once serves the whole run, because counts
 * and rates are tensors.
 *
 * @module
 */
export { accumulate, type AccumulateState, inMicroBatches } from "./accumulate.ts";
export {
  adafactor,
  type AdafactorOptions,
  clipByBlockRms,
  type FactoredRmsOptions,
  type FactoredRmsState,
  scaleByFactoredRms,
  scaleByParameterRms,
} from "./adafactor.ts";
export {
  adam,
  type AdamMomentOptions,
  type AdamOptions,
  type AdamState,
  adamw,
  type AdamWOptions,
  scaleByAdam,
} from "./adam.ts";
export { clipByGlobalNorm, globalNorm } from "./clip.ts";
export type { LeafMap } from "./leaves.ts";
export {
  fixedLossScale,
  type LossScale,
  lossScale,
  type LossScaleMetrics,
  type LossScaleOptions,
  type LossScaleState,
} from "./loss_scale.ts";
export { freeze, masked } from "./mask.ts";
export {
  type FloatType,
  isGateOrNorm,
  mixedPrecision,
  type MixedPrecisionOptions,
  type PrecisionPolicy,
} from "./mixed_precision.ts";
export {
  addDecayedWeights,
  type CountState,
  type DecayOptions,
  type LeafPredicate,
  movingAverage,
  scale,
  scaleByLearningRate,
  scaleBySchedule,
  trace,
  type TraceOptions,
  type TraceState,
} from "./scale.ts";
export {
  constantSchedule,
  cosineSchedule,
  type CosineScheduleOptions,
  exponentialSchedule,
  type ExponentialScheduleOptions,
  inverseSqrtSchedule,
  type InverseSqrtScheduleOptions,
  linearSchedule,
  type LinearScheduleOptions,
  relativeStepSchedule,
  type RelativeStepScheduleOptions,
  type Schedule,
} from "./schedules.ts";
export { sgd, type SgdOptions } from "./sgd.ts";
export { type MetricsRow, train, type TrainOptions } from "./train.ts";
export {
  type Measurable,
  type Metrics,
  type StepContext,
  type StepMetrics,
  type TrainState,
  trainState,
  type TrainStateOptions,
  type TrainStep,
  trainStep,
  type TrainStepOptions,
} from "./train_step.ts";
export { applyUpdates, chain, type GradientTransform, type OptimizerState } from "./transform.ts";
export {
  inTwoPasses,
  type Prediction,
  type TwoPassLoss,
  type TwoPassMetrics,
  type TwoPassOptions,
} from "./two_passes.ts";
export { lazyAdam, type LazyAdamState, scaleByLazyAdam } from "./lazy_adam.ts";
