import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { eye, ones, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { balanceBias, deepseekRouter } from "../../src/routing/deepseek_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";

const [WIDTH, EXPERTS, K] = [5, 8, 3];
const GROUPED = { width: WIDTH, experts: EXPERTS, k: K, expertGroups: 4, groupLimit: 2, scale: 2.5 };

function makeParams() {
  const random = randomSource(2);
  const gate = tensor(random.normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] });
  return { gate, bias: tensor(random.normals(EXPERTS).map((value) => Math.fround(value - 2))) };
}

checkRouter({
  name: "deepseekRouter()",
  router: deepseekRouter(GROUPED),
  width: WIDTH,
  sequenceLength: 12,
  params: makeParams,
  frozen: ["bias"],
});

oracleTest("deepseekRouter() equals a loop over tokens, also where biased scores are negative", async () => {
  const hidden = Array.from({ length: 20 }, (_, t) => [...randomSource(t).normals(WIDTH)]);
  const params = makeParams();
  const [gate, bias] = [await params.gate.data(), await params.bias.data()];
  const plan = await readPlan(deepseekRouter(GROUPED).route(params, { hidden: tensor(hidden) }));
  let negatives = 0;
  for (const [t, row] of hidden.entries()) {
    const scores = Array.from(
      { length: EXPERTS },
      (_, e) => 1 / (1 + Math.exp(-row.reduce((total, value, d) => total + value * gate[d * EXPERTS + e]!, 0))),
    );
    const biased = scores.map((score, e) => score + bias[e]!);
    const groups = [0, 1, 2, 3].sort((a, b) =>
      biased[2 * b]! + biased[2 * b + 1]! - biased[2 * a]! - biased[2 * a + 1]!
    ).slice(0, 2);
    const allowed = groups.flatMap((g) => [2 * g, 2 * g + 1]).sort((a, b) => biased[b]! - biased[a]!);
    const chosen = allowed.slice(0, K);
    if (chosen.some((e) => biased[e]! < 0)) negatives++;
    const total = chosen.reduce((add, e) => add + scores[e]!, 0);
    for (const [choice, e] of chosen.entries()) {
      const assignment = t * K + choice;
      assertEquals(plan.expertOffsets.findLastIndex((start) => start <= plan.assignRow[assignment]!), e);
      assertAlmostEquals(plan.weight[assignment]!, 2.5 * scores[e]! / total, 1e-6);
    }
  }
  assert(negatives > 3, "the sample has negative choices");
});

oracleTest("deepseekRouter() keeps the bias out of weights and gradients", async () => {
  const router = deepseekRouter({ width: 3, experts: 3, k: 1, weights: "scores" });
  const hidden = ones([1, 3]);
  const bias = tensor([0, 0, 5]);
  const plan = await readPlan(router.route({ gate: eye(3), bias }, { hidden }));
  assertEquals(plan.load, [0, 0, 1]);
  assertAlmostEquals(plan.weight[0]!, 1 / (1 + Math.exp(-1)), 1e-6);
  const gradient = grad((params: { gate: Tensor; bias: Tensor }) => {
    const { weight, aux } = router.route(params, { hidden });
    return mul(sum(weight), aux.balance!);
  })({ gate: eye(3), bias });
  assert((await gradient.bias.data()).every((value) => value === 0));
});

oracleTest("balanceBias() evens out loads and adds up the parts of a batch", async () => {
  const router = deepseekRouter({ width: 2, experts: 4, k: 1 });
  let params = { ...router.init(key(0)), gate: tensor([[3, 1, 0, 0], [0, 1, 2, 0]]) };
  const hidden = tensor(randomSource(3).normals(400), { shape: [200, 2] });
  const spread = async () => {
    const loads = [...await router.route(params, { hidden }).stats.load.data()];
    return Math.max(...loads) - Math.min(...loads);
  };
  const before = await spread();
  for (let step = 0; step < 60; step++) {
    params = balanceBias(params, router.route(params, { hidden }).stats, { speed: 0.01 });
  }
  assert(await spread() < before / 4, `${await spread()} from ${before}`);

  const statsOf = (load: readonly number[]) => ({
    ...router.route(params, { hidden }).stats,
    load: tensor([...load], { dtype: "u32" }),
  });
  const zero = { bias: tensor([0, 0, 0, 0]) };
  const { bias } = balanceBias(zero, [statsOf([9, 0, 3, 2]), statsOf([1, 6, 3, 0])], { speed: 1 });
  assertEquals([...await bias.data()], [-1, 0, 0, 1]); // loads 10, 6, 6, 2
});

Deno.test("deepseekRouter() reports all invalid options at once", () => {
  assertEquals(
    assertThrows(() => deepseekRouter({ width: 4, experts: 8, k: 9, expertGroups: 3, groupLimit: 4 }), ConfigError)
      .message,
    `Cannot build deepseekRouter: 3 options are invalid
  k             9  must be a whole number in 1..8 (experts is 8)
  expertGroups  3  must divide experts, which is 8
  groupLimit    4  must be at most 3 (expertGroups)`,
  );
  assertEquals(
    assertThrows(() => deepseekRouter({ width: 4, experts: 8, k: 5, expertGroups: 4, groupLimit: 2 }), ConfigError)
      .message,
    `Cannot build deepseekRouter: 1 option is invalid
  k  5  must be at most 4: 2 groups have 2 experts each`,
  );
});
