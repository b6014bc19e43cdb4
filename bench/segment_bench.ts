/**
 * What do segments cost: a layer whose matrices are put together from segments of several experts, against the dense layer
 * of equal FLOP?
 *
 * @module
 */
import {
  type DeviceInfo,
  executeSegments,
  feedForward,
  full,
  type HostData,
  key,
  mul,
  normal,
  planFromTopK,
  read,
  realize,
  relu,
  reshape,
  type Tensor,
  tensor,
  uniform,
} from "../mod.ts";
import { randomSource } from "../tests/support/random.ts";
import { type Body, compileBody, type CompiledBody, type Differentiable } from "./bodies.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Contender, Question } from "./harness.ts";
import { expectClose } from "./verify.ts";

/** Letters: T tokens, D width, F inner width, N segments, E experts of a segment. */
interface Segmented {
  readonly tokens: number;
  readonly width: number;
  readonly inner: number;
  readonly segments: number;
  readonly experts: number;
}

/** Tokens that are checked. */
const CHECKED_TOKENS = 12;

/** Expert of each segment of each token, [T, N]: segment m of expert e is expert m · E + e. */
function drawChoices({ tokens, segments, experts }: Segmented): Uint32Array {
  const random = randomSource(2);
  return Uint32Array.from({ length: tokens * segments }, (_, i) => i % segments * experts + random.integer(0, experts));
}

/** `experts` = 1 stands for a dense layer, whose matrices have no leading axis. */
function matrices({ width, inner, segments, experts }: Segmented): Pick<Differentiable, "up" | "down"> {
  const leading = experts === 1 ? [] : [segments * experts];
  const parts = experts === 1 ? 1 : segments;
  return {
    up: mul(normal(key(1), [...leading, width, inner / parts]), 1 / Math.sqrt(width)),
    down: mul(normal(key(2), [...leading, inner, width / parts]), 1 / Math.sqrt(inner)),
  };
}

function segmentedBody(size: Segmented, hidden: Tensor, choices: Uint32Array): Body {
  const { tokens, width, inner, segments, experts } = size;
  const shape = [tokens, segments];
  const plan = planFromTopK({
    experts: segments * experts,
    indices: tensor(choices, { shape }),
    weights: full(shape, 1),
  });
  return {
    name: "segments",
    given: { hidden, ...matrices(size) },
    plan,
    apply({ hidden, up, down }, plan) {
      const raised = executeSegments(plan!, hidden, { weight: up }); // [T·N, F/N]
      const middle = relu(reshape(raised, [tokens, inner]));
      return reshape(executeSegments(plan!, middle, { weight: down }), [tokens, width]);
    },
  };
}

function denseBody(size: Segmented, hidden: Tensor): Body {
  const layer = feedForward({ width: size.width, inner: size.inner, activation: "relu" });
  return {
    name: "dense",
    given: { hidden, ...matrices({ ...size, experts: 1 }) },
    plan: null,
    apply: ({ hidden, up, down }) => layer.apply({ up: { weight: up }, down: { weight: down } }, hidden),
  };
}

/** Numbers on the host by name. */
type Numbers = Readonly<Record<"hidden" | "up" | "down", HostData>>;

/** The layer and its gradients, for some tokens whose cotangents are the only ones that are not zero. */
function hostLayer(
  { width, inner, segments }: Segmented,
  { hidden, up, down }: Numbers,
  { choices, checked, cotangent }: {
    /** Expert of each segment of each token; null for a dense layer. */
    readonly choices: Uint32Array | null;
    readonly checked: readonly number[];
    readonly cotangent: Float32Array;
  },
) {
  const parts = choices === null ? 1 : segments;
  const [innerPart, widthPart] = [inner / parts, width / parts];
  const out = new Map<number, Float64Array>();
  const grads = {
    hidden: new Float64Array(hidden.length),
    up: new Float64Array(up.length),
    down: new Float64Array(down.length),
  };
  /** Where output column `j` of a product with `rows` rows has its numbers: the first, and the step to the next row. */
  function columnOf(token: number, j: number, rows: number, part: number): readonly [start: number, step: number] {
    const expert = choices === null ? 0 : choices[token * parts + Math.floor(j / part)]!;
    return [expert * rows * part + j % part, part];
  }
  for (const token of checked) {
    const from = token * width;
    const raised = new Float64Array(inner);
    for (let f = 0; f < inner; f++) {
      const [start, step] = columnOf(token, f, width, innerPart);
      for (let d = 0; d < width; d++) raised[f]! += hidden[from + d]! * up[start + d * step]!;
    }
    const put = new Float64Array(width);
    const slopes = new Float64Array(inner);
    for (let d = 0; d < width; d++) {
      const [start, step] = columnOf(token, d, inner, widthPart);
      for (let f = 0; f < inner; f++) {
        put[d]! += Math.max(raised[f]!, 0) * down[start + f * step]!;
        grads.down[start + f * step]! += Math.max(raised[f]!, 0) * cotangent[from + d]!;
        slopes[f]! += raised[f]! > 0 ? down[start + f * step]! * cotangent[from + d]! : 0;
      }
    }
    for (let f = 0; f < inner; f++) {
      const [start, step] = columnOf(token, f, width, innerPart);
      for (let d = 0; d < width; d++) {
        grads.up[start + d * step]! += hidden[from + d]! * slopes[f]!;
        grads.hidden[from + d]! += up[start + d * step]! * slopes[f]!;
      }
    }
    out.set(token, put);
  }
  return { out, grads };
}

