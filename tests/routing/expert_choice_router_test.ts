import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { tensor } from "../../src/ops/creation.ts";
import { expectCausal } from "../../src/routing/causality.ts";
import { expertChoiceRouter } from "../../src/routing/expert_choice_router.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";

const [WIDTH, EXPERTS] = [5, 4];

function wideGate() {
  return { gate: tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] }) };
}

checkRouter({
  name: "expertChoiceRouter()",
  // Groups of seven leave a short group of five in each sequence.
  router: expertChoiceRouter({ width: WIDTH, experts: EXPERTS, groupSize: 7 }),
  width: WIDTH,
  sequenceLength: 12,
  params: wideGate,
});

oracleTest("expertChoiceRouter() equals a loop over experts", async () => {
  const [count, sequenceLength] = [24, 12];
  const hidden = Array.from({ length: count }, (_, t) => [...randomSource(t).normals(WIDTH)]);
  const mask = hidden.map((_, t) => t % 12 < 9 && t % 5 !== 3);
  const gate = await wideGate().gate.data();
  const router = expertChoiceRouter({ width: WIDTH, experts: EXPERTS, capacityFactor: 1.4 });
  const plan = await readPlan(router.route(wideGate(), { hidden: tensor(hidden), mask: tensor(mask), sequenceLength }));

  const scores = hidden.map((row) => {
    const powers = Array.from(
      { length: EXPERTS },
      (_, e) => Math.exp(row.reduce((total, value, d) => total + value * gate[d * EXPERTS + e]!, 0)),
    );
    return powers.map((power) => power / powers.reduce((a, b) => a + b));
  });
  const expected: { token: number; expert: number }[] = [];
  for (let start = 0; start < count; start += sequenceLength) {
    for (let expert = 0; expert < EXPERTS; expert++) {
      const members = Array.from({ length: sequenceLength }, (_, i) => start + i).filter((t) => mask[t]);
      members.sort((a, b) => scores[b]![expert]! - scores[a]![expert]!);
      expected.push(...members.slice(0, 4).map((token) => ({ token, expert }))); // floor(1.4 · 12 / 4)
    }
  }
  expected.sort((a, b) => a.token - b.token || a.expert - b.expert);
  assertEquals(plan.tokenOffsets?.at(-1), expected.length);
  for (const [assignment, { token, expert }] of expected.entries()) {
    const row = plan.assignRow[assignment]!;
    assertEquals(plan.rowToken[row], token);
    assertEquals(plan.expertOffsets.findLastIndex((start) => start <= row), expert);
    assertAlmostEquals(plan.weight[assignment]!, scores[token]![expert]!, 1e-6);
  }
});

oracleTest("expertChoiceRouter() fills every expert whatever the scores are", async () => {
  const router = expertChoiceRouter({ width: 2, experts: 4, capacityFactor: 1 });
  for (const gate of [[[9, 0, 0, 0], [0, 0, 0, 0]], [[NaN, 0, 0, 0], [0, 0, 0, 0]]]) {
    const plan = await readPlan(
      router.route({ gate: tensor(gate) }, { hidden: tensor(new Array(10).fill([1, 2])) }),
    );
    assertEquals(plan.counts, [2, 2, 2, 2]);
    assertEquals(plan.expertOffsets, [0, 2, 4, 6, 8]);
  }
});

oracleTest("expertChoiceRouter() takes tokens with NaN last", async () => {
  const router = expertChoiceRouter({ width: 1, experts: 2, capacityFactor: 1 });
  const plan = await readPlan(
    router.route({ gate: tensor([[1, -1]]) }, { hidden: tensor([[NaN], [1], [-1], [0.5]]) }),
  );
  assert(!plan.rowToken.slice(0, plan.expertOffsets[2]).includes(0));
  assert(plan.weight.every(Number.isFinite));
});

Deno.test("expectCausal() refuses a router that looks ahead", () => {
  const router = expertChoiceRouter({ width: 8, experts: 4 });
  assertEquals(router.causal, false);
  assertEquals(
    assertThrows(() => expectCausal("transformerLm", router), ConfigError).message,
    `Cannot use router expertChoice(2/4) in transformerLm: a token's experts depend on later tokens
  router  expertChoice(2/4)
  causal  false
Fix: use a router that is causal; with k above 1 and a capacity, capacityOrder "tokenMajor" makes topKRouter so`,
  );
  expectCausal("transformerLm", topKRouter({ width: 8, experts: 4, k: 2 }));
});

Deno.test("expertChoiceRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 0, experts: 4, capacityFactor: Infinity };
  assertEquals(
    assertThrows(() => expertChoiceRouter(wrong), ConfigError).message,
    `Cannot build expertChoiceRouter: 2 options are invalid
  width           0         must be a whole number from 1 up
  capacityFactor  Infinity  must be a number above 0`,
  );
});
