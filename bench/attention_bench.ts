/**
 * How fast is causal attention, forward and with its gradient?
 *
 * @module
 */
import {
  causalAttention,
  type DeviceInfo,
  jit,
  key,
  mul,
  read,
  realize,
  sum,
  type Tensor,
  uniform,
  valueAndGrad,
} from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { expectClose } from "./verify.ts";

interface Heads {
  readonly batch: number;
  readonly heads: number;
  readonly sequence: number;
  readonly channels: number;
}

/** Queries, keys and values, each f32[B, H, S, C]. */
interface Operands {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
}

type HostHead = Readonly<Record<"q" | "k" | "v" | "cotangent", ArrayLike<number>>>;

/** One head by definition: what it puts out and the gradients of that times a cotangent. */
function hostHead(
  { q, k, v, cotangent }: HostHead,
  { sequence, channels }: Heads,
): Record<"out" | "q" | "k" | "v", Float64Array> {
  const result = {
    out: new Float64Array(sequence * channels),
    q: new Float64Array(sequence * channels),
    k: new Float64Array(sequence * channels),
    v: new Float64Array(sequence * channels),
  };
  const scale = 1 / Math.sqrt(channels);
  for (let s = 0; s < sequence; s++) {
    const row = s * channels;
    const weights = new Float64Array(s + 1);
    const slopes = new Float64Array(s + 1);
    for (let t = 0; t <= s; t++) {
      for (let c = 0; c < channels; c++) {
        weights[t]! += q[row + c]! * k[t * channels + c]! * scale;
        slopes[t]! += cotangent[row + c]! * v[t * channels + c]!;
      }
    }
    const most = weights.reduce((a, b) => Math.max(a, b));
    const total = weights.reduce((sum, score) => sum + Math.exp(score - most), 0);
    let meanSlope = 0;
    for (let t = 0; t <= s; t++) {
      weights[t] = Math.exp(weights[t]! - most) / total;
      meanSlope += weights[t]! * slopes[t]!;
    }
    for (let t = 0; t <= s; t++) {
      const scoreSlope = weights[t]! * (slopes[t]! - meanSlope) * scale;
      for (let c = 0; c < channels; c++) {
        const other = t * channels + c;
        result.out[row + c]! += weights[t]! * v[other]!;
        result.v[other]! += weights[t]! * cotangent[row + c]!;
        result.q[row + c]! += scoreSlope * k[other]!;
        result.k[other]! += scoreSlope * q[row + c]!;
      }
    }
  }
  return result;
}

function build(size: Heads): Built {
  const { batch, heads, sequence, channels } = size;
  const shape = [batch, heads, sequence, channels];
  const [q, k, v, cotangent] = realize(
    [1, 2, 3, 4].map((seed) => uniform(key(seed), shape, { min: -1, max: 1 })),
  ) as [Tensor, Tensor, Tensor, Tensor];
  const operands: Operands = { q, k, v };
  const forward = jit(({ q, k, v }: Operands) => causalAttention(q, k, v), { name: "attention" });
  const backward = jit(
    (operands: Operands, cotangent: Tensor) =>
      valueAndGrad(({ q, k, v }: Operands) => sum(mul(causalAttention(q, k, v), cotangent)))(operands),
    { name: "attention with gradient" },
  );

  async function verify(): Promise<void> {
    const found = await read({ operands, cotangent, out: forward(operands), ...backward(operands, cotangent) });
    const elements = sequence * channels;
    for (const head of new Set([0, batch * heads - 1])) {
      const part = <T extends { subarray(from: number, to: number): T }>(data: T): T =>
        data.subarray(head * elements, (head + 1) * elements);
      const expected = hostHead({
        q: part(found.operands.q as Float32Array),
        k: part(found.operands.k as Float32Array),
        v: part(found.operands.v as Float32Array),
        cotangent: part(found.cotangent as Float32Array),
      }, size);
      expectClose(`attention of head ${head}`, part(found.out as Float32Array), expected.out, sequence);
      for (const name of ["q", "k", "v"] as const) {
        expectClose(
          `gradient of ${name} in head ${head}`,
          part(found.grads[name] as Float32Array),
          expected[name],
          sequence,
        );
      }
    }
  }

  // Half of the scores is masked and not counted.
  const product = batch * heads * sequence * (sequence + 1) * channels;
  const bytes = 4 * batch * heads * sequence * channels;
  return {
    contenders: [
      { name: "forward", work: { flop: 2 * product, bytes: 4 * bytes }, run: () => forward(operands) },
      {
        name: "forward+backward",
        work: { flop: 6 * product, bytes: 7 * bytes },
        run: () => backward(operands, cotangent),
      },
    ],
    inputs: { operands, cotangent },
    verify,
  };
}

const TINY: Heads = { batch: 16, heads: 4, sequence: 128, channels: 32 };
const SMALL: Heads = { batch: 4, heads: 8, sequence: 256, channels: 32 };
const LONG: Heads = { batch: 8, heads: 8, sequence: 1024, channels: 64 };

/** The question for `deno task bench`. */
export const attentionQuestion: Question = {
  name: "attention",
  asks: "How fast is causal attention, forward and with its gradient?",
  workloads: ({ software }: DeviceInfo) =>
    (software ? [TINY, SMALL] : [TINY, SMALL, LONG]).map((size) => {
      const shape = [size.batch, size.heads, size.sequence, size.channels];
      return { name: shape.join("x"), shapes: `q, k, v f32[${shape}]`, build: () => build(size) };
    }),
};

await registerBenches(attentionQuestion, import.meta);
