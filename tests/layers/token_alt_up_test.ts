import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { altUp } from "../../src/layers/alt_up.ts";
import type { Layer } from "../../src/layers/layer.ts";
import { linear } from "../../src/layers/linear.ts";
import { projectedAltUp } from "../../src/layers/projected_alt_up.ts";
import { tokenAltUp, type TokenAltUpParams } from "../../src/layers/token_alt_up.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { full, tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { checkLayer } from "../support/check_layer.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { normalTensor } from "../support/draw.ts";

type Empty = Readonly<Record<string, never>>;

const F64 = { relative: 1e-12, absolute: 1e-12 };
const F32 = { relative: 2e-5, absolute: 2e-5 };
const [K, D, T] = [3, 4, 5];

const doubling: Layer<Empty, Tensor, Tensor> = {
  name: "doubling",
  init: () => ({}),
  apply: (_params, z) => add(mul(z, 2), 1),
};

const unchanged: Layer<Empty, Tensor, Tensor> = { name: "unchanged", init: () => ({}), apply: (_params, z) => z };

checkLayer({
  layer: tokenAltUp({ layer: linear({ inputs: 3, outputs: 3 }), width: 3, blocks: 2, active: 1 }),
  name: "tokenAltUp(linear(3 -> 3), block 1 of 2)",
  params: {
    ".layer.weight": "f32[3, 3]",
    ".layer.bias": "f32[3]",
    ".scale": "f32[3]",
    ".features": "f32[3, 2]",
    ".prediction": "f32[2, 4]",
    ".correction": "f32[2, 2]",
  },
  inputs: [{ shape: [2, 3, 6] }],
  context: () => ({ train: true }),
  tolerance: F32,
});

checkLayer({
  layer: projectedAltUp({ layer: doubling, width: 3, blocks: 3 }),
  name: "projectedAltUp(doubling, 3 x 3)",
  params: { ".widen": "f32[2, 3, 3]", ".narrow": "f32[2, 3, 3]" },
  inputs: [{ shape: [5, 3] }],
  tolerance: F32,
});

/** Parameters away from their start. */
function learned(): TokenAltUpParams<Empty> {
  return {
    layer: {},
    scale: add(mul(normalTensor([D], 1), 0.1), 1),
    features: mul(normalTensor([D, K], 2), 3),
    prediction: normalTensor([K, K * K], 3),
    correction: normalTensor([K, K], 4),
  };
}

oracleTest("tokenAltUp() is a loop over tokens with coefficients of their own", async () => {
  const layer = tokenAltUp({ layer: doubling, width: D, blocks: K });
  const { layer: _none, ...params } = learned();
  const x = normalTensor([T, K * D], 5);
  const data = await read({ x, params, out: layer.apply(learned(), x) });
  const { scale, features, prediction, correction } = data.params;
  function featuresOf(z: readonly number[]): number[] {
    const root = Math.sqrt(z.reduce((total, value) => total + value * value, 0) / D + 1e-6);
    return Array.from(
      { length: K },
      (_, f) =>
        Math.tanh(z.reduce((total, value, d) => total + value / root * scale[d]! / D * features[d * K + f]!, 0)),
    );
  }
  const dot = (m: readonly number[], weights: ArrayLike<number>, column: number, columns: number) =>
    m.reduce((total, value, f) => total + value * weights[f * columns + column]!, 0);
  const expected: number[] = [];
  for (let t = 0; t < T; t++) {
    const blocks = Array.from(
      { length: K },
      (_, i) => Array.from({ length: D }, (_, d) => data.x[(t * K + i) * D + d]!),
    );
    const before = featuresOf(blocks[0]!);
    const predicted = blocks.map((block, i) =>
      block.map((value, d) =>
        blocks.reduce((total, other, j) => total + dot(before, prediction, i * K + j, K * K) * other[d]!, value)
      )
    );
    const computed = predicted[0]!.map((value) => 2 * value + 1);
    const after = featuresOf(computed);
    for (let i = 0; i < K; i++) {
      const gain = 1 + dot(after, correction, i, K);
      for (let d = 0; d < D; d++) expected.push(predicted[i]![d]! + gain * (computed[d]! - predicted[0]![d]!));
    }
  }
  assertClose(data.out, expected, F64, "stream");
});

