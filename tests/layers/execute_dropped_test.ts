import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { leavesOf } from "../../src/core/tree.ts";
import { executeDropped } from "../../src/layers/execute_dropped.ts";
import { moe } from "../../src/layers/moe.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { eye, full, ones, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { broadcastTo } from "../../src/ops/view.ts";
import { execute, type ExpertParams } from "../../src/routing/execute.ts";
import type { DispatchPlan } from "../../src/routing/plan_types.ts";
import { reluRouter } from "../../src/routing/relu_router.ts";
import { topKRouter, type TopKRouterOptions } from "../../src/routing/top_k_router.ts";
import { checkOp } from "../support/check_primitive.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { normalTensor } from "../support/draw.ts";

const [TOKENS, WIDTH, EXPERTS, INNER] = [9, 4, 3, 5];
const CLOSE = { relative: 1e-5, absolute: 1e-5 };

/** Parameters of the gated body with all biases. */
function gatedParams(): ExpertParams {
  return {
    up: normalTensor([EXPERTS, WIDTH, INNER], 1),
    upBias: normalTensor([EXPERTS, INNER], 2),
    gate: normalTensor([EXPERTS, WIDTH, INNER], 3),
    gateBias: normalTensor([EXPERTS, INNER], 4),
    down: normalTensor([EXPERTS, INNER, WIDTH], 5),
    downBias: normalTensor([EXPERTS, WIDTH], 6),
  };
}

function plainParams(): ExpertParams {
  const { up, down } = gatedParams();
  return { up, down };
}

const MASK = Array.from({ length: TOKENS }, (_, t) => t !== 4);

function topKPlan(hidden: Tensor, options: Omit<TopKRouterOptions, "width" | "experts">): DispatchPlan {
  const router = topKRouter({ width: WIDTH, experts: EXPERTS, ...options });
  return router.route({ gate: normalTensor([WIDTH, EXPERTS], 7) }, { hidden, mask: tensor(MASK) });
}

/** Plans of every kind: dropped tokens, weights before the experts, different numbers of experts. */
const PLANS: Readonly<Record<string, (hidden: Tensor) => DispatchPlan>> = {
  "two experts a token": (hidden) => topKPlan(hidden, { k: 2 }),
  "few slots": (hidden) => topKPlan(hidden, { k: 2, evalCapacityFactor: 0.5 }),
  "weights before the experts": (hidden) => ({ ...topKPlan(hidden, { k: 2 }), scaleAt: "input" }),
  "different numbers of experts": (hidden) =>
    reluRouter({ width: WIDTH, experts: EXPERTS, k: 1 })
      .route({ gate: normalTensor([WIDTH, EXPERTS], 7), coefficient: ones([]) }, { hidden, mask: tensor(MASK) }),
};

async function checkRateZero(names: readonly string[]): Promise<void> {
  for (const name of names) {
    const planOf = PLANS[name]!;
    for (const [body, paramsOf] of [["ffn", plainParams], ["glu", gatedParams]] as const) {
      const inputs = { hidden: normalTensor([TOKENS, WIDTH], 8), params: paramsOf() };
      const cotangent = normalTensor([TOKENS, WIDTH], 9);
      const dropped = (from: typeof inputs) =>
        executeDropped(planOf(from.hidden), from.hidden, from.params, { activation: "silu", key: key(0), rate: 0 });
      const fused = (from: typeof inputs) =>
        execute(planOf(from.hidden), from.hidden, from.params, { activation: "silu", body });
      const [actual, expected] = await read([dropped(inputs), fused(inputs)] as const);
      assertClose(actual, expected, CLOSE, `${name}, ${body}`);
      const [found, wanted] = [dropped, fused].map((run) =>
        leavesOf(grad((from: typeof inputs) => sum(mul(run(from), cotangent)))(inputs))
      );
      for (const [i, [path, leaf]] of found!.entries()) {
        const [values, reference] = await read([leaf, wanted![i]![1]] as const);
        assertClose(values, reference, CLOSE, `${name}, ${body}: gradient at ${path}`);
      }
    }
  }
}