async function verifyBody(body: CompiledBody, size: Segmented, choices: Uint32Array | null): Promise<void> {
  const { tokens, width, inner } = size;
  const { given, plan, forward, both } = body;
  const checked = Array.from({ length: CHECKED_TOKENS }, (_, i) => Math.floor(i * (tokens - 1) / (CHECKED_TOKENS - 1)));
  const drawn = await uniform(key(5), [tokens, width], { min: -1, max: 1 }).data();
  const cotangent = new Float32Array(tokens * width);
  for (const token of checked) {
    cotangent.set(drawn.subarray(token * width, (token + 1) * width) as Float32Array, token * width);
  }
  const { grads } = both(given, plan, tensor(cotangent, { shape: [tokens, width] }));
  const found = await read({ given, out: forward(given, plan), grads });
  const expected = hostLayer(size, found.given, { choices, checked, cotangent });
  for (const [token, put] of expected.out) {
    expectClose(`${body.name}, token ${token}`, found.out.subarray(token * width, (token + 1) * width), put, inner);
  }
  for (const name of ["hidden", "up", "down"] as const) {
    expectClose(`${body.name}, gradient of ${name}`, found.grads[name], expected.grads[name], inner);
  }
}

/** Both passes of a body; the segments' are compared with the dense ones. */
function contendersOf(
  { name, given, plan, forward, both }: CompiledBody,
  { tokens, width, inner }: Segmented,
  cotangent: Tensor,
): readonly Contender[] {
  const multiplied = 4 * tokens * width * inner;
  const passed = 4 * tokens * width;
  const stored = 4 * (given.up.size + given.down.size);
  const ratio = (pass: string) => name === "dense" ? {} : { ratioTo: `dense ${pass}` };
  return [
    {
      name: `${name} forward`,
      work: { flop: multiplied, bytes: 2 * passed + stored },
      run: () => forward(given, plan),
      ...ratio("forward"),
    },
    {
      name: `${name} forward+backward`,
      work: { flop: 3 * multiplied, bytes: 3 * passed + 2 * stored },
      run: () => both(given, plan, cotangent),
      ...ratio("forward+backward"),
    },
  ];
}

function build(size: Segmented): Built {
  const hidden = normal(key(3), [size.tokens, size.width]);
  const cotangent = full([size.tokens, size.width], 1 / size.tokens);
  const choices = drawChoices(size);
  const bodies = [denseBody(size, hidden), segmentedBody(size, hidden, choices)];
  const inputs = realize({ cotangent, bodies: bodies.map(({ given, plan }) => ({ given, plan })) });
  const [dense, segmented] = bodies.map(compileBody) as [CompiledBody, CompiledBody];
  return {
    contenders: [dense, segmented].flatMap((body) => contendersOf(body, size, cotangent)),
    inputs,
    async verify() {
      await verifyBody(dense, size, null);
      await verifyBody(segmented, size, choices);
    },
  };
}

/** The question for `deno task bench`. */
export const segmentQuestion: Question = {
  name: "segments",
  asks: "What do segments of experts cost: a layer put together of them against a dense layer of equal FLOP?",
  workloads: ({ software }: DeviceInfo) =>
    [
      { tokens: 2048, width: 128, inner: 256, segments: 4, experts: 8 },
      { tokens: 2048, width: 128, inner: 512, segments: 2, experts: 16 },
      ...(software ? [] : [{ tokens: 16_384, width: 1024, inner: 4096, segments: 4, experts: 16 }]),
    ].map((size: Segmented) => {
      const { tokens, width, inner, segments, experts } = size;
      return {
        name: `T${tokens} D${width} F${inner} N${segments} E${experts}`,
        shapes: `hidden f32[${tokens},${width}], up f32[${segments * experts},${width},${inner / segments}]`,
        build: () => build(size),
      };
    }),
};

await registerBenches(segmentQuestion, import.meta);
