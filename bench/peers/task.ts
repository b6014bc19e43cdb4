/**
 * What a peer is asked to do: a task that names the work, arrays that go in and arrays that come out.
 *
 * Tasks and arrays cross a process border, so they hold data alone. Letters as everywhere: B batch, S sequence, D width,
 * T tokens, E experts, F inner width, K experts of a token, C slots of an expert.
 *
 * @module
 */

/** The work, in the terms of its outputs. */
export type Task = PureTask | TrainTask | StartTask;

/** Work without a state that outlives a call. */
export type PureTask =
  /** `product` of `a` and `b`, perhaps of their transposes. */
  | { readonly kind: "matmul"; readonly transposeA: boolean; readonly transposeB: boolean }
  /** `y` = gelu(1.5 x + 0.25) x - 0.5, gelu in the tanh form. */
  | { readonly kind: "chain" }
  /** `y`, the softmax of the rows of `x`. */
  | { readonly kind: "softmax" }
  /** `y`, the layer norm of the rows of `x` with `scale` and `bias`, 1e-5 under the root. */
  | { readonly kind: "layerNorm" }
  /** `total`, the sum of `x`. */
  | { readonly kind: "sum" }
  /** `y` = x + step + step + …, one add after another; with `read`, a call ends with the result on the host. */
  | { readonly kind: "adds"; readonly count: number; readonly read: boolean }
  /** `out` of a mixture of experts, and with `backward` the gradients of the sum of `out` times `cotangent`. */
  | { readonly kind: "moe"; readonly backward: boolean };

/** Some training steps on one batch, of which a call reads the last loss. */
export interface TrainTask {
  /**
   * `mlp`: `x` [B, inputs], classes `labels` [B] and as `oneHotLabels`; `w1`, `b1` …, relu between the layers.
   * `transformer`: `ids`, `labels` [B, S] and both one-hot; parameters of `transformer_data.ts`.
   */
  readonly kind: "mlp" | "transformer";
  /** How parameters move: SGD, Adam (0.9, 0.999, 1e-8), or Adam with decoupled decay. */
  readonly optimizer: "sgd" | "adam" | "adamw";
  /** Step length. */
  readonly learningRate: number;
  /** Decoupled decay of `adamw`. */
  readonly weightDecay: number;
  /** Steps of one call, which ends with the last loss on the host. */
  readonly stepsPerRead: number;
  /** Losses from the initial parameters on that are put out as `losses`. */
  readonly checkedSteps: number;
  /** Attention heads of the transformer. */
  readonly heads: number;
  /** Names of the parameters among the inputs, in the order of the optimizer. */
  readonly parameters: readonly string[];
}

/** Whether a task is a training step. */
export function isTraining(task: Task): task is TrainTask {
  return task.kind === "mlp" || task.kind === "transformer";
}

/** A process that loads the library, takes one step of {@linkcode TrainTask.kind} `mlp`, prints `losses` and ends. */
export interface StartTask {
  /** Tells it from other tasks. */
  readonly kind: "start";
  /** Whether Mesa may take kernels from its disk cache. */
  readonly warm: boolean;
  /** The step. */
  readonly step: TrainTask;
}

/** A dense array on the host. */
export interface HostArray {
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** What the elements are. */
  readonly dtype: "f32" | "i32";
  /** The elements, row-major. */
  readonly data: Float32Array | Int32Array;
}

/** Arrays by name. */
export type HostArrays = Readonly<Record<string, HostArray>>;

/** Results by name, flat. */
export type Outputs = Readonly<Record<string, Float32Array>>;

/** Wraps numbers as f32. */
export function floats(shape: readonly number[], data: ArrayLike<number>): HostArray {
  return { shape, dtype: "f32", data: data instanceof Float32Array ? data : new Float32Array(data) };
}

/** Wraps whole numbers as i32, the integer type that every library has. */
export function integers(shape: readonly number[], data: ArrayLike<number>): HostArray {
  return { shape, dtype: "i32", data: Int32Array.from(data) };
}
