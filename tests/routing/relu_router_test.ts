import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { eye, scalar, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { controlSparsity, reluRouter } from "../../src/routing/relu_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";

const [WIDTH, EXPERTS] = [5, 6];

function makeParams() {
  const gate = tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] });
  return { gate, coefficient: scalar(0.5) };
}

for (const maxExperts of [EXPERTS, 2]) {
  checkRouter({
    name: `reluRouter() with at most ${maxExperts} experts`,
    router: reluRouter({ width: WIDTH, experts: EXPERTS, k: 2, maxExperts }),
    width: WIDTH,
    params: makeParams,
    frozen: ["coefficient"],
  });
}

oracleTest("reluRouter() equals a loop over tokens and experts", async () => {
  const count = 14;
  const hidden = Array.from({ length: count }, (_, t) => [...randomSource(t).normals(WIDTH)]);
  const mask = hidden.map((_, t) => t !== 5);
  const params = makeParams();
  const gate = await params.gate.data();
  const router = reluRouter({ width: WIDTH, experts: EXPERTS, k: 2 });
  const plan = await readPlan(router.route(params, { hidden: tensor(hidden), mask: tensor(mask) }));
  const load = new Array<number>(EXPERTS).fill(0);
  const mean = new Array<number>(EXPERTS).fill(0);
  for (const [t, row] of hidden.entries()) {
    for (let e = 0; e < EXPERTS; e++) {
      const logit = row.reduce((total, value, d) => total + value * gate[d * EXPERTS + e]!, 0);
      const weight = mask[t] ? Math.max(0, logit) : 0;
      assertAlmostEquals(plan.weight[t * EXPERTS + e]!, weight, 1e-6);
      assertEquals(plan.assignRow[t * EXPERTS + e] !== 0xffffffff, weight > 0);
      load[e]! += weight > 0 ? 1 : 0;
      mean[e]! += weight / (count - 1);
    }
  }
  assertEquals(plan.load, load);
  const loss = load.reduce((total, n, e) => total + n / ((count - 1) * 2) * mean[e]!, 0) * EXPERTS;
  assertAlmostEquals(plan.aux.sparsity!, 0.5 * loss, 1e-6);
});

oracleTest("reluRouter() keeps the strongest experts where room is short", async () => {
  const router = reluRouter({ width: 4, experts: 4, k: 1, maxExperts: 2 });
  const params = { ...router.init(key(0)), gate: eye(4) };
  const plan = await readPlan(router.route(params, { hidden: tensor([[1, 3, -1, 2], [-1, 5, -2, -3]]) }));
  assertEquals(plan.weight, [3, 2, 5, 0]);
  assertEquals(plan.load, [0, 2, 0, 1]);
});

oracleTest("controlSparsity() steers the mean number of experts to k", async () => {
  const router = reluRouter({ width: 4, experts: 4, k: 1, initialCoefficient: 1e-3 });
  const start = { ...router.init(key(0)), gate: eye(4) };
  const dense = router.route(start, { hidden: tensor([[1, 1, 1, 1], [1, 1, 0, 0]]) });
  const sparse = router.route(start, { hidden: tensor([[1, 0, 0, 0], [0, 0, 0, 0]]) });
  const after = async (...args: Parameters<typeof controlSparsity>) =>
    await controlSparsity(...args).coefficient.item();
  assertAlmostEquals(await after(start, dense, { k: 1 }), 1.2e-3, 1e-9);
  assertAlmostEquals(await after(start, sparse, { k: 1 }), 1e-3 / 1.2, 1e-9);
  // Over both layers tokens visit 3 and 0.5 experts, 1.75 on average.
  assertAlmostEquals(await after(start, [dense, sparse], { k: 1.7, factor: 2 }), 2e-3, 1e-9);
  assertAlmostEquals(await after(start, [dense, sparse], { k: 1.8, factor: 2 }), 0.5e-3, 1e-9);
  // One of the sparse plan's tokens is padding: the other visits one expert.
  assertAlmostEquals(await after(start, sparse, { k: 0.9, tokens: 1 }), 1.2e-3, 1e-9);
  assertThrows(() => controlSparsity(start, dense, { k: 0, factor: 1 }), ConfigError, "2 options are invalid");
});

oracleTest("reluRouter() starts with about half of all experts active", async () => {
  const router = reluRouter({ width: 16, experts: 8, k: 1 });
  const hidden = tensor(randomSource(7).normals(64 * 16), { shape: [64, 16] });
  const { load } = await readPlan(router.route(router.init(key(1)), { hidden }));
  const active = load.reduce((a, b) => a + b) / (64 * 8);
  assert(active > 0.4 && active < 0.6);
});

Deno.test("reluRouter() reports all invalid options at once", () => {
  assertEquals(
    assertThrows(() => reluRouter({ width: 4, experts: 4, k: 5, maxExperts: 6 }), ConfigError).message,
    `Cannot build reluRouter: 2 options are invalid
  maxExperts  6  must be at most experts, which is 4
  k           5  must be at most 4, the most experts a token may visit`,
  );
});
