import { assertAlmostEquals, assertEquals, assertNotEquals } from "@std/assert";
import { valueAndGrad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { causalSelfAttention } from "../../src/layers/causal_self_attention.ts";
import { embedding } from "../../src/layers/embedding.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import type { Layer } from "../../src/layers/layer.ts";
import { transformerBlock } from "../../src/layers/transformer_block.ts";
import { add } from "../../src/ops/binary.ts";
import { concat } from "../../src/ops/concat.ts";
import { ones } from "../../src/ops/creation.ts";
import { crossEntropy } from "../../src/ops/losses.ts";
import { key } from "../../src/ops/random.ts";
import { checkLayer } from "../support/check_layer.ts";
import { assertClose, fromGolden, type GoldenTensor, readGolden, type Tolerance } from "../support/check_primitive.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

type Names =
  | "embedding"
  | "norm1Scale"
  | "norm1Bias"
  | "wq"
  | "wk"
  | "wv"
  | "wo"
  | "norm2Scale"
  | "norm2Bias"
  | "w1"
  | "b1"
  | "w2"
  | "b2";

interface Golden {
  readonly sizes: Readonly<Record<"width" | "heads" | "inner" | "vocabulary", number>>;
  readonly epsilon: number;
  readonly rotaryBase: number;
  readonly ids: GoldenTensor;
  readonly targets: GoldenTensor;
  readonly params: Readonly<Record<Names, GoldenTensor>>;
  readonly loss: number;
  readonly stages: Readonly<Record<"hidden" | "logits", GoldenTensor>>;
  readonly gradients: Readonly<Record<Names, GoldenTensor>>;
}

const block = transformerBlock({
  width: 4,
  attention: causalSelfAttention({ width: 4, heads: 1 }),
  body: feedForward({ width: 4, inner: 3 }),
});

checkLayer({
  layer: block,
  name: "transformerBlock(rmsNorm(4), causalSelfAttention(4, 1 x 4), feedForward(4 -> 3, ffn, gelu))",
  params: {
    ".attentionNorm.scale": "f32[4]",
    ".attention.qkv.weight": "f32[4, 12]",
    ".attention.output.weight": "f32[4, 4]",
    ".bodyNorm.scale": "f32[4]",
    ".body.up.weight": "f32[4, 3]",
    ".body.down.weight": "f32[3, 4]",
  },
  inputs: [{ shape: [2, 3, 4] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden }) => [hidden],
  tolerance: { relative: 1e-5, absolute: 1e-5 },
});

/** The block of `transformer_block.py` between an embedding and its transpose: loss, logits and all gradients. */
async function checkGolden(tolerance: Tolerance): Promise<void> {
  const golden = await readGolden<Golden>("transformer_block.json");
  const { width, heads, inner, vocabulary } = golden.sizes;
  const tokens = embedding({ vocabulary, width });
  const goldenBlock = transformerBlock({
    width,
    attention: causalSelfAttention({ width, heads, rotaryBase: golden.rotaryBase }),
    body: feedForward({ width, inner, bias: true }),
    norm: "layerNorm",
    epsilon: golden.epsilon,
  });
  type Params = Readonly<Record<Names, Tensor>>;
  const step = jit(valueAndGrad((params: Params, ids: Tensor, targets: Tensor) => {
    const { hidden } = goldenBlock.apply({
      attentionNorm: { scale: params.norm1Scale, bias: params.norm1Bias },
      attention: {
        qkv: { weight: concat([params.wq, params.wk, params.wv], { axis: 1 }) },
        output: { weight: params.wo },
      },
      bodyNorm: { scale: params.norm2Scale, bias: params.norm2Bias },
      body: { up: { weight: params.w1, bias: params.b1 }, down: { weight: params.w2, bias: params.b2 } },
    }, { hidden: tokens.apply({ weight: params.embedding }, ids) });
    const logits = tokens.project({ weight: params.embedding }, hidden);
    return [crossEntropy(logits, targets), { hidden, logits }] as const;
  }));
  const params = Object.fromEntries(
    Object.entries(golden.params).map(([name, value]) => [name, fromGolden(value)]),
  ) as Record<Names, Tensor>;
  const { value, aux, grads } = step(params, fromGolden(golden.ids), fromGolden(golden.targets));
  assertAlmostEquals(await value.item(), golden.loss, tolerance.absolute);
  for (const stage of ["hidden", "logits"] as const) {
    assertClose(await aux[stage].data(), golden.stages[stage].data, tolerance, stage);
  }
  for (const [name, gradient] of Object.entries(golden.gradients)) {
    assertClose(await grads[name as Names].data(), gradient.data, tolerance, `gradient of ${name}`);
  }
}

oracleTest("transformerBlock() has JAX's loss and gradients", () => checkGolden({ relative: 1e-6, absolute: 1e-6 }));
gpuTest("transformerBlock() has JAX's loss and gradients", () => checkGolden({ relative: 2e-5, absolute: 2e-6 }));

oracleTest("transformerBlock() drops parts of both results while training", async () => {
  const dropping = transformerBlock({
    width: 4,
    attention: causalSelfAttention({ width: 4, heads: 1 }),
    body: feedForward({ width: 4 }),
    dropout: 0.5,
  });
  const params = dropping.init(key(1));
  const input = { hidden: ones([1, 3, 4]) };
  const run = (seed: number) => dropping.apply(params, input, { key: key(seed), train: true }).hidden.data();
  assertEquals(await run(1), await run(1));
  assertNotEquals(await run(1), await run(2));
  const plain = transformerBlock({
    width: 4,
    attention: causalSelfAttention({ width: 4, heads: 1 }),
    body: feedForward({ width: 4 }),
  });
  assertEquals(await dropping.apply(params, input).hidden.data(), await plain.apply(params, input).hidden.data());
});

oracleTest("transformerBlock() gives a routed body everything a router may look at, and returns its plan", async () => {
  const seen: string[] = [];
  const plan = { experts: 3 };
  const routed = {
    name: "routed",
    router: { causal: true },
    init: () => ({}),
    apply(_params: unknown, x: Readonly<Record<string, unknown>>) {
      seen.push(Object.keys(x).sort().join());
      return { hidden: add(x.hidden as Tensor, 1), plan };
    },
  };
  const routedBlock = transformerBlock({
    width: 4,
    attention: causalSelfAttention({ width: 4, heads: 1 }),
    // deno-lint-ignore no-explicit-any -- a stand-in for a mixture of experts
    body: routed as any,
    norm: "layerNorm",
  });
  const params = routedBlock.init(key(0));
  const ids = ones([2, 3], { dtype: "u32" });
  const output = routedBlock.apply(params, { hidden: ones([2, 3, 4]), ids, mask: ones([2, 3], { dtype: "bool" }) });
  assertEquals(output.plan as unknown, plan);
  assertEquals((await output.hidden.data()).length, 24);
  assertEquals(seen, ["hidden,ids,mask"]);
});

Deno.test("transformerBlock() infers the parameters of its body", () => {
  const doubled: Layer<{ readonly factor: Tensor }, Tensor, Tensor> = {
    name: "double",
    init: () => ({ factor: ones([]) }),
    apply: (_params, x) => add(x, x),
  };
  const attention = causalSelfAttention({ width: 4, heads: 1 });
  const { body } = transformerBlock({ width: 4, attention, body: doubled }).init(key(0));
  assertEquals(body.factor.shape, []);
});
