import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { Key } from "../../src/core/key.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { planFromBlocks, planOfAll } from "../../src/routing/block_plan.ts";
import { planFromTopK } from "../../src/routing/plan.ts";
import type { DispatchPlan, RouteContext, Tokens } from "../../src/routing/plan_types.ts";
import { type ThorInference, thorRouter } from "../../src/routing/thor_router.ts";
import { assertPlanHolds, checkRouter, type PlanData, readPlan } from "../support/check_router.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const INFERENCES: readonly ThorInference[] = ["token", "sentence", "ensemble"];

for (const inference of INFERENCES) {
  checkRouter({
    name: `thorRouter() by ${inference}`,
    router: thorRouter({ experts: 3, inference }),
    width: 2,
    sequenceLength: 6,
  });
}

/** Experts by token, for plans of one expert each. */
function expertsOf({ assignRow, expertOffsets }: PlanData): number[] {
  return assignRow.map((row) => expertOffsets.findLastIndex((offset) => offset <= row));
}

function tokensOf(sequences: number, length: number): Tokens {
  return { hidden: zeros([sequences * length, 2]), sequenceLength: length };
}

async function checkBlocks(): Promise<void> {
  for (const blocks of [[2], [1, 0], [2, 2, 0], [0, 1, 2, 1]]) {
    const tokens = 12;
    const choices = Array.from({ length: tokens }, (_, t) => blocks[Math.floor(t * blocks.length / tokens)]!);
    const plan = planFromBlocks({ tokens, experts: 3, blockExperts: tensor(blocks, { dtype: "u32" }) });
    const sorted = planFromTopK({
      experts: 3,
      indices: tensor(choices, { shape: [tokens, 1], dtype: "u32" }),
      weights: tensor(choices.map(() => 1), { shape: [tokens, 1] }),
    });
    const [actual, expected] = [await readPlan(plan), await readPlan(sorted)];
    assertEquals({ ...actual, entropy: 0 }, { ...expected, entropy: 0 }, `blocks ${blocks}`);
    assert(Math.abs(actual.entropy - expected.entropy) < 1e-6);
  }
  const all = await readPlan(planOfAll(5, 3));
  const everyone = Array.from({ length: 15 }, (_, a) => a % 3);
  const expected = await readPlan(planFromTopK({
    experts: 3,
    indices: tensor(everyone, { shape: [5, 3], dtype: "u32" }),
    weights: tensor(everyone.map(() => Math.fround(1 / 3)), { shape: [5, 3] }),
  }));
  assertEquals({ ...all, entropy: 0 }, { ...expected, entropy: 0, weight: all.weight });
  assert(all.weight.every((value) => Math.abs(value - 1 / 3) < 1e-6));
}

oracleTest("planFromBlocks() and planOfAll() are what sorting the tokens gives", checkBlocks);
gpuTest("planFromBlocks() and planOfAll() are what sorting the tokens gives", checkBlocks);

oracleTest("planFromBlocks() refuses blocks that do not divide the tokens", () => {
  const blockExperts = tensor([0, 1], { dtype: "u32" });
  assertThrows(
    () => planFromBlocks({ tokens: 5, experts: 2, blockExperts }),
    ConfigError,
    "tokens  5  must be a multiple of 2, the number of blocks",
  );
});

oracleTest("thorRouter() has one expert for all tokens of a pass, every expert as often", async () => {
  const router = thorRouter({ experts: 4 });
  const params = router.init(key(0));
  const drawn = new Array<number>(4).fill(0);
  for (let seed = 0; seed < 80; seed++) {
    const plan = await readPlan(router.route(params, tokensOf(2, 3), { train: true, key: key(seed) }));
    assertEquals(new Set(expertsOf(plan)).size, 1);
    assertEquals(plan.rowToken, [0, 1, 2, 3, 4, 5], "rows are in the order of the tokens");
    drawn[expertsOf(plan)[0]!]!++;
  }
  assert(drawn.every((count) => count > 8), `draws ${drawn}`);
});

/** The experts of the two passes, for many keys. */
async function pairsOf(draw: "replacement" | "distinct", experts: number): Promise<(readonly [number, number])[]> {
  const router = thorRouter({ experts, passes: 2, draw });
  const pairs: (readonly [number, number])[] = [];
  for (let seed = 0; seed < 60; seed++) {
    const plan = await readPlan(router.route(router.init(key(0)), tokensOf(2, 3), { train: true, key: key(seed) }));
    assertPlanHolds(plan);
    const [a, , b, c, , d] = expertsOf(plan) as [number, number, number, number, number, number];
    assertEquals([a, c], [b, d], "a pass has one expert");
    pairs.push([a, c]);
  }
  return pairs;
}

