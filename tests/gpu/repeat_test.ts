/**
 * A hundred runs of every kernel whose sums could depend on who comes first: each gives the same bits as the first, on every
 * class of adapters, and on a second device too.
 */
import { assert, AssertionError } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import { currentRuntime, installRuntime } from "../../src/core/runtime.ts";
import { type Shape, sizeOf } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { flatten } from "../../src/core/tree.ts";
import { vjp } from "../../src/core/vjp.ts";
import { init } from "../../src/gpu/device.ts";
import { languageModelLoss } from "../../src/layers/language_model_loss.ts";
import { moe } from "../../src/layers/moe.ts";
import { transformerLm } from "../../src/layers/transformer_lm.ts";
import { causalAttention } from "../../src/ops/attention.ts";
import {
  crossEntropy,
  cumsum,
  key,
  layerNorm,
  matmul,
  scatterAdd,
  segmentSum,
  softmax,
  sum,
  take,
  tensor,
} from "../../src/ops/mod.ts";
import { adam, chain, clipByGlobalNorm, trainState, trainStep } from "../../src/optim/mod.ts";
import { executeSegments } from "../../src/routing/segment.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { valueRows } from "../../src/routing/memory_lookup.ts";
import { caseGradients, casePlan, type ExpertCase, randomChoices } from "../routing/support/expert_case.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest } from "../support/runtimes.ts";
import { withAdapterClass } from "../support/variants.ts";
import { uniformTensor } from "../support/draw.ts";

const RUNS = 100;
/** Runs whose results are read together: a read waits for the device. They lie in buffers of their own. */
const RUNS_A_READ = 10;

/** Places below `high`, the low ones far more often than the others. */
function skewedPlaces(shape: Shape, high: number, seed: number): Tensor {
  const random = randomSource(seed);
  const places = Uint32Array.from({ length: sizeOf(shape) }, () => Math.floor(high * random.uniform() ** 4));
  return tensor(places, { shape, dtype: "u32" });
}

/** A function's result and the gradient of every argument for a random cotangent. */
function withGradients(f: (...args: Tensor[]) => Tensor, ...args: readonly Tensor[]): readonly Tensor[] {
  const [out, pull] = vjp(f, ...args);
  return [out, ...pull(uniformTensor(out.shape, 99))];
}

function experts(one: ExpertCase): readonly Tensor[] {
  return Object.values(caseGradients(one));
}

const EXPERTS = { experts: 8, width: 12, inner: 20 } as const;
const TOKENS = 60;

/** Sums of every kind, by name: results and gradients, nothing computed yet. */
const SUBJECTS: Readonly<Record<string, () => readonly Tensor[]>> = {
  "products": () => [
    ...withGradients((a, b) => matmul(a!, b!), uniformTensor([37, 130], 1), uniformTensor([130, 65], 2)),
    ...withGradients(
      (a, b) => matmul(a!, b!, { transposeB: true }),
      uniformTensor([3, 20, 33], 3),
      uniformTensor([3, 9, 33], 4),
    ),
  ],
  "top-1 experts": () => experts({ ...EXPERTS, choices: randomChoices({ tokens: TOKENS, k: 1, experts: 8 }) }),
  "top-2 experts with dropped choices": () =>
    experts({
      ...EXPERTS,
      choices: randomChoices({ tokens: TOKENS, k: 2, experts: 8, drop: 0.2 }),
      body: "glu",
      biases: ["upBias", "downBias", "gateBias"],
    }),
  "experts in several workgroups": () =>
    experts({ ...EXPERTS, inner: 132, choices: randomChoices({ tokens: TOKENS, k: 2, experts: 8 }) }),
  "experts of a skewed load": () =>
    experts({ ...EXPERTS, choices: Array.from({ length: TOKENS }, (_, token) => [token % 13 === 0 ? 2 : 5]) }),
  "segments": () => {
    const one: ExpertCase = { ...EXPERTS, choices: randomChoices({ tokens: TOKENS, k: 2, experts: 8 }) };
    const plan = casePlan(one, uniformTensor([2 * TOKENS], 5));
    return withGradients(
      (x, weight, bias) => executeSegments(plan, x!, { weight: weight!, bias: bias! }),
      uniformTensor([TOKENS, 12], 6),
      uniformTensor([8, 12, 20], 7),
      uniformTensor([8, 20], 8),
    );
  },
  "rows of values": () =>
    withGradients(
      (values, weights) => valueRows(values!, { rows: skewedPlaces([50, 9], 40, 9), weights: weights! }),
      uniformTensor([40, 12], 10),
      uniformTensor([50, 9], 11),
    ),
  "attention": () =>
    withGradients(
      (q, k, v) => causalAttention(q!, k!, v!),
      ...[1, 2, 3].map((seed) => uniformTensor([2, 45, 8], seed)),
    ),
  "softmax, norms and running sums": () => [
    ...withGradients((x) => softmax(x!), uniformTensor([33, 77], 12)),
    ...withGradients(
      (x, scale, bias) => layerNorm(x!, { scale: scale!, bias: bias! }),
      uniformTensor([130, 68], 13),
      uniformTensor([68], 14),
      uniformTensor([68], 15),
    ),
    cumsum(uniformTensor([3, 1100], 16)),
    sum(uniformTensor([70_001], 17)),
    sum(uniformTensor([3001, 5], 18), { axis: 0 }),
  ],
  "cross-entropy": () =>
    withGradients((logits) => crossEntropy(logits!, skewedPlaces([40], 257, 19)), uniformTensor([40, 257], 20)),
  "gathered and scattered rows": () => [
    ...withGradients((x) => take(x!, skewedPlaces([900], 30, 21), { axis: 0 }), uniformTensor([30, 12], 22)),
    scatterAdd([30, 5], skewedPlaces([700], 30, 23), uniformTensor([700, 5], 24)),
    segmentSum(uniformTensor([5000, 3], 25), skewedPlaces([5000], 4, 26), 4),
  ],
};

