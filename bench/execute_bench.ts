/**
 * What does routing cost: a mixture of experts against the dense layer that does the same arithmetic for a token?
 *
 * The dense layer is as wide inside as the K experts of a token together, so both multiply equally often. The plan is
 * made beforehand by a forced router: this is about `execute` alone.
 *
 * @module
 */
import {
  type DeviceInfo,
  type DispatchPlan,
  execute,
  feedForward,
  full,
  key,
  mul,
  normal,
  read,
  realize,
  type Tensor,
  tensor,
  uniform,
} from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import { forcedRouter, type Load } from "./forced_router.ts";
import type { Built, Contender, Question } from "./harness.ts";
import { expectDefinition, type HostExperts } from "./host_experts.ts";
import { type Body, compileBody, type CompiledBody, type Differentiable } from "./bodies.ts";
import { checkedTokens, LARGE_MIXTURE, type Mixture, SMALL_MIXTURE } from "./mixture.ts";

const ACTIVATION = "gelu";

/** Random matrices that keep values near 1. */
function matrices(leading: readonly number[], width: number, inner: number): Pick<Differentiable, "up" | "down"> {
  return {
    up: mul(normal(key(1), [...leading, width, inner]), 1 / Math.sqrt(width)),
    down: mul(normal(key(2), [...leading, inner, width]), 1 / Math.sqrt(inner)),
  };
}

function mixtureBody(mixture: Mixture, hidden: Tensor): Body {
  const { width, experts, inner } = mixture;
  const router = forcedRouter(mixture);
  const plan = router.route(router.init(key(0)), { hidden });
  return {
    name: "execute",
    given: { hidden, weight: plan.weight, ...matrices([experts], width, inner) },
    plan,
    apply: ({ hidden, weight, up, down }, plan) =>
      execute({ ...plan!, weight: weight! }, hidden, { up, down }, { activation: ACTIVATION, body: "ffn" }),
  };
}

function denseBody({ width, inner, k }: Mixture, hidden: Tensor): Body {
  const layer = feedForward({ width, inner: k * inner, activation: ACTIVATION });
  return {
    name: "dense",
    given: { hidden, ...matrices([], width, k * inner) },
    plan: null,
    apply: ({ hidden, up, down }) => layer.apply({ up: { weight: up }, down: { weight: down } }, hidden),
  };
}

/** Checks a body's output for some tokens, and all its gradients under a cotangent that is zero elsewhere. */
async function verifyBody(
  { given, plan, forward, both }: CompiledBody,
  { tokens, width, inner, k }: Mixture,
  choices: ArrayLike<number>,
): Promise<void> {
  const checked = checkedTokens({ tokens });
  const drawn = await uniform(key(5), [tokens, width], { min: -1, max: 1 }).data();
  const sparse = new Float32Array(tokens * width);
  for (const token of checked) {
    sparse.set(drawn.subarray(token * width, (token + 1) * width) as Float32Array, token * width);
  }
  const cotangent = tensor(sparse, { shape: [tokens, width] });
  const { grads } = both(given, plan, cotangent);
  const found = await read({ given, out: forward(given, plan), grads });
  const { weight } = found.given;
  const definition: HostExperts = {
    width,
    ...found.given,
    ...(plan === null
      ? { inner: k * inner, k: 1, choices: new Uint32Array(tokens), weight: new Float32Array(tokens).fill(1) }
      : { inner, k, choices, weight: weight! }),
  };
  expectDefinition(plan === null ? "dense layer" : "execute", definition, found, { checked, cotangent: sparse });
}

/** Both passes of a body; of each, the ratio to the same pass of another body is of interest. */
function contendersOf(
  { name, given, plan, forward, both }: CompiledBody,
  { tokens, width, inner, k }: Mixture,
  { cotangent, ratioTo }: { readonly cotangent: Tensor; readonly ratioTo?: string },
): readonly Contender[] {
  const multiplied = 2 * tokens * k * width * inner;
  const passed = 4 * tokens * width;
  const stored = 4 * (given.up.size + given.down.size);
  return [
    {
      name: `${name} forward`,
      work: { flop: 2 * multiplied, bytes: 2 * passed + stored },
      run: () => forward(given, plan),
      ...(ratioTo === undefined ? {} : { ratioTo: `${ratioTo} forward` }),
    },
    {
      name: `${name} forward+backward`,
      // Backward multiplies twice for each product of forward, reads the matrices again and writes their gradients.
      work: { flop: 6 * multiplied, bytes: 3 * passed + 2 * stored },
      run: () => both(given, plan, cotangent),
      ...(ratioTo === undefined ? {} : { ratioTo: `${ratioTo} forward+backward` }),
    },
  ];
}

