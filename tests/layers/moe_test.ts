import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { leavesOf } from "../../src/core/tree.ts";
import { moe } from "../../src/layers/moe.ts";
import { mul } from "../../src/ops/binary.ts";
import { arange, ones, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { normal } from "../../src/ops/samplers.ts";
import { reshape } from "../../src/ops/view.ts";
import type { DispatchPlan, Router, Tokens } from "../../src/routing/plan_types.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { assertClose } from "../support/check_primitive.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const TOLERANCE = { relative: 1e-5, absolute: 1e-5 };

checkLayer({
  layer: moe({ router: topKRouter({ width: 4, experts: 3, k: 2, weights: "normalized" }), width: 4, inner: 5 }),
  name: "moe(topK(2/3), 4 -> 5, ffn, gelu)",
  params: { ".router.gate": "f32[4, 3]", ".experts.up": "f32[3, 4, 5]", ".experts.down": "f32[3, 5, 4]" },
  inputs: [{ shape: [2, 3, 4] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden, plan }) => [hidden, plan.aux.balance!],
  tolerance: TOLERANCE,
});

checkLayer({
  layer: moe({
    router: topKRouter({ width: 3, experts: 4, k: 1 }),
    width: 3,
    inner: 2,
    body: "glu",
    activation: "silu",
    bias: true,
  }),
  name: "moe(topK(1/4), 3 -> 2, glu, silu)",
  params: {
    ".router.gate": "f32[3, 4]",
    ".experts.up": "f32[4, 3, 2]",
    ".experts.upBias": "f32[4, 2]",
    ".experts.gate": "f32[4, 3, 2]",
    ".experts.gateBias": "f32[4, 2]",
    ".experts.down": "f32[4, 2, 3]",
    ".experts.downBias": "f32[4, 3]",
  },
  inputs: [{ shape: [5, 3] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden }) => [hidden],
  tolerance: TOLERANCE,
});

/** A router that records what it was given. */
function recording(inner: Router<{ readonly gate: Tensor }>, seen: Tokens[]): Router<{ readonly gate: Tensor }> {
  return {
    ...inner,
    route(params, tokens, context): DispatchPlan {
      seen.push(tokens);
      return inner.route(params, tokens, context);
    },
  };
}

oracleTest("moe() gives its router flat tokens with ids, positions and mask, sequence by sequence", async () => {
  const seen: Tokens[] = [];
  const layer = moe({ router: recording(topKRouter({ width: 4, experts: 3, k: 1 }), seen), width: 4 });
  const params = layer.init(key(0));
  const ids = reshape(arange(6), [2, 3]);
  const mask = tensor([[true, true, true], [true, false, false]]);
  layer.apply(params, { hidden: ones([2, 3, 4]), ids, mask });
  const { hidden, sequenceLength, ...rest } = seen[0]!;
  assertEquals([hidden.shape, sequenceLength], [[6, 4], 3]);
  const data = await read({ ids: rest.ids!, positions: rest.positions!, mask: rest.mask! });
  assertEquals([...data.ids], [0, 1, 2, 3, 4, 5]);
  assertEquals([...data.positions], [0, 1, 2, 0, 1, 2]);
  assertEquals([...data.mask], [1, 1, 1, 1, 0, 0]);
  layer.apply(params, { hidden: ones([2, 3, 4]), positions: tensor([[7, 8, 9], [0, 1, 2]], { dtype: "u32" }) });
  assertEquals([...await seen[1]!.positions!.data()], [7, 8, 9, 0, 1, 2]);
});

oracleTest("moe() gives zeros to tokens that no expert treats", async () => {
  const layer = moe({ router: topKRouter({ width: 4, experts: 3, k: 1 }), width: 4 });
  const mask = tensor([true, false, true]);
  const { hidden } = layer.apply(layer.init(key(1)), { hidden: normal(key(2), [3, 4]), mask });
  const rows = Array.from(await hidden.data());
  assertEquals(rows.slice(4, 8), [0, 0, 0, 0]);
  assertEquals(rows.slice(0, 4).some((value) => value !== 0), true);
});

oracleTest("moe() passes gradients to every parameter", async () => {
  const layer = moe({
    router: topKRouter({ width: 4, experts: 3, k: 3, weights: "normalized" }),
    width: 4,
    inner: 6,
    bias: true,
  });
  const params = layer.init(key(1));
  const x = normal(key(2), [5, 4]);
  const gradients = grad((p: typeof params) => sum(mul(layer.apply(p, { hidden: x }).hidden, normal(key(3), [5, 4]))))(
    params,
  );
  for (const [path, leaf] of leavesOf(gradients)) {
    assertEquals((await leaf.data()).some((value) => value !== 0), true, path);
  }
});

gpuTest("moe() has the same gradients whether it keeps or recomputes what the backward pass needs", async () => {
  const [kept, recomputed] = (["kept", "recomputed"] as const).map((preactivations) => {
    const router = topKRouter({ width: 4, experts: 3, k: 2 });
    const layer = moe({ router, width: 4, inner: 5, bias: true, preactivations });
    const x = normal(key(2), [7, 4]);
    const loss = (p: ReturnType<typeof layer.init>) =>
      sum(mul(layer.apply(p, { hidden: x }, { train: true }).hidden, normal(key(3), [7, 4])));
    return leavesOf(grad(loss)(layer.init(key(1))));
  });
  for (const [i, [path, leaf]] of kept!.entries()) {
    assertClose(await recomputed![i]![1].data(), await leaf.data(), TOLERANCE, path);
  }
});

oracleTest("moe() starts each expert with variance scale over its own inputs, and biases at 0", async () => {
  const router = topKRouter({ width: 32, experts: 4, k: 1 });
  const { experts } = moe({ router, width: 32, inner: 64, bias: true, scale: 0.5, outputScale: 0.25 }).init(key(5));
  const [up, down] = [await experts.up.data(), await experts.down.data()];
  for (const [weights, variance] of [[up, 0.5 / 32], [down, 0.25 / 64]] as const) {
    const size = weights.length / 4;
    for (let expert = 0; expert < 4; expert++) {
      const own = Array.from(weights).slice(expert * size, (expert + 1) * size);
      assertAlmostEquals(own.reduce((total, w) => total + w * w, 0) / size, variance, 0.1 * variance);
    }
  }
  assertClose(await experts.upBias!.data(), new Array(4 * 64).fill(0), { relative: 0, absolute: 0 }, "biases");
});

Deno.test("moe() names invalid options and side inputs that do not fit", () => {
  const error = assertThrows(
    () => moe({ router: {}, width: 4, body: "dense" } as unknown as Parameters<typeof moe>[0]),
    ConfigError,
  );
  assertEquals(
    error.message,
    [
      "Cannot build moe: 2 options are invalid",
      "  router  {}       must be a router, with init and route",
      '  body    "dense"  must be one of ffn, glu',
    ].join("\n"),
  );
  const layer = moe({ router: topKRouter({ width: 4, experts: 3, k: 1 }), width: 4 });
  const shape = assertThrows(
    () => layer.apply(layer.init(key(0)), { hidden: ones([2, 3, 4]), ids: arange(6) }),
    ShapeError,
  );
  assertEquals(
    shape.message,
    [
      "Cannot route: ids u32[6] do not fit hidden f32[2, 3, 4]",
      "  op  moe",
      "Fix: give ids the shape [2, 3]",
    ].join("\n"),
  );
});
