/**
 * The training loop: feeds batches to a step, owns the state between, and reads metrics rarely.
 *
 * @module
 */
import { z } from "zod";
import type { HostData } from "../core/dtype.ts";
import { read, realize } from "../core/realize.ts";
import type { Tensor } from "../core/tensor.ts";
import { flatten, type MapLeaves } from "../core/tree.ts";
import { batchInputs } from "./batch_inputs.ts";
import { callback, count, expectOptions, positiveCount } from "../ops/options.ts";

/** Metrics of one step, on the host. */
export interface MetricsRow<M> {
  /** Finished steps when the metrics were taken, so 1 for the first. */
  readonly step: number;
  /** The step's metrics, each tensor as a typed array. */
  readonly metrics: MapLeaves<M, HostData>;
}

/** Options of {@linkcode train}. */
export interface TrainOptions<S, M> {
  /** Stops after so many batches; by default when there are no more. */
  readonly steps?: number;
  /** Steps between reads of metrics, which wait for the device; 10 by default. */
  readonly metricsEvery?: number;
  /** Gets the metrics of all steps since the last call, oldest first. */
  readonly onMetrics?: (rows: readonly MetricsRow<M>[]) => void | Promise<void>;
  /** Steps between calls of `onState`; by default it is called at the end only. */
  readonly stateEvery?: number;
  /**
   * Gets the state, to evaluate or save it. It must be done with it when it returns (or its promise is kept): the next
   * step takes over the state's buffers.
   */
  readonly onState?: (state: S, step: number) => void | Promise<void>;
  /** Ends training after the current step; the state is returned as usual. */
  readonly signal?: AbortSignal;
}

/** Reads metrics that are waiting on the device, together with the number of the last step, and frees them. */
async function readRows<M>(
  state: { readonly step: Tensor },
  waiting: readonly M[],
): Promise<{ readonly rows: readonly MetricsRow<M>[]; readonly step: number }> {
  const { metrics, steps } = await read({ metrics: waiting, steps: [state.step] as const });
  const step = steps[0][0]!;
  const kept = new Set(flatten(state).leaves);
  for (const leaf of flatten(waiting).leaves) if (!kept.has(leaf)) leaf.dispose();
  const values = metrics as readonly MapLeaves<M, HostData>[];
  return { step, rows: values.map((metrics, i) => ({ step: step - values.length + 1 + i, metrics })) };
}

/**
 * Trains: calls `step` with the state and one batch after another, and returns the last state.
 *
 * Batches are trees of tensors. Those made from host data are uploaded into the same device memory at every step, those
 * already on the device are used as they are. Nothing waits for the device but the reads of metrics, one for every
 * `metricsEvery` steps, so a steady state allocates nothing.
 *
 * @param step Such as {@linkcode trainStep} returns.
 * @param state State before the first step; its buffers are taken over.
 * @param batches Any iterable; generators may be asynchronous.
 * @throws {ConfigError} If an option is out of range.
 *
 * @example Training on a generator of batches
 * ```ts
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 * import { init, key, mean, mul, sgd, square, sub, type Tensor, tensor } from "@switchyard/switchyard";
 * import { train, trainState, trainStep } from "@switchyard/switchyard";
 *
 * await init();
 * function* batches() {
 *   while (true) yield { x: tensor([1, 2]), y: tensor([3, 6]) };
 * }
 * const optimizer = sgd({ learningRate: 0.1 });
 * const step = trainStep({
 *   loss: (slope: Tensor, { x, y }: { x: Tensor; y: Tensor }) => mean(square(sub(mul(slope, x), y))),
 *   optimizer,
 * });
 * const losses: number[] = [];
 * const { params } = await train(step, trainState({ params: tensor(0), optimizer, key: key(0) }), batches(), {
 *   steps: 20,
 *   onMetrics: (rows) => void losses.push(...rows.map(({ metrics }) => metrics.loss[0]!)),
 * });
 * assertAlmostEquals(await params.item(), 3, 1e-3);
 * assertEquals(losses.length, 20);
 * ```
 */
export async function train<S extends { readonly step: Tensor }, B, M>(
  step: (state: S, batch: B) => readonly [state: S, metrics: M],
  state: S,
  batches: Iterable<B> | AsyncIterable<B>,
  options: TrainOptions<S, M> = {},
): Promise<S> {
  expectOptions("train", {
    steps: count.optional(),
    metricsEvery: positiveCount.optional(),
    onMetrics: callback.optional(),
    stateEvery: positiveCount.optional(),
    onState: callback.optional(),
    signal: z.instanceof(AbortSignal, { error: "must be an AbortSignal" }).optional(),
  }, options);
  const { steps = Infinity, metricsEvery = 10, onMetrics, stateEvery = Infinity, onState, signal } = options;
  using inputs = batchInputs();
  let current = state;
  let waiting: M[] = [];
  let done = 0;
  let shown = -1;

  async function report(when: "now" | "at the end"): Promise<void> {
    const { rows, step } = await readRows(current, waiting);
    waiting = [];
    if (rows.length > 0) await onMetrics?.(rows);
    const isDue = done % stateEvery === 0 || when === "at the end";
    if (!isDue || shown === done) return;
    shown = done;
    await onState?.(current, step);
  }

  if (steps > 0 && !signal?.aborted) {
    for await (const batch of batches) {
      const [next, metrics] = step(current, inputs.load(batch));
      // A step that is not jitted leaves its work undone, and the next batch would change its inputs.
      realize(flatten([next, metrics]).leaves);
      current = next;
      waiting.push(metrics);
      done++;
      if (done % metricsEvery === 0 || done % stateEvery === 0) await report("now");
      if (done >= steps || signal?.aborted) break;
    }
  }
  await report("at the end");
  return current;
}
