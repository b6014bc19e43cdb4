/**
 * What is minimized and how: the loss with its measurements, the learning rate and the optimizer.
 *
 * @module
 */
import {
  adamw,
  add,
  chain,
  clipByGlobalNorm,
  cosineSchedule,
  type DispatchPlan,
  freeze,
  globalNorm,
  type GradientTransform,
  inTwoPasses,
  languageModelLoss,
  type Measurable,
  type PlanStats,
  reshape,
  scalar,
  type Schedule,
  sliceAxis,
  stack,
  type StepContext,
  type StepMetrics,
  sum,
  type Tensor,
  type TrainState,
  type TrainStep,
  trainStep,
  type TransformerLmOutput,
} from "../../mod.ts";
import { auxCoefficients } from "./coefficients.ts";
import type { TrainConfig } from "./config.ts";
import type { Model, ModelParams } from "./model.ts";
import { lossScaleFor } from "./precision.ts";
import { isReducedBy, reducerOf } from "./reducers.ts";
import { ROUTERS } from "./routers.ts";

/** A batch of windows. */
export interface Batch {
  /** Bytes, u32[B, S + 1]: each but the first is predicted from those before it. */
  readonly ids: Tensor;
}

/** What the loss measures on the way. */
export interface LossMetrics {
  /** Mean cross-entropy in nats, without auxiliary losses. */
  readonly crossEntropy: Tensor;
  /** Mean divergence of what two passes predict, in nats; absent where there is one. */
  readonly divergence?: Tensor;
  /** Learning rate of the step. */
  readonly learningRate: Tensor;
  /** How experts are used; absent where none are chosen. */
  readonly routing?: {
    /** Assignments that each expert received, in all segments and both passes, u32[layers, experts]. */
    readonly load: Tensor;
    /** Assignments that found no room, u32[layers]. */
    readonly dropped: Tensor;
  };
  /** Statistics of each layer's plan, where the router has a reducer that looks at them. */
  readonly stats?: readonly PlanStats[];
}

/** What is measured about the gradient. */
export interface GradientMetrics {
  /** Euclidean norm of the whole gradient before clipping. */
  readonly gradientNorm: Tensor;
}

/** The state of a run on the device. */
export type RunState = TrainState<ModelParams>;

/** One jitted step of a run, which takes over the state's buffers. */
export type RunStep = TrainStep<ModelParams, Batch, RunMetrics>;

/** Everything measured at a step. */
export type RunMetrics = StepMetrics<LossMetrics, GradientMetrics>;

const WEIGHT_DECAY = 0.1;
const MAX_GRADIENT_NORM = 1;
const MAX_WARMUP_STEPS = 100;
const WARMUP_SHARE = 0.1;
const FINAL_SHARE_OF_RATE = 0.05;

/** The inputs and the targets of windows, u32[B, S] each. */
export function inputsAndTargets(ids: Tensor): readonly [inputs: Tensor, targets: Tensor] {
  return [sliceAxis(ids, 1, { stop: -1 }), sliceAxis(ids, 1, { start: 1 })];
}

/**
 * The learning rate: a straight rise over the first tenth of the steps (at most 100), then half a cosine down to a
 * twentieth. It depends on the configuration and the step alone, so a resumed run goes on with the same rates.
 *
 * @param config Its steps and its peak.
 * @returns The rate as a function of the number of finished steps.
 */
export function learningRateSchedule({ steps, lr }: Pick<TrainConfig, "steps" | "lr">): Schedule {
  const warmupSteps = Math.min(MAX_WARMUP_STEPS, Math.floor(steps * WARMUP_SHARE));
  const schedule = cosineSchedule({ peak: lr, steps, warmupSteps, finalFraction: FINAL_SHARE_OF_RATE });
  // Counted from 1: at 0 the rise would begin with a step of length zero.
  return (step) => schedule(add(step, 1));
}

/**
 * The optimizer: gradients clipped to norm 1, then AdamW that decays matrices alone. What the router's reducer moves is
 * frozen.
 *
 * @param config Its steps, its peak learning rate and its router.
 * @returns The chain.
 */
export function buildOptimizer(config: Pick<TrainConfig, "steps" | "lr" | "router">): GradientTransform {
  const optimizer = chain(
    clipByGlobalNorm(MAX_GRADIENT_NORM),
    adamw({
      learningRate: learningRateSchedule(config),
      beta1: 0.9,
      beta2: 0.95,
      weightDecay: WEIGHT_DECAY,
      mask: isDecayed,
    }),
  ) as GradientTransform;
  const isReduced = isReducedBy(config.router);
  return isReduced === null ? optimizer : freeze(optimizer, isReduced);
}

/** What is looked up row by row, or compared with: most of it has no gradient at a step and would only shrink. */
const TABLES = /\.(rows|values|keys|directions)$/;

