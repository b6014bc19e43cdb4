import { assert, assertEquals, assertThrows } from "@std/assert";
import { roundTo as nearestOf } from "../../src/core/dtype.ts";
import { ConfigError, DTypeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { leavesOf, mapTree } from "../../src/core/tree.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { languageModelLoss } from "../../src/layers/language_model_loss.ts";
import { moe } from "../../src/layers/moe.ts";
import { transformerLm, type TransformerLmParams } from "../../src/layers/transformer_lm.ts";
import { mul, sub } from "../../src/ops/binary.ts";
import { scalar, tensor } from "../../src/ops/creation.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { key } from "../../src/ops/random.ts";
import { mean } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import {
  adam,
  applyUpdates,
  type FloatType,
  globalNorm,
  isGateOrNorm,
  lossScale,
  mixedPrecision,
  type MixedPrecisionOptions,
  trainState,
  trainStep,
} from "../../src/optim/mod.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { compile, SOFTWARE } from "../gpu/support/compile.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose, EXACT } from "../support/tolerance.ts";
import { everywhere, wave } from "./problem.ts";

const HALVES = ["bf16", "f16"] as const;
/** Error of a value that went through a few roundings, relative to the largest of its tensor. */
const ROUNDING: Readonly<Record<FloatType, number>> = { f32: 1e-5, f16: 0.01, bf16: 0.06 };
const VOCABULARY = 12;

const MODEL = transformerLm({
  vocabulary: VOCABULARY,
  width: 8,
  layers: 2,
  heads: 2,
  deviation: 0.3,
  body: (layer) =>
    layer === 0
      ? feedForward({ width: 8, inner: 16, bias: true })
      : moe({ router: topKRouter({ width: 8, experts: 3, k: 2 }), width: 8, inner: 8 }),
});
type ModelParams = TransformerLmParams<object>;

/** Next-token loss over sequences that count up. */
function loss(params: ModelParams, ids: Tensor): Tensor {
  const output = MODEL.apply(params as Parameters<typeof MODEL.apply>[0], { ids }, { train: true });
  return languageModelLoss(output, tensor(NEXT, { shape: [3, 6], dtype: "u32" }), { coefficients: { balance: 0.01 } })
    .loss;
}

const IDS = Array.from({ length: 18 }, (_, i) => (i + Math.floor(i / 6)) % VOCABULARY);
const NEXT = IDS.map((id) => (id + 1) % VOCABULARY);

function idsOf(): Tensor {
  return tensor(IDS, { shape: [3, 6], dtype: "u32" });
}

everywhere("mixedPrecision() rounds what a function reads, by the rule, and keeps what it is told to", async () => {
  for (const compute of HALVES) {
    const policy = mixedPrecision({ compute, keep: (path) => path === ".kept" });
    const params = { weight: wave([3, 2], 1), kept: wave([2], 2), table: tensor([1, 2], { dtype: "u32" }) };
    const seen: string[] = [];
    const product = policy.wrap(({ weight, kept, table }: typeof params, x: Tensor) => {
      seen.push(weight.dtype, kept.dtype, table.dtype, x.dtype);
      return mul(matmul(x, mul(weight, 1)), kept);
    });
    const x = wave([4, 3], 3);
    const values = await read({ ...params, x, product: product(params, x) });
    const [rounded, kept] = [values.weight.map((value) => nearestOf(compute, value)), values.kept];
    const expected = Array.from({ length: 8 }, (_, i) => {
      const [row, column] = [i >> 1, i & 1];
      return [0, 1, 2].reduce((total, at) => total + values.x[3 * row + at]! * rounded[2 * at + column]!, 0) *
        kept[column]!;
    });
    assertEquals(seen, [compute, "f32", "u32", "f32"]);
    assertClose(values.product, expected, { relative: 1e-5, absolute: 1e-6 }, compute);
  }
});