oracleTest(
  "executeDropped() at rate 0 is execute(), gradients and all, for every kind of plan",
  () => checkRateZero(Object.keys(PLANS)),
);
gpuTest(
  "executeDropped() at rate 0 is execute(), gradients and all, where tokens are dropped",
  () => checkRateZero(["few slots"]),
);

checkOp({
  name: "executeDropped",
  fn: (hidden, up, down) =>
    executeDropped(topKPlan(normalTensor([TOKENS, WIDTH], 8), { k: 2 }), hidden, { up, down }, {
      activation: "gelu",
      key: key(3),
      rate: 0.4,
    }),
  samples: [{
    inputs: [{ shape: [TOKENS, WIDTH] }, { shape: [EXPERTS, WIDTH, INNER] }, { shape: [EXPERTS, INNER, WIDTH] }],
  }],
});

oracleTest("executeDropped() drops each inner value of each assignment by itself and keeps the mean", async () => {
  const [tokens, size, rate] = [40, 30, 0.25];
  // Every expert hands on its inner values, which are all 1; both choices of a token weigh a half.
  const router = topKRouter({ width: size, experts: 2, k: 2 });
  const hidden = full([tokens, size], 1);
  const plan = router.route({ gate: full([size, 2], 0) }, { hidden });
  const identity = broadcastTo(eye(size), [2, size, size]);
  const run = (seed: number) =>
    executeDropped(plan, hidden, { up: identity, down: identity }, { activation: "relu", key: key(seed), rate });
  const [values, again, other] = await read([run(1), run(1), run(2)] as const);
  assertEquals([...again], [...values]);
  assert(values.some((value, i) => value !== other[i]));
  const shares = [0, 1, 2].map((kept) =>
    values.filter((value) => Math.abs(value - kept / 2 / (1 - rate)) < 1e-6).length / values.length
  );
  // Of the two choices none, one or both stay.
  [rate ** 2, 2 * rate * (1 - rate), (1 - rate) ** 2].forEach((share, kept) =>
    assertAlmostEquals(shares[kept]!, share, 0.04)
  );
  assertAlmostEquals(shares.reduce((a, b) => a + b), 1, 1e-12);
  assertAlmostEquals(Array.from(values).reduce((a, b) => a + b) / values.length, 1, 0.04);
});

oracleTest("moe() drops inner values while training only, apart from what its router draws", async () => {
  const router = topKRouter({ width: WIDTH, experts: EXPERTS, k: 2, jitter: 0.1 });
  const [plain, dropping] = [0, 0.5].map((innerDropout) => moe({ router, width: WIDTH, inner: INNER, innerDropout }));
  const params = plain!.init(key(1));
  const hidden = normalTensor([TOKENS, WIDTH], 8);
  const outputOf = (layer: typeof plain, context: Parameters<NonNullable<typeof plain>["apply"]>[2]) =>
    layer!.apply(params, { hidden }, context).hidden;
  const { evaluated, same, trained, repeated, another, undropped } = await read({
    evaluated: outputOf(dropping, { key: key(3) }),
    same: outputOf(plain, {}),
    trained: outputOf(dropping, { train: true, key: key(3) }),
    repeated: outputOf(dropping, { train: true, key: key(3) }),
    another: outputOf(dropping, { train: true, key: key(4) }),
    undropped: outputOf(plain, { train: true, key: key(3) }),
  });
  assertEquals([...evaluated], [...same]);
  assertEquals([...trained], [...repeated]);
  for (const other of [another, undropped]) assert(trained.some((value, i) => Math.abs(value - other[i]!) > 1e-3));
  assertEquals(
    assertThrows(() => outputOf(dropping, { train: true }), ConfigError).message.split("\n")[0],
    `Cannot route with ${
      dropping!.name
    }: inner dropout draws random numbers while training, and the context has no key`,
  );
});

oracleTest("executeDropped() keeps the type of the hidden states", () => {
  const hidden = cast(normalTensor([TOKENS, WIDTH], 8), "bf16");
  const options = { activation: "relu", key: key(0), rate: 0.5 } as const;
  const output = executeDropped(topKPlan(hidden, { k: 2 }), hidden, plainParams(), options);
  assertEquals([output.dtype, output.shape], ["bf16", [TOKENS, WIDTH]]);
});
