/**
 * Gradients of a batch too large for one pass: taken over several steps, or over parts of one batch.
 *
 * @module
 */
import { castTo, zerosLike } from "../core/arithmetic.ts";
import { callSite, ShapeError } from "../core/errors.ts";
import type { ValueAndGrad } from "../core/grad.ts";
import { formatAval } from "../core/shape.ts";
import { isDifferentiable, type Tensor } from "../core/tensor.ts";
import { flatten, mapTrees } from "../core/tree.ts";
import { add, div, mul } from "../ops/binary.ts";
import { equal } from "../ops/compare.ts";
import { splitAxis } from "../ops/concat.ts";
import { where } from "../ops/select.ts";
import { type LeafMap, leafOf, mapFloats } from "./leaves.ts";
import { expectOptions, positiveCount } from "../ops/options.ts";
import { startCount, zeroMoments } from "./scale.ts";
import type { GradientTransform, OptimizerState } from "./transform.ts";

/** State of {@linkcode accumulate}. */
export interface AccumulateState {
  /** Steps since the last update, a u32 scalar. */
  readonly count: Tensor;
  /** Sum of their gradients, each divided by the number of steps. */
  readonly gradients: LeafMap;
  /** State of the inner transform. */
  readonly inner: OptimizerState;
}

/**
 * Averages the gradients of `steps` steps and lets the inner transform see only the average.
 *
 * In between, updates are zero and the inner state stands still. The choice is made on the device, so a jitted step is
 * compiled once; it computes the inner update at every step and keeps it at the last.
 *
 * @throws {ConfigError} If `steps` is not a whole number from 1 up.
 *
 * @example Two half batches make one step
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { accumulate, init, sgd, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const optimizer = accumulate(2, sgd({ learningRate: 1 }));
 * const [first, state] = optimizer.update(tensor(2), optimizer.init(tensor(0)), tensor(0));
 * const [second] = optimizer.update(tensor(4), state, tensor(0));
 * assertEquals([await first.item() + 0, await second.item()], [0, -3]);
 * ```
 */
export function accumulate(steps: number, inner: GradientTransform): GradientTransform<AccumulateState> {
  expectOptions("accumulate", { steps: positiveCount }, { steps });
  return {
    init: (params) => ({ count: startCount(), gradients: zeroMoments(params), inner: inner.init(params) }),
    update(grads, state, params) {
      const isLast = equal(state.count, steps - 1);
      const gradients: Record<string, Tensor> = {};
      const average = mapFloats(grads, (grad, name) => {
        const total = add(leafOf(state.gradients, name, grad, "accumulate"), mul(grad, 1 / steps));
        gradients[name] = where(isLast, zerosLike(total), total);
        return total;
      });
      const [updates, next] = inner.update(average, state.inner, params);
      return [
        mapFloats(updates, (update) => where(isLast, update, zerosLike(update))),
        {
          count: where(isLast, zerosLike(state.count), add(state.count, 1)),
          gradients,
          inner: mapTrees("accumulate", next, state.inner, (after, before) => where(isLast, after, before)),
        },
      ];
    },
  };
}

/** Splits every leaf that has axes into equal parts along axis 0; scalars go to every part. */
function splitBatch<B>(batch: B, parts: number): readonly B[] {
  const flat = flatten(batch, "batch");
  const pieces = flat.leaves.map((leaf, i) => {
    const rows = leaf.shape[0];
    if (rows === undefined) return new Array<Tensor>(parts).fill(leaf);
    if (rows % parts === 0) return splitAxis(leaf, 0, parts);
    throw new ShapeError("shape/micro-batches", {
      summary: `Cannot split a batch into ${parts} parts: axis 0 of ${flat.paths[i]} is ${rows}`,
      facts: [["leaf", formatAval(leaf)], ["at", callSite()]],
      fix: `make the batch size a multiple of ${parts}`,
      details: { path: flat.paths[i], rows, parts },
    });
  });
  return Array.from({ length: parts }, (_, part) => flat.rebuild(pieces.map((piece) => piece[part]!)) as B);
}

/**
 * Averages floats in f32 and sums integers, such as counts of tokens; of booleans it keeps the first part's. Each part is
 * added before the next one is evaluated: ops run in the order of their creation, and a gradient that waits to be added
 * may keep what it is computed from.
 */
function combine<T>(parts: number, evaluate: (part: number) => T): T {
  const first = evaluate(0);
  let total = mapFloats(first, (leaf) => leaf);
  for (let part = 1; part < parts; part++) {
    total = mapTrees("combine micro-batches", total, evaluate(part), addLeaves);
  }
  return mapTrees(
    "combine micro-batches",
    total,
    first,
    (sum, { dtype }) => isDifferentiable(sum) ? castTo(div(sum, parts), dtype) : sum,
  );
}

function addLeaves(total: Tensor, leaf: Tensor): Tensor {
  if (leaf.dtype === "bool") return total;
  return add(total, isDifferentiable(leaf) ? castTo(leaf, "f32") : leaf);
}

/**
 * Takes value and gradients over parts of a batch, one after the other, and averages them: the result of the whole
 * batch, for losses that are means over examples, with the activations of one part at a time.
 *
 * Every leaf of the batch is split along axis 0. Floats of `aux` are averaged, integers summed, and booleans are those
 * of the first part.
 *
 * @param parts How many; axis 0 of every leaf must be a multiple of it.
 * @param evaluate Value and gradients of one part, given its number.
 * @returns A function of parameters and the whole batch.
 * @throws {ConfigError} If `parts` is not a whole number from 1 up.
 * @throws {ShapeError} When called with a batch that does not divide.
 *
 * @example Four examples, two at a time
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, inMicroBatches, mean, mul, type Tensor, tensor, valueAndGrad } from "@switchyard/switchyard";
 *
 * await init();
 * const whole = valueAndGrad((w: Tensor, x: Tensor) => mean(mul(w, x)));
 * const { value, grads } = inMicroBatches(2, whole)(tensor(2), tensor([1, 2, 3, 6]));
 * assertEquals([await value.item(), await grads.item()], [6, 3]);
 * ```
 */
export function inMicroBatches<P, B, X>(
  parts: number,
  evaluate: (params: P, batch: B, part: number) => ValueAndGrad<P, X>,
): (params: P, batch: B) => ValueAndGrad<P, X> {
  expectOptions("inMicroBatches", { parts: positiveCount }, { parts });
  return (params, batch) => {
    if (parts === 1) return evaluate(params, batch, 0);
    const batches = splitBatch(batch, parts);
    return combine(parts, (part) => evaluate(params, batches[part]!, part));
  };
}