oracleTest("mixedPrecision() stores parameters in the type asked for, rounded to nearest", async () => {
  const policy = mixedPrecision({ parameters: "bf16", compute: "f32" });
  const params = { weight: wave([5], 1), norm: { scale: wave([5], 2) } };
  const stored = policy.store(params);
  assertEquals([stored.weight.dtype, stored.norm.scale.dtype], ["bf16", "f32"]);
  assertEquals(policy.round(stored).weight.dtype, "f32");
  const [before, after] = await read([params.weight, stored.weight] as const);
  assertEquals([...after], Array.from(before, (value) => nearestOf("bf16", value)));
});

Deno.test("isGateOrNorm() chooses routers and norms, not the experts' gated matrices", () => {
  const paths = [
    ".blocks[0].attentionNorm.scale",
    ".norm.scale",
    ".blocks[3].body.router.gate",
    ".blocks[0].body.slots",
    ".blocks[0].body.experts.gate",
    ".blocks[0].body.gate.weight",
    ".blocks[0].attention.output.weight",
    ".embedding.weight",
    "",
  ];
  assertEquals(paths.map(isGateOrNorm), [true, true, true, true, false, false, false, false, false]);
});

function checkStream(compute: "bf16" | "f16"): void {
  const policy = mixedPrecision({ compute });
  const run = policy.wrap((params: ReturnType<typeof MODEL.init>) => MODEL.apply(params, { ids: idsOf() }));
  const { logits, plans } = run(MODEL.init(key(0)));
  const plan = plans[1]!;
  // Activations follow the parameters; what is decided about them does not.
  assertEquals([logits.dtype, plan.weight.dtype, plan.aux["balance"]!.dtype], [compute, "f32", "f32"]);
  assertEquals(policy.wrap(loss)(MODEL.init(key(0)), idsOf()).dtype, "f32");
}

for (const compute of HALVES) {
  oracleTest(
    `a model in ${compute} has ${compute} activations, an f32 gate and an f32 loss`,
    () => checkStream(compute),
  );

  gpuTest(`gradients of a model in ${compute} are f32 and near those of f32`, async () => {
    const params = mapTree(MODEL.init(key(1)), (leaf) => leaf);
    const exact = grad(loss)(params, idsOf());
    const found = grad(mixedPrecision({ compute }).wrap(loss))(params, idsOf());
    for (const [i, [path, leaf]] of leavesOf(found).entries()) {
      const [values, wanted] = await read([leaf, leavesOf(exact)[i]![1]] as const);
      const scale = Math.max(...wanted.map(Math.abs));
      assertEquals(leaf.dtype, "f32", path);
      assert(scale > 0, path);
      assertClose(
        values.map((value) => value / scale),
        wanted.map((value) => value / scale),
        { relative: 0, absolute: ROUNDING[compute] },
        path,
      );
    }
  });
}

/** Losses of the first and the last of some Adam steps. */
async function lossesIn(options: MixedPrecisionOptions): Promise<readonly number[]> {
  const policy = mixedPrecision(options);
  const optimizer = adam({ learningRate: 3e-3 });
  const scaled = options.compute === "f16" ? { lossScale: lossScale({ initial: 2 ** 10 }) } : {};
  const step = trainStep({ loss: policy.wrap(loss), optimizer, ...scaled });
  const params: ModelParams = policy.store(MODEL.init(key(2)));
  let state = trainState({ params, optimizer, key: key(3), ...scaled });
  const losses: Tensor[] = [];
  for (let i = 0; i < 60; i++) {
    const [next, metrics] = step(state, idsOf());
    state = next;
    losses.push(metrics.loss);
  }
  for (const [path, leaf] of leavesOf(state.params)) {
    assertEquals(leaf.dtype, isGateOrNorm(path) ? "f32" : policy.parameters, path);
  }
  for (const [path, leaf] of leavesOf(state.optimizer)) assert(leaf.dtype === "f32" || leaf.dtype === "u32", path);
  return (await read([losses[0]!, losses.at(-1)!])).map(([value]) => value!);
}

gpuTest("a model trains in bf16, in f16 and with bf16 parameters as it does in f32", async () => {
  const wide = await lossesIn({ compute: "f32" });
  assert(wide[1]! < 0.3 * wide[0]!, `${wide}`);
  for (
    const options of [
      { compute: "bf16" },
      { compute: "f16" },
      { parameters: "bf16", compute: "bf16" },
      { parameters: "f16", compute: "f16" },
    ] as const
  ) {
    const narrow = await lossesIn(options);
    assertClose(narrow, wide, { relative: 0.1, absolute: 0.02 }, JSON.stringify(options));
  }
});

