import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { expertChoiceRouter } from "../../src/routing/expert_choice_router.ts";
import { withGatingDropout } from "../../src/routing/gating_dropout.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";

const [WIDTH, EXPERTS] = [5, 4];
const TOP_TWO = topKRouter({ width: WIDTH, experts: EXPERTS, k: 2, jitter: 0.1 });

function wideGate() {
  return { gate: tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] }) };
}

function hiddenOf(count: number) {
  return tensor(randomSource(3).normals(count * WIDTH), { shape: [count, WIDTH] });
}

checkRouter({
  name: "withGatingDropout() of a top-k router",
  router: withGatingDropout(TOP_TWO, { rate: 0.9 }),
  width: WIDTH,
  params: wideGate,
});
checkRouter({
  name: "withGatingDropout() of a router with a variable number of experts",
  router: withGatingDropout(expertChoiceRouter({ width: WIDTH, experts: EXPERTS }), { rate: 0.9 }),
  width: WIDTH,
  params: wideGate,
});

oracleTest("withGatingDropout() gives places, not tokens, their experts with the router's total weight", async () => {
  const hidden = hiddenOf(10);
  const sure = withGatingDropout(TOP_TWO, { rate: 1 - 1e-9 });
  const plan = await readPlan(sure.route(wideGate(), { hidden }, { train: true, key: key(1) }));
  assertEquals(plan.rowToken.slice(0, 10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(plan.counts, [3, 2, 3, 2]);
  assert(plan.aux.balance! > 0);
  const choosing = withGatingDropout(expertChoiceRouter({ width: WIDTH, experts: EXPERTS }), { rate: 1 - 1e-9 });
  const own = await readPlan(choosing.route(wideGate(), { hidden }));
  const local = await readPlan(choosing.route(wideGate(), { hidden }, { train: true, key: key(1) }));
  for (let t = 0; t < 10; t++) {
    const [start, end] = own.tokenOffsets!.slice(t, t + 2);
    assertAlmostEquals(local.weight[t]!, own.weight.slice(start, end).reduce((a, b) => a + b, 0), 1e-6);
  }
  assertEquals(local.counts, [3, 2, 3, 2]);
});

oracleTest("withGatingDropout() ignores the router about as often as it says", async () => {
  const router = withGatingDropout(TOP_TWO, { rate: 0.3, fallback: "skip" });
  const hidden = hiddenOf(3);
  let skipped = 0;
  for (let seed = 0; seed < 200; seed++) {
    const { counts } = router.route(wideGate(), { hidden }, { train: true, key: key(seed) }).stats;
    const kept = [...await counts.data()].reduce((a, b) => a + b, 0);
    assert(kept === 0 || kept === 6);
    skipped += kept === 0 ? 1 : 0;
  }
  assertAlmostEquals(skipped / 200, 0.3, 0.1);
});

oracleTest("withGatingDropout() leaves the router alone outside training and at rate 0", async () => {
  const hidden = hiddenOf(6);
  const own = await readPlan(TOP_TWO.route(wideGate(), { hidden }));
  assertEquals(await readPlan(withGatingDropout(TOP_TWO, { rate: 0.9 }).route(wideGate(), { hidden })), own);
  const never = withGatingDropout(TOP_TWO, { rate: 0 });
  const context = { train: true, key: key(4) };
  assertEquals(
    await readPlan(never.route(wideGate(), { hidden }, { ...context })),
    await readPlan(TOP_TWO.route(wideGate(), { hidden }, { train: true, key: key(4) })),
  );
});

oracleTest("withGatingDropout() reports bad options, a missing key and a plan without room", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { rate: 1, fallback: "random" };
  assertEquals(
    assertThrows(() => withGatingDropout(TOP_TWO, wrong), ConfigError).message,
    `Cannot build withGatingDropout: 2 options are invalid
  rate      1         must be a number from 0 up, below 1
  fallback  "random"  must be one of local, skip`,
  );
  const hidden = hiddenOf(8);
  const router = withGatingDropout(TOP_TWO, { rate: 0.5 });
  assertThrows(() => router.route(wideGate(), { hidden }, { train: true }), ConfigError, "no key");
  const few = expertChoiceRouter({ width: WIDTH, experts: EXPERTS, capacityFactor: 0.5 });
  assertThrows(
    () => withGatingDropout(few, { rate: 0.5 }).route(wideGate(), { hidden }, { train: true, key: key(0) }),
    ShapeError,
    "Cannot give 8 tokens a local expert each: the router's plan has room for 4 assignments",
  );
});
