import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { transposeTo } from "../../src/core/arithmetic.ts";
import { tensor } from "../../src/ops/creation.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { key } from "../../src/ops/random.ts";
import { balancedAssignment } from "../../src/routing/balanced_assignment.ts";
import { baseRouter } from "../../src/routing/base_router.ts";
import { orthogonal } from "../../src/routing/orthogonal.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const [WIDTH, EXPERTS] = [5, 4];

function wideCentroids() {
  const data = randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround);
  return { centroids: tensor(data, { shape: [EXPERTS, WIDTH] }) };
}

checkRouter({
  name: "baseRouter()",
  router: baseRouter({ width: WIDTH, experts: EXPERTS, remainder: "spread", rounds: 8 }),
  width: WIDTH,
  params: wideCentroids,
});

oracleTest("baseRouter() equals a loop over tokens", async () => {
  const hidden = Array.from({ length: 12 }, (_, t) => [...randomSource(t).normals(WIDTH)]);
  const params = wideCentroids();
  const centroids = await params.centroids.data();
  const scores = hidden.map((row) =>
    Array.from(
      { length: EXPERTS },
      (_, e) => row.reduce((total, value, d) => total + value * centroids[e * WIDTH + d]!, 0),
    )
  );
  const router = baseRouter({ width: WIDTH, experts: EXPERTS });
  const greedy = scores.map((row) => row.indexOf(Math.max(...row)));
  const dealt = [...await balancedAssignment(tensor(scores)).data()];
  for (const [train, experts] of [[false, greedy], [true, dealt]] as const) {
    const plan = await readPlan(router.route(params, { hidden: tensor(hidden) }, { train }));
    assertEquals(plan.assignRow.map((row) => plan.expertOffsets.findLastIndex((start) => start <= row)), experts);
    plan.weight.forEach((value, t) => assertAlmostEquals(value, 1 / (1 + Math.exp(-scores[t]![experts[t]!]!)), 1e-6));
  }
});

oracleTest("baseRouter() refuses a batch that E does not divide, while training", async () => {
  const router = baseRouter({ width: 2, experts: 4 });
  const params = router.init(key(0));
  const hidden = tensor(randomSource(1).normals(20), { shape: [10, 2] });
  assertEquals(
    assertThrows(() => router.route(params, { hidden }, { train: true }), ShapeError).message,
    `Cannot balance 10 tokens over 4 experts: 4 does not divide 10
  op         base(4)
  remainder  2 tokens
Fix: use batches whose tokens 4 divides, or baseRouter({ remainder: "spread" })`,
  );
  assertEquals((await readPlan(router.route(params, { hidden }))).dropped, 0);
});

oracleTest("baseRouter() stays balanced where one token is NaN", async () => {
  const router = baseRouter({ width: 1, experts: 2 });
  const hidden = tensor([[NaN], [1], [2], [-1]]);
  const plan = router.route({ centroids: tensor([[1], [-1]]) }, { hidden }, { train: true });
  assertEquals([...await plan.stats.load.data()], [2, 2]);
  assertEquals([...await plan.weight.data()].map(Number.isNaN), [true, false, false, false]);
});

for (const [name, test] of [["oracle", oracleTest], ["adapter", gpuTest]] as const) {
  test(`orthogonal() has orthonormal rows or columns on the ${name}`, async () => {
    for (const [rows, columns] of [[3, 7], [6, 6], [8, 2], [1, 1]] as const) {
      const drawn = orthogonal(key(3), [rows, columns], 0.5);
      const flipped = transposeTo(drawn, [1, 0]);
      const overlap = [...await (rows <= columns ? matmul(drawn, flipped) : matmul(flipped, drawn)).data()];
      const side = Math.min(rows, columns);
      overlap.forEach((value, i) => assertAlmostEquals(value, i % (side + 1) === 0 ? 0.25 : 0, 1e-5));
    }
  });
}

Deno.test("baseRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 2, experts: 0, remainder: "drop", rounds: 0.5, increment: 0 };
  assertEquals(
    assertThrows(() => baseRouter(wrong), ConfigError).message,
    `Cannot build baseRouter: 4 options are invalid
  experts    0       must be a whole number from 1 up
  remainder  "drop"  must be one of refuse, spread
  rounds     0.5     must be a whole number from 1 up
  increment  0       must be a number above 0`,
  );
});
