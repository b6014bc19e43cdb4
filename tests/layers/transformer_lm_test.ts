import { assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { grad, valueAndGrad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import type { Key } from "../../src/core/key.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { leavesOf, mapTree } from "../../src/core/tree.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { languageModelLoss } from "../../src/layers/language_model_loss.ts";
import { moe } from "../../src/layers/moe.ts";
import { type DecodeState, transformerLm, type TransformerLmLayer } from "../../src/layers/transformer_lm.ts";
import { cast } from "../../src/ops/cast.ts";
import { scalar, tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import type { DispatchPlan } from "../../src/routing/plan_types.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { assertClose, type Tolerance } from "../support/check_primitive.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const CLOSE: Tolerance = { relative: 1e-5, absolute: 1e-5 };
const VOCABULARY = 11;
const IDS = [[1, 5, 2, 9, 0, 3, 3], [10, 4, 4, 8, 6, 7, 1]] as const;

const model = transformerLm({
  vocabulary: VOCABULARY,
  width: 6,
  layers: 2,
  heads: 3,
  body: (layer) => feedForward({ width: 6, inner: 4 + layer }),
  deviation: 0.5,
});

const sparse = transformerLm({
  vocabulary: VOCABULARY,
  width: 6,
  layers: 2,
  heads: 1,
  body: (layer) =>
    layer === 0
      ? feedForward({ width: 6, inner: 4 })
      : moe({ router: topKRouter({ width: 6, experts: 3, k: 2, weights: "normalized" }), width: 6, inner: 5 }),
  deviation: 0.5,
});

function idsOf(rows: readonly (readonly number[])[]): Tensor {
  return tensor(rows, { dtype: "u32" });
}

/** Row `position` of sequence `row`. */
function rowAt(logits: ArrayLike<number>, row: number, position: number, length: number): number[] {
  const start = (row * length + position) * VOCABULARY;
  return Array.from(logits).slice(start, start + VOCABULARY);
}

checkLayer({
  layer: transformerLm({
    vocabulary: 5,
    width: 4,
    layers: 1,
    heads: 1,
    norm: "layerNorm",
    body: () => feedForward({ width: 4, inner: 3 }),
  }),
  name: "transformerLm(5, 1 x 4)",
  params: {
    ".embedding.weight": "f32[5, 4]",
    ".blocks[0].attentionNorm.scale": "f32[4]",
    ".blocks[0].attentionNorm.bias": "f32[4]",
    ".blocks[0].attention.qkv.weight": "f32[4, 12]",
    ".blocks[0].attention.output.weight": "f32[4, 4]",
    ".blocks[0].bodyNorm.scale": "f32[4]",
    ".blocks[0].bodyNorm.bias": "f32[4]",
    ".blocks[0].body.up.weight": "f32[4, 3]",
    ".blocks[0].body.down.weight": "f32[3, 4]",
    ".norm.scale": "f32[4]",
    ".norm.bias": "f32[4]",
  },
  inputs: [{ shape: [2, 3], dtype: "u32", range: [0, 5] }],
  input: (ids) => ({ ids: ids! }),
  output: ({ logits }) => [logits],
  tolerance: { relative: 1e-5, absolute: 1e-5 },
});

oracleTest("transformerLm() does not let a later token change an earlier prediction", async () => {
  const params = model.init(key(1));
  const before = await model.apply(params, { ids: idsOf([IDS[0]]) }).logits.data();
  for (let last = 1; last < 7; last++) {
    const changed = IDS[0].map((id, i) => i < last ? id : (id + 1) % VOCABULARY);
    const after = await model.apply(params, { ids: idsOf([changed]) }).logits.data();
    assertEquals(after.slice(0, last * VOCABULARY), before.slice(0, last * VOCABULARY));
  }
});

async function checkGeneration<P>(generator: TransformerLmLayer<P>): Promise<void> {
  const params = generator.init(key(1));
  const whole = await generator.apply(params, { ids: idsOf(IDS) }).logits.data();
  const step = jit((token: Tensor, before: DecodeState) => {
    const { logits, state } = generator.decodeStep(params, token, before);
    return { logits, state };
  }, { donate: [1] });
  let { logits, state } = generator.prefill(params, { ids: idsOf(IDS.map((row) => row.slice(0, 3))) }, 7);
  for (let position = 2; position < 7; position++) {
    const data = await logits.data();
    for (const row of [0, 1]) {
      const found = Array.from(data).slice(row * VOCABULARY, (row + 1) * VOCABULARY);
      assertClose(found, rowAt(whole, row, position, 7), CLOSE, `sequence ${row}, position ${position}`);
    }
    if (position === 6) break;
    ({ logits, state } = step(tensor(IDS.map((row) => row[position + 1]!), { dtype: "u32" }), state));
  }
  assertEquals(step.traces, 1);
  assertEquals([...await state.positions.data()], [7, 7]);
}

gpuTest("transformerLm() generates with a cache what it computes at once, with one trace", async () => {
  await checkGeneration(model);
});

gpuTest("transformerLm() generates through routed bodies what it computes at once", async () => {
  await checkGeneration(sparse);
});

oracleTest("transformerLm() returns the plan of each routed body, and its losses reach the gate", async () => {
  const params = sparse.init(key(1));
  const { plans } = sparse.apply(params, { ids: idsOf(IDS) });
  assertEquals(plans.map((plan) => plan?.assignments ?? null), [null, 28]);
  const gradients = grad((p: typeof params) => {
    const output = sparse.apply(p, { ids: idsOf(IDS) });
    return languageModelLoss(output, idsOf(IDS), { coefficients: { balance: 0.1 } }).loss;
  })(params);
  for (const [path, leaf] of leavesOf(gradients)) {
    assertEquals((await leaf.data()).some((value) => value !== 0), true, path);
  }
});

gpuTest("transformerLm() gives dropout and routers keys of their own while training", async () => {
  const random = transformerLm({
    vocabulary: VOCABULARY,
    width: 6,
    layers: 2,
    heads: 1,
    dropout: 0.2,
    body: () => moe({ router: topKRouter({ width: 6, experts: 3, k: 1, jitter: 0.1 }), width: 6, inner: 5 }),
  });
  const params = random.init(key(1));
  const step = jit((p: typeof params, from: Key) => {
    const loss = (q: typeof params) => {
      return languageModelLoss(random.apply(q, { ids: idsOf(IDS) }, { key: from, train: true }), idsOf(IDS)).loss;
    };
    return valueAndGrad(loss)(p).value;
  });
  const draw = async (seed: number) => await step(params, key(seed)).item();
  assertEquals(await draw(1), await draw(1));
  assertNotEquals(await draw(1), await draw(2));
  assertEquals(step.traces, 1);
  assertThrows(() => random.apply(params, { ids: idsOf(IDS) }, { train: true }), ConfigError, "has no key");
});

oracleTest("transformerLm() routes padding nowhere", async () => {
  const mask = tensor([[true, true, true, true, true, true, true], [true, true, true, false, false, false, false]]);
  const { plans } = sparse.apply(sparse.init(key(1)), { ids: idsOf(IDS), mask });
  const counts = Array.from(await plans[1]!.stats.counts.data());
  assertEquals(counts.reduce((sum, count) => sum + count, 0), 2 * 10);
});

oracleTest("transformerLm() generates from prompts of different lengths side by side", async () => {
  const params = model.init(key(1));
  const whole = await model.apply(params, { ids: idsOf(IDS) }).logits.data();
  const lengths = tensor([2, 4], { dtype: "u32" });
  const padded = idsOf([[...IDS[0].slice(0, 2), 0, 0], IDS[1].slice(0, 4)]);
  const start = model.prefill(params, { ids: padded, lengths }, 7);
  const next = model.decodeStep(params, tensor([IDS[0][2], IDS[1][4]], { dtype: "u32" }), start.state);
  const [first, second] = [await start.logits.data(), await next.logits.data()];
  assertClose(first, [...rowAt(whole, 0, 1, 7), ...rowAt(whole, 1, 3, 7)], CLOSE, "after the prompts");
  assertClose(second, [...rowAt(whole, 0, 2, 7), ...rowAt(whole, 1, 4, 7)], CLOSE, "one token later");
});

gpuTest("transformerLm() computes with parameters cast to half precision", async () => {
  const params = model.init(key(1));
  const halved = mapTree(params, (leaf) => cast(leaf, "bf16"));
  const full = await model.apply(params, { ids: idsOf(IDS) }).logits.data();
  const { logits } = model.apply(halved, { ids: idsOf(IDS) });
  assertEquals(logits.dtype, "bf16");
  assertClose(await logits.data(), full, { relative: 0.05, absolute: 0.05 }, "bf16 logits");
  const gradients = grad((p: typeof params) => {
    return languageModelLoss(model.apply(p, { ids: idsOf(IDS) }), idsOf(IDS)).loss;
  })(halved);
  for (const [path, leaf] of leavesOf(gradients)) assertEquals(leaf.dtype, "bf16", path);
  assertEquals((await gradients.norm.scale.data()).every(Number.isFinite), true);
});

oracleTest("transformerLm() predicts all tokens alike before training", async () => {
  const fresh = transformerLm({ width: 16, layers: 2, heads: 2, body: () => feedForward({ width: 16 }) });
  const params = fresh.init(key(3));
  const { loss } = languageModelLoss(fresh.apply(params, { ids: idsOf(IDS) }), idsOf(IDS));
  assertAlmostEquals(await loss.item(), Math.log(256), 0.2);
});

oracleTest("languageModelLoss() adds auxiliary losses of all blocks by their coefficients", async () => {
  const plan = (balance: number, zLoss: number) =>
    ({ aux: { balance: scalar(balance), zLoss: scalar(zLoss) } }) as unknown as DispatchPlan;
  const output = { logits: zeros([1, 2, 4]), plans: [plan(1, 10), null, plan(2, 20)] };
  const targets = idsOf([[0, 3]]);
  const { loss, crossEntropy, aux } = languageModelLoss(output, targets, { coefficients: { balance: 0.5 } });
  assertAlmostEquals(await crossEntropy.item(), Math.log(4), 1e-9);
  assertAlmostEquals(await loss.item(), Math.log(4) + 1.5, 1e-9);
  assertEquals([await aux.balance!.item(), await aux.zLoss!.item()], [3, 30]);
  const error = assertThrows(
    () => languageModelLoss(output, targets, { coefficients: { balanced: 1 } }),
    ConfigError,
  );
  assertEquals(
    error.message,
    [
      "Cannot weight auxiliary losses: no block has balanced",
      "  losses  balance, zLoss",
      "Fix: name losses that the routers put into plan.aux",
    ].join("\n"),
  );
});

Deno.test("transformerLm() names invalid options and ids of the wrong rank", () => {
  const options = { width: 6, layers: 0, head: 3, body: "ffn" };
  const error = assertThrows(
    () => transformerLm(options as unknown as Parameters<typeof transformerLm>[0]),
    ConfigError,
  );
  assertEquals(
    error.message,
    [
      "Cannot build transformerLm: 4 options are invalid",
      "  layers  0          must be a whole number from 1 up",
      "  heads   undefined  must be a whole number from 1 up",
      '  body    "ffn"      must be a function',
      "  head    3          unknown option; did you mean heads?",
    ].join("\n"),
  );
  const rank = assertThrows(
    () => model.apply(model.init(key(0)), { ids: tensor([1, 2], { dtype: "u32" }) }),
    ShapeError,
  );
  assertEquals(
    rank.message,
    [
      "Cannot read ids u32[2]: they should be [batch, sequence]",
      "  op  transformerLm",
      "Fix: reshape one sequence to [1, length]",
    ].join("\n"),
  );
});
