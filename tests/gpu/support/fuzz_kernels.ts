/**
 * Ops with hand-written kernels that a random program may apply: what is fused in front of them, behind them and around
 * them must not change what they compute.
 *
 * @module
 */
import type { Tensor } from "../../../src/core/tensor.ts";
import { causalAttention } from "../../../src/ops/attention.ts";
import {
  add,
  cast,
  crossEntropy,
  mean,
  mul,
  reshape,
  rmsNorm,
  segmentSum,
  sin,
  tanh,
  tensor,
  topK,
} from "../../../src/ops/mod.ts";
import { execute } from "../../../src/routing/execute.ts";
import { valueRows } from "../../../src/routing/memory_lookup.ts";
import { planOfEvenBlocks } from "../../../src/routing/static_plan.ts";
import { asFloat, type Draw, type FuzzOp, type FuzzValue, made } from "./fuzz_values.ts";

/** Numbers of order 1/4 that depend a little on another value, so that gradients reach it. */
function dependent(shape: readonly number[], { tensor: other }: FuzzValue, draw: Draw): Tensor {
  const start = draw(17);
  const size = shape.reduce((product, n) => product * n, 1);
  const data = Float32Array.from({ length: size }, (_, i) => ((i * 5 + start) % 17 - 8) / 32);
  const constant = tensor(data, { shape });
  return other.size === 0 ? constant : add(constant, mul(mean(tanh(other)), 0.25));
}

/** Whole numbers below `high`. */
function places(shape: readonly number[], high: number, draw: Draw): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  const [start, step] = [draw(high), 1 + draw(5)];
  return tensor(Uint32Array.from({ length: size }, (_, i) => (start + i * step) % high), { shape, dtype: "u32" });
}

/** Ops with kernels of their own, by name. */
export const KERNEL_OPS: Readonly<Record<string, FuzzOp>> = {
  attention(x, y, draw) {
    const [a, b] = [asFloat(x), asFloat(y)];
    const { shape } = a.tensor;
    const isRowMajor = shape.length > 2 && draw(2) === 1;
    if (shape.length < 2 || a.tensor.size === 0) return null;
    const keys = String(b.tensor.shape) === String(shape) ? b.tensor : a.tensor;
    const [q, k] = [cast(tanh(a.tensor), "f32"), cast(sin(keys), "f32")];
    const options = { layout: isRowMajor ? "rowMajor" : "headMajor" } as const;
    return made(causalAttention(q, k, cast(a.tensor, "f32"), options), a.bound, false, options.layout);
  },
  experts(x, y, draw) {
    const { tensor: hidden } = asFloat(x);
    const width = hidden.shape.at(-1) ?? 1;
    const tokens = hidden.size / width;
    const experts = [4, 3, 2, 1].find((count) => tokens % count === 0)!;
    if (hidden.size === 0) return null;
    const inner = 1 + draw(9);
    const other = asFloat(y);
    const params = {
      up: dependent([experts, width, inner], other, draw),
      down: dependent([experts, inner, width], other, draw),
    };
    const plan = planOfEvenBlocks({ experts, rows: tokens / experts });
    const out = execute(plan, reshape(cast(tanh(hidden), "f32"), [tokens, width]), params, { activation: "silu" });
    return made(reshape(out, hidden.shape), width * inner, false, `${experts} of ${width} x ${inner}`);
  },
  valueRows(x, y, draw) {
    const { tensor: values, bound } = asFloat(x);
    if (values.shape.length !== 2 || values.size === 0) return null;
    const [tokens, reads] = [1 + draw(7), 1 + draw(4)];
    // One place behind the last row is no row.
    const rows = places([tokens, reads], values.shape[0]! + 1, draw);
    const weights = dependent([tokens, reads], asFloat(y), draw);
    return made(
      valueRows(values, { rows, weights: cast(weights, "f32") }),
      bound * reads,
      false,
      `[${tokens}, ${reads}]`,
    );
  },
  segmentSum(x, _, draw) {
    const { tensor: values, bound } = asFloat(x);
    const [rows] = values.shape;
    if (rows === undefined || rows === 0) return null;
    return made(segmentSum(values, places([rows], 5, draw), 4), bound * rows, false);
  },
  topK(x, _, draw) {
    const { tensor: values, bound, exact } = asFloat(x);
    const count = values.shape.at(-1) ?? 0;
    if (!exact || count === 0) return null;
    const found = topK(values, 1 + draw(Math.min(3, count)));
    return made(add(cast(found.values, "f32"), mul(cast(found.indices, "f32"), 0.125)), bound + count, false);
  },
  crossEntropy(x, _, draw) {
    const { tensor: logits, bound } = asFloat(x);
    const classes = logits.shape.at(-1) ?? 0;
    if (classes === 0) return null;
    const labelSmoothing = draw(2) / 8;
    const targets = places(logits.shape.slice(0, -1), classes, draw);
    return made(crossEntropy(logits, targets, { labelSmoothing, reduction: "none" }), 2 * bound + 8, false);
  },
  rmsNorm: (x) =>
    (x.tensor.shape.at(-1) ?? 0) < 1 ? null : made(rmsNorm(asFloat(x).tensor, { epsilon: 0.1 }), 8, false),
};
