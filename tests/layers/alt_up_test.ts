import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { altUp, type AltUpParams } from "../../src/layers/alt_up.ts";
import { causalSelfAttention } from "../../src/layers/causal_self_attention.ts";
import type { Layer } from "../../src/layers/layer.ts";
import { linear } from "../../src/layers/linear.ts";
import { moe } from "../../src/layers/moe.ts";
import { recycledAltUp } from "../../src/layers/recycled_alt_up.ts";
import { sequential } from "../../src/layers/sequential.ts";
import { transformerBlock } from "../../src/layers/transformer_block.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sliceAxis } from "../../src/ops/slice.ts";
import { hashRouter } from "../../src/routing/hash_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { normalTensor } from "../support/draw.ts";

type Empty = Readonly<Record<string, never>>;

const F64 = { relative: 1e-12, absolute: 1e-12 };
const F32 = { relative: 1e-5, absolute: 1e-5 };

/** z -> 2z + 1, the layer of the specification's examples. */
const doubling: Layer<Empty, Tensor, Tensor> = {
  name: "doubling",
  init: () => ({}),
  apply: (_params, z) => add(mul(z, 2), 1),
};

checkLayer({
  layer: altUp({ layer: linear({ inputs: 3, outputs: 3 }), width: 3, blocks: 2, index: 3 }),
  name: "altUp(linear(3 -> 3), block 1 of 2)",
  params: { ".layer.weight": "f32[3, 3]", ".layer.bias": "f32[3]", ".prediction": "f32[4]", ".correction": "f32[2]" },
  inputs: [{ shape: [2, 5, 6] }],
  tolerance: F32,
});

checkLayer({
  layer: altUp({
    layer: linear({ inputs: 2, outputs: 2 }),
    width: 2,
    blocks: 3,
    reads: "predicted",
    selection: "same",
  }),
  name: "altUp(linear(2 -> 2), block 0 of 3)",
  params: { ".layer.weight": "f32[2, 2]", ".layer.bias": "f32[2]", ".prediction": "f32[9]", ".correction": "f32[3]" },
  inputs: [{ shape: [6] }],
  tolerance: F32,
});

checkLayer({
  layer: recycledAltUp({
    layer: sequential(
      altUp({ layer: linear({ inputs: 3, outputs: 3 }), width: 3, index: 0 }),
      altUp({ layer: doubling, width: 3, index: 1 }),
    ),
    width: 3,
  }),
  name: "recycledAltUp(sequential(altUp(linear(3 -> 3), block 0 of 2), altUp(doubling, block 1 of 2)), 2 x 3)",
  params: {
    "[0].layer.weight": "f32[3, 3]",
    "[0].layer.bias": "f32[3]",
    "[0].prediction": "f32[4]",
    "[0].correction": "f32[2]",
    "[1].prediction": "f32[4]",
    "[1].correction": "f32[2]",
  },
  inputs: [{ shape: [5, 3] }],
  tolerance: F32,
});

const STREAM = [1, 2, 3, -1];
/** Made anew for each runtime. */
function learned(): AltUpParams<Empty> {
  return { layer: {}, prediction: tensor([1, 0.5, -0.25, 1]), correction: tensor([1, 0.5]) };
}

async function checkSpecified(): Promise<void> {
  const x = tensor(STREAM);
  const [block, predicted] = (["block", "predicted"] as const).map((reads) =>
    altUp({ layer: doubling, width: 2, reads })
  );
  const data = await read({
    learned: block!.apply(learned(), x),
    start: block!.apply(block!.init(key(0)), x),
    predicted: predicted!.apply(learned(), x),
  });
  assertEquals([...data.learned], [3, 5, 3, 0.25]);
  assertEquals([...data.start], [3, 5, 5, 2]);
  assertEquals([...data.predicted], [6, 4, 4.5, -0.25]);
}

oracleTest("altUp() has the values of the specification's example", checkSpecified);
gpuTest("altUp() has the values of the specification's example", checkSpecified);

oracleTest("altUp() is a loop over tokens, blocks and elements", async () => {
  const [K, D, T, active] = [3, 2, 5, 1];
  const layer = altUp({ layer: doubling, width: D, blocks: K, index: 4 });
  const [x, prediction, correction] = [normalTensor([T, K * D], 1), normalTensor([K * K], 2), normalTensor([K], 3)];
  const data = await read({
    x,
    prediction,
    correction,
    out: layer.apply({ layer: {}, prediction, correction }, x),
  });
  const expected: number[] = [];
  for (let t = 0; t < T; t++) {
    const at = (block: number, d: number) => data.x[t * K * D + block * D + d]!;
    const predicted = (block: number, d: number) =>
      [0, 1, 2].reduce((sum, j) => sum + data.prediction[block * K + j]! * at(j, d), 0);
    for (let i = 0; i < K; i++) {
      for (let d = 0; d < D; d++) {
        const gained = 2 * at(active, d) + 1 - predicted(active, d);
        expected.push(predicted(i, d) + data.correction[i]! * gained);
      }
    }
  }
  assertClose(data.out, expected, F64, "stream");
});