async function build(mixture: Mixture): Promise<Built> {
  const { tokens, width } = mixture;
  const hidden = normal(key(3), [tokens, width]);
  const cotangent = full([tokens, width], 1 / tokens);
  const bodies = [denseBody(mixture, hidden), mixtureBody(mixture, hidden)];
  const inputs = realize({ cotangent, bodies: bodies.map(({ given, plan }) => ({ given, plan })) });
  const [dense, mixed] = bodies.map(compileBody) as [CompiledBody, CompiledBody];
  const choices = await expertOfAssignment(mixed.plan!);
  return {
    contenders: [
      ...contendersOf(dense, mixture, { cotangent }),
      ...contendersOf(mixed, mixture, { cotangent, ratioTo: "dense" }),
    ],
    inputs,
    async verify() {
      for (const body of [dense, mixed]) await verifyBody(body, mixture, choices);
    },
  };
}

/** The expert of every assignment, u32[A]. */
async function expertOfAssignment(plan: DispatchPlan): Promise<Uint32Array> {
  const { expertOffsets, rowAssign } = await read({ expertOffsets: plan.expertOffsets, rowAssign: plan.rowAssign });
  const choices = new Uint32Array(plan.assignments);
  for (let expert = 0; expert < plan.experts; expert++) {
    for (let row = expertOffsets[expert]!; row < expertOffsets[expert + 1]!; row++) choices[rowAssign[row]!] = expert;
  }
  return choices;
}

const WIDE: Mixture = { tokens: 16384, width: 1024, experts: 64, inner: 2048, k: 2 };

const EVERYWHERE: readonly Mixture[] = [
  SMALL_MIXTURE,
  { ...SMALL_MIXTURE, k: 2 },
  { ...SMALL_MIXTURE, k: 2, load: "zipf" },
  { ...SMALL_MIXTURE, load: "one" },
  { ...SMALL_MIXTURE, tokens: 512 },
  LARGE_MIXTURE,
  // The partial experts of an external memory: many, narrow, and few rows for each.
  { ...SMALL_MIXTURE, experts: 4096, inner: 16, k: 4 },
];

/** What a sweep starts from; one number changes at a time. Letters as above, and the rows of one expert under even load. */
const SWEPT = { rows: 64, width: 256, inner: 256, experts: 8, k: 2 };

/** A mixture whose experts have so many rows each. */
function withRows({ rows, experts, k, ...sizes }: typeof SWEPT, load: Load = "uniform"): Mixture {
  return { ...sizes, experts, k, load, tokens: Math.max(1, Math.ceil(rows * experts / k)) };
}

/** Every size on its own axis, under an even load and, for the middle, under the others. */
const SWEEP: readonly Mixture[] = [
  ...[1, 2, 4, 8, 16, 32, 128, 256, 512].map((rows) => withRows({ ...SWEPT, rows })),
  ...[128, 512, 1024, 2048].map((width) => withRows({ ...SWEPT, width })),
  ...[64, 128, 512, 1024, 2048].map((inner) => withRows({ ...SWEPT, inner })),
  ...[1, 8].map((k) => withRows({ ...SWEPT, k })),
  ...[64, 256].map((experts) => withRows({ ...SWEPT, experts })),
  withRows({ ...SWEPT, experts: 64, k: 8 }),
  withRows({ ...SWEPT, experts: 256, k: 8, rows: 1 }),
  ...(["uniform", "zipf", "one"] as const).map((load) => withRows(SWEPT, load)),
];

/** What of the sweep a software adapter does in passing: few rows, many experts, many choices. */
const CORNERS: readonly Mixture[] = [
  withRows({ ...SWEPT, width: 128, rows: 1, experts: 64 }),
  withRows({ ...SWEPT, width: 128, rows: 16, experts: 64, k: 8, inner: 64 }),
];

function nameOf({ tokens, width, experts, inner, k, load = "uniform" }: Mixture): string {
  return `T${tokens} D${width} E${experts} F${inner} K${k} ${load}`;
}

/** The question for `deno task bench`. */
export const executeQuestion: Question = {
  name: "execute",
  asks: "What does routing cost: a mixture of experts against a dense layer of equal active FLOP?",
  workloads: ({ software }: DeviceInfo, { full = false } = {}) =>
    [
      ...EVERYWHERE,
      ...(software ? [] : [WIDE, { ...WIDE, load: "zipf" as const }]),
      ...(full ? SWEEP : CORNERS),
    ].map((mixture) => {
      const { tokens, width, experts, inner, k } = mixture;
      return {
        name: nameOf(mixture),
        shapes: `hidden f32[${tokens},${width}], experts f32[${experts},${width},${inner}], dense f32[${width},${
          k * inner
        }]`,
        build: () => build(mixture),
      };
    }),
};

await registerBenches(executeQuestion, import.meta);
