import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { eye, ones, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { gshardRouter } from "../../src/routing/gshard_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { routeNaively } from "./naive_router.ts";

const [WIDTH, EXPERTS] = [5, 6];

function wideGate() {
  return { gate: tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] }) };
}

checkRouter({
  name: "gshardRouter()",
  router: gshardRouter({ width: WIDTH, experts: EXPERTS, capacityFactor: 1.2, minCapacity: 1, groupSize: 7 }),
  width: WIDTH,
  sequenceLength: 12,
  params: wideGate,
});

oracleTest("gshardRouter() equals a loop over tokens outside training", async () => {
  const router = gshardRouter({ width: WIDTH, experts: EXPERTS, evalCapacityFactor: 0.8, minCapacity: 1 });
  const hidden = Array.from({ length: 20 }, (_, t) => [...randomSource(t).normals(WIDTH)]);
  const mask = hidden.map((_, t) => t % 6 !== 4);
  const gate = [...await wideGate().gate.data()];
  const plan = await readPlan(router.route(wideGate(), { hidden: tensor(hidden), mask: tensor(mask) }));
  const call = { hidden, mask, gate, sequenceLength: 20, experts: EXPERTS, weights: "normalized" } as const;
  const expected = routeNaively({ ...call, k: 2, capacityFactor: 0.8 });
  assertEquals(plan.rowAssign.slice(0, expected.rows.length), expected.rows);
  assertEquals([plan.counts, plan.load], [expected.counts, expected.load]);
  assertClose(plan.weight, expected.weights, { relative: 1e-6, absolute: 1e-7 }, "weights");
  // Published: shares of first choices.
  assertAlmostEquals(plan.aux.balance!, routeNaively({ ...call, k: 1 }).balance, 1e-6);
  assertAlmostEquals(plan.aux.zLoss!, expected.zLoss, 1e-6);
});

oracleTest("gshardRouter() has the weights of the worked example", async () => {
  const router = gshardRouter({ width: 3, experts: 3 });
  const plan = await readPlan(router.route({ gate: eye(3) }, { hidden: tensor([[2, 1, 0], [0.2, 0.1, 0.9]]) }));
  assertClose(plan.weight, [0.731059, 0.268941, 0.668188, 0.331812], { relative: 0, absolute: 1e-6 }, "weights");
});

oracleTest("gshardRouter() uses a second choice with twice its weight as probability", async () => {
  const second = 0.2;
  const gate = tensor([[Math.log(1 - second), Math.log(second), -30]]);
  const hidden = ones([3000, 1]);
  const options = { width: 1, experts: 3, capacityFactor: Infinity } as const;
  const plan = await readPlan(gshardRouter(options).route({ gate }, { hidden }, { train: true, key: key(3) }));
  assertEquals(plan.load[0], 3000);
  assertAlmostEquals(plan.load[1]! / 3000, 2 * second, 0.03);
  assert(plan.weight.filter((_, a) => a % 2 === 1).some((value) => value === 0));
  const always = gshardRouter({ ...options, secondChoice: "always" });
  assertEquals((await readPlan(always.route({ gate }, { hidden }, { train: true }))).load, [3000, 3000, 0]);
  assertThrows(() => gshardRouter(options).route({ gate }, { hidden }, { train: true }), ConfigError, "no key");
});

Deno.test("gshardRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 1.5, experts: 4, secondChoice: "sometimes", k: 2 };
  assertEquals(
    assertThrows(() => gshardRouter(wrong), ConfigError).message,
    `Cannot build gshardRouter: 3 options are invalid
  width         1.5          must be a whole number from 1 up
  secondChoice  "sometimes"  must be one of random, always
  k             2            unknown option; the options are width, experts, secondChoice, capacityFactor, evalCapacityFactor, minCapacity, groupSize, gateStd`,
  );
  assertThrows(() => gshardRouter({ width: 4, experts: 1 }), ConfigError, "must be a whole number from 2 up");
});