oracleTest("altUp() starts by giving every block the increment of the computed one, whichever that is", async () => {
  const inner = linear({ inputs: 3, outputs: 3 });
  for (const [index, selection, active] of [[0, "alternating", 0], [5, "alternating", 2], [5, "same", 0]] as const) {
    const layer = altUp({ layer: inner, width: 3, blocks: 3, index, selection });
    const params = layer.init(key(1));
    const x = normalTensor([4, 9], 2);
    const block = sliceAxis(x, 1, { start: active * 3, stop: active * 3 + 3 });
    const { before, out, read: own, made } = await read({
      before: x,
      out: layer.apply(params, x),
      read: block,
      made: inner.apply(params.layer, block),
    });
    const expected = Array.from(before, (value, at) => {
      const from = Math.floor(at / 9) * 3 + at % 3;
      return value + made[from]! - own[from]!;
    });
    assertClose(out, expected, F64, layer.name);
  }
});

oracleTest("recycledAltUp() copies at the start and sums at the end", async () => {
  const layer = recycledAltUp({ layer: altUp({ layer: doubling, width: 2, blocks: 3 }), width: 2, blocks: 3 });
  const out = layer.apply(layer.init(key(0)), tensor([[1, -2], [0, 5]]));
  // From the identity start each of three copies becomes 2z + 1.
  assertEquals([...await out.data()], [9, -9, 3, 33]);
});

oracleTest("altUp() hands ids and masks to a routed block and returns its plan", async () => {
  const router = hashRouter({ experts: 3, vocabulary: 5 });
  const block = () =>
    transformerBlock({
      width: 4,
      attention: causalSelfAttention({ width: 4, heads: 2 }),
      body: moe({ router, width: 4, inner: 3 }),
    });
  const layer = recycledAltUp({ layer: altUp({ layer: block(), width: 4, index: 1 }), width: 4 });
  const input = {
    hidden: normalTensor([2, 3, 4], 1),
    ids: tensor([0, 1, 2, 3, 4, 0], { shape: [2, 3], dtype: "u32" }),
  };
  const params = layer.init(key(3));
  const { hidden, plan } = layer.apply(params, input);
  const alone = block().apply(params.layer, input);
  const data = await read({
    hidden,
    twice: mul(alone.hidden, 2),
    found: plan!.assignRow,
    wanted: alone.plan!.assignRow,
  });
  assertClose(data.hidden, data.twice, F64, "hidden states");
  assertEquals([...data.found], [...data.wanted]);
});

oracleTest("altUp() keeps the type of half-precision streams", () => {
  const layer = altUp({ layer: doubling, width: 2 });
  assertEquals(layer.apply(learned(), tensor(STREAM, { dtype: "f16" })).dtype, "f16");
});

Deno.test("altUp() and recycledAltUp() refuse bad options, all at once, and streams of another width", () => {
  const messageOf = (build: () => unknown) => assertThrows(build, ConfigError).message;
  assertEquals(
    messageOf(() =>
      altUp({ layer: {} as typeof doubling, width: 0, blocks: 1, index: -1, selection: "alternate" as "same" })
    ),
    `Cannot build altUp: 5 options are invalid
  layer      {}           must be a layer, with init and apply
  width      0            must be a whole number from 1 up
  blocks     1            must be a whole number from 2 up
  index      -1           must be a whole number from 0 up
  selection  "alternate"  must be one of alternating, same; did you mean alternating?`,
  );
  assertEquals(
    messageOf(() => recycledAltUp({ layer: doubling, width: 1.5, block: 2 } as never)),
    `Cannot build recycledAltUp: 2 options are invalid
  width  1.5  must be a whole number from 1 up
  block  2    unknown option; did you mean blocks?`,
  );
  const layer = altUp({ layer: doubling, width: 2 });
  assertEquals(
    assertThrows(() => layer.apply(learned(), tensor([1, 2, 3])), ShapeError).message,
    `Cannot apply altUp(doubling, block 0 of 2): the hidden states are f32[3], their last axis should have 4 elements
  last axis  2 blocks of 2
Fix: pass hidden states [..., 4]`,
  );
});