gpuTest("updates are added in f32 and rounded once, and Adam's moments of bf16 parameters are f32", async () => {
  const params = { weight: tensor([1, 256, 0.3], { dtype: "bf16" }) };
  const updates = { weight: tensor([2 ** -9, 1.5, 0.01]) };
  const before = await params.weight.data();
  const { weight } = applyUpdates(params, updates);
  const expected = [...before].map((value, i) => nearestOf("bf16", value + [2 ** -9, 1.5, Math.fround(0.01)][i]!));
  assertEquals([weight.dtype, ...await weight.data()], ["bf16", ...expected]);
  // The smallest step of the first is 2^-7, so its update was lost; of f32 parameters it is not.
  assertEquals(expected.slice(0, 2), [1, 258]);
  const optimizer = adam({ learningRate: 0.1 });
  const [, state] = optimizer.update(params, optimizer.init(params), params);
  for (const [, leaf] of leavesOf(state)) assert(leaf.dtype !== "bf16");
});

gpuTest("small gradients vanish in f16 unless the loss is scaled", async () => {
  const policy = mixedPrecision({ compute: "f16" });
  const tiny = policy.wrap((w: Tensor, x: Tensor) => mean(mul(square(sub(matmul(x, w), 1)), 1e-9)));
  const x = tensor([[1, 2], [3, -1]], { dtype: "f16" });
  async function normOf(options: { readonly lossScale?: ReturnType<typeof lossScale> }): Promise<number> {
    const optimizer = adam({ learningRate: 0 });
    const step = trainStep({
      loss: tiny,
      optimizer,
      measure: ({ grads }) => ({ norm: globalNorm(grads) }),
      ...options,
    });
    const state = trainState({ params: tensor([[0.5], [0.25]]), optimizer, key: key(0), ...options });
    const [, { norm }] = step(state, x);
    return await norm.item();
  }
  const exact = await globalNorm(
    grad((w: Tensor) => mean(mul(square(sub(matmul(mul(x, scalar(1)), w), 1)), 1e-9)))(tensor([[0.5], [0.25]])),
  ).item();
  assertEquals(await normOf({}), 0);
  assertClose([await normOf({ lossScale: lossScale({ initial: 2 ** 20 }) })], [exact], {
    relative: 5e-3,
    absolute: 0,
  }, "norm");
});

everywhere("mixedPrecision() in f32 changes nothing", async () => {
  const { round, store } = mixedPrecision({ compute: "f32" });
  const x = wave([3], 0);
  assertEquals([round(x), store(x)], [x, x]);
  assertClose(await round(x).data(), await x.data(), EXACT, "x");
});

Deno.test("computing in f16 on an adapter without it is refused by name, in bf16 it is not", () => {
  const adapter = { ...SOFTWARE, name: "Old GPU", f16: false };
  const weight = { shape: [3, 3], dtype: "f32" } as const;
  function compileIn(type: FloatType): void {
    const { wrap } = mixedPrecision({ compute: type });
    compile((x) => wrap((w: Tensor) => mean(matmul(w, w)))(x!), [weight], { adapter });
  }
  compileIn("bf16");
  const error = assertThrows(() => compileIn("f16"), DTypeError);
  assertEquals(error.code, "dtype/no-f16");
  assert(error.message.endsWith("Fix: use bf16, which every adapter stores, or f32"), error.message);
});

Deno.test("mixedPrecision() lists every invalid option", () => {
  const wrong = { parameters: "f64", compute: "bf8", keep: "norm" };
  assertEquals(
    assertThrows(() => mixedPrecision(wrong as unknown as MixedPrecisionOptions), ConfigError).message,
    `Cannot build mixedPrecision: 3 options are invalid
  parameters  "f64"   must be one of f32, bf16, f16; did you mean f32?
  compute     "bf8"   must be one of f32, bf16, f16; did you mean bf16?
  keep        "norm"  must be a function`,
  );
});
