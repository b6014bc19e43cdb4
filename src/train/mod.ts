/**
 * The training program as functions: configuration, data, the run itself, its files, generation and the report. The
 * scripts behind `deno task train` and its siblings add a command line to them.
 *
 * @module
 */
export { gzipBitsPerByte, orderThreeBitsPerByte } from "./baselines.ts";
export {
  type BatchOptions,
  trainingBatch,
  validationBatches,
  type ValidationOptions,
  type Windows,
} from "./batches.ts";
export { type Checkpoint, readCheckpoint, type StoredCheckpoint, writeCheckpoint } from "./checkpoint.ts";
export { trainInChild } from "./compare/child.ts";
export { runComparison, type RunComparisonOptions } from "./compare/compare.ts";
export type { Budget, Comparison, ComparisonRequest, Matching, Variant, VariantSpec } from "./compare/comparison.ts";
export type {
  ComparisonEvent,
  ComparisonStartEvent,
  ReportEvent,
  RunBeginEvent,
  RunCrashedEvent,
  RunFailedEvent,
  RunName,
  RunToldEvent,
} from "./compare/events.ts";
export { planComparison } from "./compare/plan.ts";
export type { Execute, ExecuteHooks, ProcessEnd, RunnerOptions } from "./compare/runner.ts";
export { writeComparisonReport } from "./compare/write_report.ts";
export { type ConfigSources, type OptionName, resolveConfig, type TrainConfig } from "./config.ts";
export { formatSavedConfig, loadConfig, readSavedConfig } from "./config_file.ts";
export { type Corpus, expectLongEnough, loadCorpus, splitDocuments, splitText } from "./data.ts";
export { diagnose, type Diagnosis } from "./diagnose.ts";
export { type EvaluationOptions, type Evaluator, evaluatorOf } from "./evaluate.ts";
export type {
  CheckpointEvent,
  EndEvent,
  InterruptedEvent,
  MetricsEvent,
  ProfileEvent,
  RunEvent,
  StartEvent,
} from "./events.ts";
export { generate, type GenerateOptions, generateText } from "./generate.ts";
export { type LoopOptions, runLoop } from "./loop.ts";
export { type Baseline } from "./loss_chart.ts";
export { type Measurement, measureRun } from "./measure.ts";
export { type MetricsRow, type MetricsWriter, openMetrics, readMetrics } from "./metrics.ts";
export {
  buildModel,
  countParameters,
  type Model,
  type ModelConfig,
  type ModelParams,
  type ParameterCount,
} from "./model.ts";
export { type FileContent } from "./option_sources.ts";
export {
  type Batch,
  buildOptimizer,
  buildStep,
  type GradientMetrics,
  learningRateSchedule,
  type LossMetrics,
  type RunMetrics,
  type RunState,
  type RunStep,
} from "./objective.ts";
export type { TableSource } from "./hash_tables.ts";
export { loadTableSource } from "./table_source.ts";
export type { AltUpForm, LookupName, ScoreName, TableName, VariantOptionName, VariantOptions } from "./variants.ts";
export { type Preset, type PresetName, PRESETS, type RouterName } from "./presets.ts";
export { type RunEnd, type RunOptions, runTraining } from "./program.ts";
export { renderReport, type ReportInput, type RunSummary } from "./report.ts";
export { loadTrained, restoreRun, type RunPoint, saveRun, startRun, type TrainedModel } from "./run_files.ts";
export {
  decodeSafetensors,
  encodeSafetensors,
  type NamedArray,
  type SafetensorsDType,
  type SafetensorsFile,
} from "./safetensors.ts";
export { type DecodeOptions, decodeTree, encodeTrees } from "./tree_files.ts";