oracleTest("tokenAltUp() starts as altUp() does", async () => {
  const [x, inner] = [normalTensor([T, K * D], 6), linear({ inputs: D, outputs: D })];
  const byToken = tokenAltUp({ layer: inner, width: D, blocks: K });
  const shared = altUp({ layer: inner, width: D, blocks: K });
  const params = byToken.init(key(1));
  const { actual, expected } = await read({
    actual: byToken.apply(params, x),
    expected: shared.apply({ ...shared.init(key(2)), layer: params.layer }, x),
  });
  assertClose(actual, expected, F64, "stream");
});

oracleTest("tokenAltUp() bounds its weights but not their gradients, the prediction's in training only", async () => {
  const layer = tokenAltUp({ layer: doubling, width: D, blocks: K, clip: 2 });
  const x = normalTensor([T, K * D], 7);
  function outputs(prediction: number, correction: number, train: boolean): Tensor {
    const weights = { prediction: full([K, K * K], prediction), correction: full([K, K], correction) };
    return layer.apply({ ...learned(), ...weights }, x, { train });
  }
  const data = await read({
    bounded: outputs(5, -5, true),
    bound: outputs(2, -2, true),
    evaluated: outputs(5, -5, false),
    free: outputs(5, -2, false),
  });
  assertClose(data.bounded, data.bound, F64, "both bounded in training");
  assertClose(data.evaluated, data.free, F64, "the correction alone outside");
  const gradient = await grad((correction: Tensor) => sum(square(layer.apply({ ...learned(), correction }, x))))(
    full([K, K], 9),
  ).data();
  assertEquals(gradient.every((value) => value !== 0), true);
});

oracleTest("projectedAltUp() gives each projection the magnitude of the hidden states, at both ends", async () => {
  const layer = projectedAltUp({ layer: unchanged, width: 2, blocks: 2 });
  const params = { layer: {}, widen: tensor([[[0, 7], [7, 0]]]), narrow: tensor([[[0, 0.5], [0.5, 0]]]) };
  // Swapped and seven times as large, scaled back; then swapped back and doubled: the mean of two equal blocks.
  assertClose(await layer.apply(params, tensor([[3, -1], [0.5, 2]])).data(), [3, -1, 0.5, 2], F64, "hidden states");
  const mirrored = { ...params, narrow: tensor([[[4, 0], [0, 4]]]) };
  assertClose(await layer.apply(mirrored, tensor([[3, -1]])).data(), [1, 1], F64, "mean with the swapped block");
});

oracleTest("projectedAltUp() has finite values and gradients for rows of zeros", async () => {
  const layer = projectedAltUp({ layer: tokenAltUp({ layer: doubling, width: 2 }), width: 2 });
  const params = layer.init(key(0));
  const loss = (x: Tensor) => sum(square(layer.apply(params, x)));
  const { value, gradient } = await read({ value: loss(zeros([1, 2])), gradient: grad(loss)(zeros([1, 2])) });
  assertEquals([...value, ...gradient].every(Number.isFinite), true);
});

Deno.test("tokenAltUp() and projectedAltUp() refuse bad options, all at once", () => {
  const messageOf = (build: () => unknown) => assertThrows(build, ConfigError).message;
  assertEquals(
    messageOf(() => tokenAltUp({ layer: doubling, width: 2, clip: 0, epsilon: -1 })),
    `Cannot build tokenAltUp: 2 options are invalid
  clip     0   must be a number above 0
  epsilon  -1  must be a number from 0 up`,
  );
  assertEquals(
    messageOf(() => tokenAltUp({ layer: doubling, width: 2, blocks: 2, active: 2 })),
    `Cannot build tokenAltUp: 1 option is invalid
  active  2  must be a whole number in 0..1 (blocks is 2)`,
  );
  assertEquals(
    messageOf(() => projectedAltUp({ layer: doubling, width: 0, blocks: 0 })),
    `Cannot build projectedAltUp: 2 options are invalid
  width   0  must be a whole number from 1 up
  blocks  0  must be a whole number from 2 up`,
  );
});