/** Matrices decay; norms, biases (of experts stacked to a matrix too), embeddings and tables do not. */
function isDecayed(path: string, leaf: Tensor): boolean {
  return leaf.shape.length >= 2 && !/bias$/i.test(path) && !path.includes(".embedding.") && !TABLES.test(path);
}

/** How experts are used, or nothing where nobody chooses any. A memory's rows are too many to look at. */
function measureRouting(plans: readonly DispatchPlan[], { router, experts }: TrainConfig): LossMetrics["routing"] {
  const { visits, mixes = false } = ROUTERS[router];
  if (plans.length === 0 || visits === "none" || mixes) return undefined;
  return {
    load: stack(plans.map(({ stats, experts: all }) =>
      // Segments have experts of the same numbers.
      all === experts ? stats.load : sum(reshape(stats.load, [all / experts, experts]), { axis: 0 })
    )),
    // An expert that a byte leaves out is no drop where it visits as many as it needs.
    dropped: stack(plans.map(({ stats }) => router === "relu" ? scalar(0, { dtype: "u32" }) : stats.dropped)),
  };
}

/** What the plans of a pass tell. */
type PlanMetrics = Pick<LossMetrics, "routing" | "stats">;

/** A loss for `trainStep`, but for the learning rate. */
type PassLoss = (
  params: ModelParams,
  batch: Batch,
  context: StepContext,
) => readonly [loss: Tensor, metrics: Omit<LossMetrics, "learningRate">];

/** The loss of one pass: cross-entropy and weighted auxiliary losses. */
function onePass(
  config: TrainConfig,
  model: Model,
  measurePlans: (output: TransformerLmOutput) => PlanMetrics,
): PassLoss {
  const coefficients = auxCoefficients(config);
  return (params, { ids }, { key }) => {
    const [inputs, targets] = inputsAndTargets(ids);
    const output = model.apply(params, { ids: inputs }, { key, train: true });
    const { loss, crossEntropy } = languageModelLoss(output, targets, { coefficients });
    return [loss, { crossEntropy, ...measurePlans(output) }];
  };
}

/**
 * The loss of two passes over each batch, which must agree. They are one pass over the batch twice in a row, so that a
 * router that draws distinct experts knows both.
 */
function twoPasses(alpha: number, model: Model, measurePlans: (output: TransformerLmOutput) => PlanMetrics): PassLoss {
  const loss = inTwoPasses((params: ModelParams, { ids }: Batch, { key }: StepContext) => {
    const [inputs, targets] = inputsAndTargets(ids);
    const output = model.apply(params, { ids: inputs }, { key, train: true });
    return { logits: output.logits, targets, metrics: measurePlans(output) };
  }, { alpha, passes: "together" });
  return (params, batch, context) => {
    const [total, { crossEntropy, divergence, calls: [plans] }] = loss(params, batch, context);
    return [total, { crossEntropy, divergence, ...plans }];
  };
}

/**
 * Builds the jitted step of a run.
 *
 * With `consistency` it takes two passes over the batch, and costs as much.
 *
 * @param config The configuration.
 * @param model Its model.
 * @param optimizer Its optimizer.
 * @returns The step; it is compiled at the first call.
 */
export function buildStep(config: TrainConfig, model: Model, optimizer: GradientTransform): RunStep {
  const schedule = learningRateSchedule(config);
  const reduce = reducerOf(config);
  const { consistency } = config;
  const passLoss = consistency === null
    ? onePass(config, model, measurePlans)
    : twoPasses(consistency, model, measurePlans);

  function measurePlans(output: TransformerLmOutput): PlanMetrics {
    const plans = output.plans.filter((plan) => plan !== null);
    const routing = measureRouting(plans, config);
    return {
      ...(routing === undefined ? {} : { routing }),
      ...(reduce === null ? {} : { stats: plans.map(({ stats }) => stats) }),
    };
  }

  function loss(params: ModelParams, batch: Batch, context: StepContext): readonly [Tensor, LossMetrics] {
    const [total, metrics] = passLoss(params, batch, context);
    return [total, { ...metrics, learningRate: schedule(context.step) }];
  }

  function advance(params: ModelParams, { stats = [] }: LossMetrics): ModelParams {
    return reduce === null ? params : reduce(params, stats);
  }

  function measure({ grads }: Measurable<ModelParams>): GradientMetrics {
    return { gradientNorm: globalNorm(grads) };
  }
  const lossScale = lossScaleFor(config.precision);
  return trainStep({
    loss,
    optimizer,
    microBatches: config.microBatches,
    measure,
    ...(reduce === null ? {} : { advance }),
    ...(lossScale === undefined ? {} : { lossScale }),
  });
}
