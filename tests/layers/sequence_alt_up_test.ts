import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { causalSelfAttention } from "../../src/layers/causal_self_attention.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import type { Layer } from "../../src/layers/layer.ts";
import { linear } from "../../src/layers/linear.ts";
import type { MoeInput } from "../../src/layers/moe.ts";
import { sequenceAltUp } from "../../src/layers/sequence_alt_up.ts";
import { transformerBlock } from "../../src/layers/transformer_block.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sliceAxis } from "../../src/ops/slice.ts";
import { checkLayer } from "../support/check_layer.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { normalTensor } from "../support/draw.ts";

type Empty = Readonly<Record<string, never>>;

/** z -> 2z + 1, the layer of the specification's examples. */
const doubling: Layer<Empty, Tensor, Tensor> = {
  name: "doubling",
  init: () => ({}),
  apply: (_params, z) => add(mul(z, 2), 1),
};

checkLayer({
  layer: sequenceAltUp({ layer: linear({ inputs: 3, outputs: 3 }), stride: 3 }),
  name: "sequenceAltUp(linear(3 -> 3), 1 of 3)",
  params: {
    ".layer.weight": "f32[3, 3]",
    ".layer.bias": "f32[3]",
    ".own": "f32[]",
    ".anchor": "f32[]",
    ".correction": "f32[]",
  },
  inputs: [{ shape: [2, 7, 3] }],
  tolerance: { relative: 1e-5, absolute: 1e-5 },
});

async function checkSpecified(): Promise<void> {
  const layer = sequenceAltUp({ layer: doubling });
  const x = tensor([[1], [2], [3], [4], [5]]);
  const learned = { layer: {}, own: tensor(0.75), anchor: tensor(0.25), correction: tensor(0.5) };
  const data = await read({ learned: layer.apply(learned, x), start: layer.apply(layer.init(key(0)), x) });
  assertEquals([...data.learned], [2, 2.75, 5, 5.75, 8]);
  assertEquals([...data.start], [3, 4, 7, 8, 11]);
}

oracleTest("sequenceAltUp() has the values of the specification's example", checkSpecified);
gpuTest("sequenceAltUp() has the values of the specification's example", checkSpecified);

oracleTest("sequenceAltUp() is a loop over positions", async () => {
  const [S, D, stride] = [8, 2, 3];
  const layer = sequenceAltUp({ layer: doubling, stride });
  const [own, anchor, correction] = [0.6, -0.3, 1.7];
  const params = { layer: {}, own: tensor(own), anchor: tensor(anchor), correction: tensor(correction) };
  const { x, out } = await read({ x: normalTensor([S, D], 1), out: layer.apply(params, normalTensor([S, D], 1)) });
  const expected = Array.from(x, (value, at) => {
    const first = x[Math.floor(at / D / stride) * stride * D + at % D]!;
    const gained = 2 * first + 1 - (own + anchor) * first;
    return own * value + anchor * first + correction * gained;
  });
  assertClose(out, expected, { relative: 1e-6, absolute: 1e-6 }, "positions");
});

oracleTest("sequenceAltUp() stays causal around a causal block", async () => {
  const layer = sequenceAltUp({
    layer: transformerBlock({
      width: 4,
      attention: causalSelfAttention({ width: 4, heads: 2 }),
      body: feedForward({ width: 4 }),
    }),
  });
  const [params, hidden] = [layer.init(key(1)), normalTensor([1, 7, 4], 2)];
  const all = await layer.apply(params, { hidden }).hidden.data();
  for (const length of [1, 2, 5, 6]) {
    const prefix = layer.apply(params, { hidden: sliceAxis(hidden, 1, { stop: length }) }).hidden;
    assertClose(await prefix.data(), all.slice(0, length * 4), { relative: 1e-9, absolute: 1e-9 }, `${length} tokens`);
  }
});

oracleTest(
  "sequenceAltUp() hands the anchors' ids, positions and mask to its layer, and all of its output on",
  async () => {
    const seen: MoeInput[] = [];
    const recording: Layer<Empty, MoeInput, { readonly hidden: Tensor; readonly extra: string }> = {
      name: "recording",
      init: () => ({}),
      apply(_params, x) {
        seen.push(x);
        return { hidden: x.hidden, extra: "kept" };
      },
    };
    const layer = sequenceAltUp({ layer: recording, stride: 3 });
    const ids = tensor([0, 1, 2, 3, 4, 5, 6, 7], { shape: [2, 4], dtype: "u32" });
    const mask = tensor([true, true, true, true, true, false, false, false], { shape: [2, 4] });
    const output = layer.apply(layer.init(key(0)), { hidden: zeros([2, 4, 3]), ids, mask });
    assertEquals([output.hidden.shape, output.extra], [[2, 4, 3], "kept"]);
    const { hidden, ...rest } = seen[0]!;
    const data = await read({ ids: rest.ids!, mask: rest.mask!, positions: rest.positions! });
    assertEquals(hidden.shape, [2, 2, 3]);
    assertEquals([[...data.ids], [...data.mask], [...data.positions]], [[0, 3, 4, 7], [1, 1, 1, 0], [0, 3]]);
  },
);

Deno.test("sequenceAltUp() refuses bad options, all at once, and hidden states without positions", () => {
  assertEquals(
    assertThrows(() => sequenceAltUp({ layer: 3 as never, stride: 1, blocks: 2 } as never), ConfigError).message,
    `Cannot build sequenceAltUp: 3 options are invalid
  layer   3  must be a layer, with init and apply
  stride  1  must be a whole number from 2 up
  blocks  2  unknown option; the options are layer, stride`,
  );
  const layer = sequenceAltUp({ layer: doubling });
  assertEquals(
    assertThrows(() => layer.apply(layer.init(key(0)), zeros([4])), ShapeError).message,
    `Cannot apply sequenceAltUp(doubling, 1 of 2): the hidden states are f32[4], there is no axis of positions
Fix: pass hidden states [..., positions, width]`,
  );
});