/** Two whole training steps from the start: parameters drawn anew, experts, attention, embeddings, clipping, Adam. */
function trainer(): () => unknown {
  const [width, vocabulary] = [16, 50];
  const model = transformerLm({
    vocabulary,
    width,
    layers: 1,
    heads: 2,
    body: () => moe({ router: topKRouter({ width, experts: 4, k: 2 }), width, inner: 24 }),
  });
  const optimizer = chain(clipByGlobalNorm(1), adam({ learningRate: 0.01 }));
  const step = trainStep({
    loss: (params: ReturnType<typeof model.init>, ids: Tensor) =>
      languageModelLoss(model.apply(params, { ids }, { train: true }), ids, { coefficients: { balance: 0.01 } }).loss,
    optimizer,
  });
  const ids = skewedPlaces([3, 13], vocabulary, 27);
  return () => {
    const [state, { loss }] = step(trainState({ params: model.init(key(1)), optimizer, key: key(2) }), ids);
    const [{ params, optimizer: moments }, { loss: nextLoss }] = step(state, ids);
    return { loss, nextLoss, params, moments };
  };
}

/** What a subject computed, bit by bit. */
type Bits = readonly Uint8Array[];

async function bitsOf(runs: readonly Readonly<Record<string, unknown>>[]): Promise<readonly Record<string, Bits>[]> {
  const leaves = runs.map((run) => Object.entries(run).map(([name, tree]) => [name, flatten(tree).leaves] as const));
  const values = await read(leaves.map((subjects) => subjects.map(([, tensors]) => tensors)));
  return leaves.map((subjects, run) =>
    Object.fromEntries(subjects.map(([name], place) => [
      name,
      (values[run]![place] as unknown as Float32Array<ArrayBuffer>[]).map((data) => new Uint8Array(data.buffer)),
    ]))
  );
}

/** Far faster than deep equality: some megabytes are compared. */
function expectBits(found: Uint8Array, expected: Uint8Array, label: string): void {
  const place = expected.findIndex((byte, i) => found[i] !== byte);
  if (place < 0 && found.length === expected.length) return;
  throw new AssertionError(`${label}: element ${place >> 2} of ${expected.length >> 2} has other bits`);
}

/** Runs everything that often on the installed runtime, expects the bits of the first run, and returns them. */
async function expectSameBits(runs: number, first?: Record<string, Bits>): Promise<Record<string, Bits>> {
  const compute = jit(() => Object.fromEntries(Object.entries(SUBJECTS).map(([name, make]) => [name, make()])), {
    name: "repeated",
  });
  const train = trainer();
  let expected = first;
  for (let done = 0; done < runs; done += RUNS_A_READ) {
    const found = await bitsOf(Array.from({ length: RUNS_A_READ }, () => ({ ...compute(), "training": train() })));
    expected ??= found[0]!;
    for (const [i, run] of found.entries()) {
      for (const [name, bits] of Object.entries(expected)) {
        bits.forEach((one, place) => expectBits(run[name]![place]!, one, `${name}, value ${place}, run ${done + i}`));
      }
    }
  }
  return expected!;
}

gpuTest(`${RUNS} runs give the same bits, and so does a second device`, async () => {
  const first = await expectSameBits(RUNS);
  const previous = installRuntime(null);
  try {
    await init();
    assert(currentRuntime("test") !== previous);
    await expectSameBits(RUNS_A_READ, first);
  } finally {
    installRuntime(previous);
  }
});

for (const adapterClass of ["software with textures", "hardware"] as const) {
  gpuTest(`${RUNS} runs give the same bits with kernels as for ${adapterClass}`, async () => {
    await withAdapterClass(adapterClass, () => expectSameBits(RUNS));
  });
}