oracleTest("thorRouter() draws the passes of a step with replacement, or distinct ones", async () => {
  const same = (await pairsOf("replacement", 2)).filter(([first, second]) => first === second).length;
  assert(same > 15 && same < 45, `${same} of 60 pairs are the same`);
  const distinct = await pairsOf("distinct", 3);
  assert(distinct.every(([first, second]) => first !== second));
  assertEquals(new Set(distinct.map(String)).size, 6, "every ordered pair occurs");
});

oracleTest("thorRouter() draws outside training by token, by sentence, or takes all", async () => {
  const [sequences, length] = [40, 5];
  const found = await Promise.all(INFERENCES.map(async (inference) => {
    const router = thorRouter({ experts: 3, inference });
    return await readPlan(router.route(router.init(key(0)), tokensOf(sequences, length)));
  }));
  const [token, sentence, ensemble] = found as [PlanData, PlanData, PlanData];
  const rowsOf = (experts: readonly number[]) =>
    Array.from({ length: sequences }, (_, s) => new Set(experts.slice(s * length, (s + 1) * length)).size);
  assert(rowsOf(expertsOf(token)).some((kinds) => kinds > 1), "tokens of a sequence differ");
  assert(rowsOf(expertsOf(sentence)).every((kinds) => kinds === 1), "tokens of a sequence agree");
  for (const { counts } of [token, sentence]) {
    assert(counts.every((count) => count > sequences * length / 6), `counts ${counts}`);
  }
  assertEquals(ensemble.counts, [200, 200, 200]);
});

oracleTest("thorRouter() draws the same token by token, and others with another seed", async () => {
  const unsigned = (values: readonly number[]) => tensor(values, { dtype: "u32" });
  for (const inference of ["token", "sentence"] as const) {
    const router = thorRouter({ experts: 3, inference });
    const params = router.init(key(0));
    const whole = expertsOf(await readPlan(router.route(params, tokensOf(4, 6))));
    for (let place = 0; place < 6; place++) {
      const step = { ...tokensOf(4, 1), positions: unsigned([place, place, place, place]) };
      const experts = expertsOf(await readPlan(router.route(params, step)));
      assertEquals(experts, [0, 1, 2, 3].map((sequence) => whole[sequence * 6 + place]!));
    }
    const seeds = [0, 1, 2, 3].map((seed) => router.init(key(seed)));
    const samples = await Promise.all(
      seeds.map(async (seed) => expertsOf(await readPlan(router.route(seed, tokensOf(4, 6))))),
    );
    assert(new Set(samples.map(String)).size > 1);
  }
});

gpuTest("thorRouter() draws anew at each call of one compiled function", async () => {
  const router = thorRouter({ experts: 8 });
  const params = router.init(key(0));
  const load = jit((key: Key) => router.route(params, tokensOf(1, 4), { train: true, key }).stats.load);
  const seen = new Set<string>();
  for (let seed = 0; seed < 12; seed++) seen.add(String(await load(key(seed)).data()));
  assert(seen.size > 3, `${seen.size} different draws`);
  assertEquals(load.traces, 1);
});

oracleTest("thorRouter() pads with passes, and refuses what it cannot draw", async () => {
  const router = thorRouter({ experts: 3, passes: 2, draw: "distinct" });
  const params = router.init(key(0));
  const route = (tokens: Tokens, context: RouteContext): DispatchPlan => router.route(params, tokens, context);
  const mask = tensor([true, true, false, true, false, true], { dtype: "bool" });
  const plan = await readPlan(route({ hidden: zeros([6, 2]), mask }, { train: true, key: key(0) }));
  assertPlanHolds(plan, [true, true, false, true, false, true]);
  assertEquals([plan.counts.reduce((a, b) => a + b), plan.dropped], [4, 2]);
  assertThrows(
    () => route({ hidden: zeros([5, 2]) }, { train: true, key: key(0) }),
    ConfigError,
    "tokens  5  must be a multiple of 2, the number of blocks",
  );
  const missing = assertThrows(() => route({ hidden: zeros([4, 2]) }, { train: true }), ConfigError);
  assertEquals(
    missing.message,
    `Cannot route with thor(sentence, 3): the choice of an expert draws random numbers while training, and the context has no key
Fix: pass { train: true, key } as context, with a key split for this call`,
  );
});

Deno.test("thorRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const options: any = { experts: 0, passes: 1.5, draw: "distict", inference: "sentences" };
  const error = assertThrows(() => thorRouter(options), ConfigError);
  assertEquals(
    error.message,
    `Cannot build thorRouter: 4 options are invalid
  experts    0            must be a whole number in 1..65536
  passes     1.5          must be a whole number from 1 up
  draw       "distict"    must be one of replacement, distinct; did you mean distinct?
  inference  "sentences"  must be one of token, sentence, ensemble; did you mean sentence?`,
  );
  for (const passes of [1, 4]) {
    assertThrows(
      () => thorRouter({ experts: 3, passes, draw: "distinct" }),
      ConfigError,
      `passes  ${passes}  must be a whole number in 2..3 for distinct draws (experts is 3)`,
    );
  }
});
