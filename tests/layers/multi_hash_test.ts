import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { multiHash, type MultiHashParams } from "../../src/layers/multi_hash.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { take } from "../../src/ops/gather.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { reshape } from "../../src/ops/view.ts";
import { multiHashRouter } from "../../src/routing/multi_hash_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { assertClose } from "../support/check_primitive.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const TOLERANCE = { relative: 1e-5, absolute: 1e-5 };
const IDS = [3, 0, 1, 3, 2, 1];

checkLayer({
  layer: multiHash({
    router: multiHashRouter({ experts: 3, segments: 2, vocabulary: 4 }),
    width: 4,
    inner: 6,
    activation: "gelu",
    bias: true,
  }),
  name: "multiHash(multiHash(2 x 3), 4 -> 6, gelu)",
  params: {
    ".router.tables": "u32[2, 4]",
    ".up.weight": "f32[6, 4, 3]",
    ".up.bias": "f32[6, 3]",
    ".down.weight": "f32[6, 6, 2]",
    ".down.bias": "f32[6, 2]",
  },
  inputs: [{ shape: [2, 3, 4] }],
  input: (hidden) => ({ hidden: hidden!, ids: tensor(IDS, { shape: [2, 3], dtype: "u32" }) }),
  output: ({ hidden }) => [hidden],
  tolerance: TOLERANCE,
});

const toyRouter = multiHashRouter({ experts: 2, segments: 2, vocabulary: 4, tables: [[0, 1, 0, 1], [0, 1, 1, 0]] });

/** The published example: both experts' first segments, then their second; matrices are by input and output here. */
function toyParams(): MultiHashParams {
  const up = tensor([
    [[1, 0], [0, 1]],
    [[2, 0], [0, 2]],
    [[1, 1], [1, -1]],
    [[-1, 0], [1, 1]],
  ]);
  const down = tensor([[1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, -1, 1, -1]]);
  return { router: toyRouter.init(key(0)), up: { weight: up }, down: { weight: reshape(down, [4, 4, 1]) } };
}

async function checkToy(): Promise<void> {
  const layer = multiHash({ router: toyRouter, width: 2, inner: 4 });
  const input = { hidden: tensor([[1, 2], [1, 2], [1, 2], [1, 2]]), ids: tensor([0, 1, 2, 3], { dtype: "u32" }) };
  const { hidden } = layer.apply(toyParams(), input);
  assertEquals([...await hidden.data()], [4, 2, 9, -3, 2, -2, 9, 4]);
}

oracleTest("multiHash() has the values of the published example", checkToy);
gpuTest("multiHash() has the values of the published example", checkToy);

oracleTest("multiHash() of one expert is the dense layer", async () => {
  const dense = feedForward({ width: 4, inner: 6, activation: "relu", bias: true });
  const params = dense.init(key(1));
  const layer = multiHash({
    router: multiHashRouter({ experts: 1, segments: 1, vocabulary: 4 }),
    width: 4,
    inner: 6,
    bias: true,
  });
  const [x, ids] = [tensor(Array.from({ length: 24 }, (_, i) => Math.sin(i)), { shape: [6, 4] }), IDS];
  const { hidden } = layer.apply({
    router: layer.router.init(key(0)),
    up: { weight: reshape(params.up.weight, [1, 4, 6]), bias: reshape(params.up.bias!, [1, 6]) },
    down: { weight: reshape(params.down.weight, [1, 6, 4]), bias: reshape(params.down.bias!, [1, 4]) },
  }, { hidden: x, ids: tensor(ids, { dtype: "u32" }) });
  assertEquals([...await hidden.data()], [...await dense.apply(params, x).data()]);
});

oracleTest("multiHash() gives unused segments no gradient, and masked tokens zeros", async () => {
  const layer = multiHash({ router: toyRouter, width: 2, inner: 4 });
  const params = toyParams();
  const mask = tensor([true, false]);
  const input = { hidden: tensor([[1, 2], [3, 4]]), ids: tensor([2, 1], { dtype: "u32" }), mask };
  const { hidden, plan } = layer.apply(params, input);
  assertEquals([...await hidden.data()], [2, -2, 0, 0]);
  assertEquals([...await plan.stats.counts.data()], [1, 0, 0, 1]);
  const gradient = await grad((weight: Tensor) =>
    sum(square(layer.apply({ ...params, down: { weight } }, input).hidden))
  )(params.down.weight).data();
  const used = [0, 1, 2, 3].map((segment) => gradient.slice(segment * 4, segment * 4 + 4).some((value) => value !== 0));
  assertEquals(used, [true, false, false, true]);
});

oracleTest("multiHash() swaps experts with their table and stays the same", async () => {
  const router = multiHashRouter({ experts: 2, segments: 2, vocabulary: 4, tables: [[1, 0, 1, 0], [0, 1, 1, 0]] });
  const { up, down } = toyParams();
  const swapped = (x: Tensor) => take(x, tensor([1, 0, 2, 3], { dtype: "u32" }), { axis: 0 });
  const input = { hidden: tensor([[1, 2], [-1, 1], [2, 0]]), ids: tensor([0, 3, 2], { dtype: "u32" }) };
  const before = multiHash({ router: toyRouter, width: 2, inner: 4 }).apply(toyParams(), input).hidden;
  const after = multiHash({ router, width: 2, inner: 4 }).apply({
    router: router.init(key(0)),
    up: { weight: swapped(up.weight) },
    down: { weight: swapped(down.weight) },
  }, input).hidden;
  assertClose(await after.data(), await before.data(), { relative: 0, absolute: 0 }, "output");
});

oracleTest("multiHash() refuses sizes that segments do not divide, and inputs without ids", () => {
  const router = multiHashRouter({ experts: 2, segments: 3, vocabulary: 4 });
  const error = assertThrows(() => multiHash({ router, width: 4, inner: 8 }), ConfigError);
  assertEquals(
    error.message,
    `Cannot build multiHash: 2 options are invalid
  width  4  must be a multiple of 3, the number of segments
  inner  8  must be a multiple of 3, the number of segments`,
  );
  const layer = multiHash({ router, width: 3 });
  assertThrows(() => layer.apply(layer.init(key(0)), { hidden: zeros([2, 3]) }), ConfigError, "no ids");
});
