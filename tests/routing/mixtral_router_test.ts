import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { tensor } from "../../src/ops/creation.ts";
import { reshape } from "../../src/ops/view.ts";
import { mixtralRouter } from "../../src/routing/mixtral_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { routeNaively } from "./naive_router.ts";

const [WIDTH, EXPERTS] = [5, 6];

function wideGate() {
  return { gate: tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] }) };
}

checkRouter({
  name: "mixtralRouter()",
  router: mixtralRouter({ width: WIDTH, experts: EXPERTS }),
  width: WIDTH,
  params: wideGate,
});

oracleTest("mixtralRouter() equals a loop over tokens", async () => {
  const random = randomSource(3);
  const hidden = Array.from({ length: 20 }, () => [...random.normals(WIDTH).map(Math.fround)]);
  const mask = hidden.map((_, t) => t % 6 !== 4);
  const gate = [...await wideGate().gate.data()];
  const plan = await readPlan(
    mixtralRouter({ width: WIDTH, experts: EXPERTS, k: 3 })
      .route(wideGate(), { hidden: tensor(hidden), mask: tensor(mask) }),
  );
  const options = { k: 3, weights: "softmaxSelected" } as const;
  const expected = routeNaively({ hidden, mask, gate, sequenceLength: 20, experts: EXPERTS, ...options });
  assertEquals(plan.rowAssign.slice(0, expected.rows.length), expected.rows);
  assertEquals([plan.counts, plan.load], [expected.counts, expected.load]);
  assertClose(plan.weight, expected.weights, { relative: 1e-9, absolute: 1e-12 }, "weights");
});

interface Fixture {
  readonly x: GoldenTensor;
  readonly params: { readonly gate: GoldenTensor };
  readonly experts: GoldenTensor;
  readonly routingWeights: GoldenTensor;
}

oracleTest("mixtralRouter() chooses and weighs like transformers' block", async () => {
  const { x, params, experts, routingWeights } = await readGolden<Fixture>("mixtral.json");
  const [width, count] = params.gate.shape as [number, number];
  const router = mixtralRouter({ width, experts: count });
  const hidden = reshape(fromGolden(x), [-1, width]);
  const plan = await readPlan(router.route({ gate: fromGolden(params.gate) }, { hidden }));
  assertEquals(plan.assignRow.map((row) => plan.expertOffsets.findLastIndex((start) => start <= row)), experts.data);
  assertClose(plan.weight, routingWeights.data, { relative: 1e-5, absolute: 1e-6 }, "weights");
  assertEquals(plan.dropped, 0);
});

Deno.test("mixtralRouter() refuses more choices than experts", () => {
  assertEquals(
    assertThrows(() => mixtralRouter({ width: 4, experts: 2, k: 3 }), ConfigError).message,
    `Cannot build mixtralRouter: 1 option is invalid
  k  3  must be a whole number in 1..2 (experts is 2)`,
  );
  assertEquals(mixtralRouter({ width: 4, experts: 8 }).name, "mixtral(2/8)");
});
