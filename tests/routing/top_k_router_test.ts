import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { eye, ones, tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { expertCapacity } from "../../src/routing/capacity.ts";
import { topKRouter, type TopKRouterOptions } from "../../src/routing/top_k_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { routeNaively } from "./naive_router.ts";

const WIDTH = 5;
const EXPERTS = 6;

/** A gate whose choices are far from ties. */
function wideGate(): { gate: Tensor } {
  return { gate: tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] }) };
}

const SETTINGS: Readonly<Record<string, Omit<TopKRouterOptions, "width" | "experts">>> = {
  "one expert, its score": { k: 1 },
  "two experts, their scores": { k: 2 },
  "three normalized sigmoids": { k: 3, score: "sigmoid", weights: "normalized" },
  "the softmax of two logits": { k: 2, score: "sigmoid", weights: "softmaxSelected" },
  "two of few slots": { k: 2, weights: "normalized", capacityFactor: 0.7, evalCapacityFactor: 0.5, groupSize: 7 },
  "two slots by token": { k: 2, capacityFactor: 0.6, capacityOrder: "tokenMajor" },
  "all experts, jittered": { k: EXPERTS, jitter: 0.05 },
  "two slots by priority": { k: 2, capacityFactor: 0.6, capacityOrder: "priority", groupSize: 7 },
  "sampled experts and dropped input": { k: 2, selection: "sampled", inputDropout: 0.2 },
};

for (const [setting, options] of Object.entries(SETTINGS)) {
  const router = topKRouter({ width: WIDTH, experts: EXPERTS, ...options });
  checkRouter({ name: `topKRouter() with ${setting}`, router, width: WIDTH, params: wideGate, sequenceLength: 12 });

  oracleTest(`topKRouter() with ${setting} equals a loop over tokens`, async () => {
    for (const count of [1, 7, 24]) {
      const random = randomSource(count);
      const hidden = Array.from({ length: count }, () => [...random.normals(WIDTH).map(Math.fround)]);
      const mask = hidden.map((_, t) => t % 6 !== 4);
      const gate = [...await wideGate().gate.data()];
      const sequenceLength = count === 24 ? 12 : count;
      const tokens = { hidden: tensor(hidden), mask: tensor(mask), sequenceLength };
      const plan = await readPlan(router.route(wideGate(), tokens));
      const expected = routeNaively({ hidden, mask, gate, sequenceLength, experts: EXPERTS, ...options });
      assertEquals(plan.rowAssign.slice(0, expected.rows.length), expected.rows);
      assertEquals([plan.counts, plan.load], [expected.counts, expected.load]);
      assertClose(plan.weight, expected.weights, { relative: 1e-9, absolute: 1e-12 }, "weights");
      assertAlmostEquals(plan.aux.balance!, expected.balance, 1e-9);
      assertAlmostEquals(plan.aux.zLoss!, expected.zLoss, 1e-9);
      assertAlmostEquals(plan.entropy, expected.entropy, 1e-9);
    }
  });
}

oracleTest("topKRouter() gives ties to the lower expert", async () => {
  const router = topKRouter({ width: 2, experts: 4, k: 2 });
  const gate = tensor([[1, 3, 3, 3], [0, 0, 0, 0]]);
  const plan = await readPlan(router.route({ gate }, { hidden: ones([3, 2]) }));
  assertEquals(plan.load, [0, 3, 3, 0]);
});

oracleTest("topKRouter() has the normalized top-2 weights of the worked example", async () => {
  const { workedExample } = await readGolden<{ workedExample: WorkedExample }>("switch.json");
  const { experts, weights } = workedExample.topTwoRenormalized;
  const router = topKRouter({ width: 3, experts: 3, k: 2, weights: "normalized" });
  const plan = await readPlan(router.route({ gate: eye(3) }, { hidden: fromGolden(workedExample.logits) }));
  assertClose(plan.weight, weights.data, { relative: 1e-6, absolute: 1e-7 }, "weights");
  plan.rowAssign.forEach((assignment, row) => {
    const expert = plan.expertOffsets.findLastIndex((start) => start <= row);
    assertEquals(experts.data[assignment], expert);
  });
});

interface WorkedExample {
  readonly logits: GoldenTensor;
  readonly topTwoRenormalized: { readonly experts: GoldenTensor; readonly weights: GoldenTensor };
}

oracleTest("topKRouter() gives all first choices a place before any second one, and by token on request", async () => {
  // Everybody wants expert 0 first and expert 1 second, but token 0 the other way round.
  const hidden = tensor([[1, 2, 0], [2, 1, 0], [2, 1, 0]]);
  const keptBy = async (capacityOrder: "choiceMajor" | "tokenMajor") => {
    const router = topKRouter({ width: 3, experts: 3, k: 2, capacityFactor: 1, capacityOrder });
    const { rowAssign, counts } = await readPlan(router.route({ gate: eye(3) }, { hidden }));
    assertEquals(counts, [2, 2, 0]);
    return rowAssign.slice(0, 4);
  };
  // Assignments are 2 · token + choice.
  assertEquals(await keptBy("choiceMajor"), [2, 4, 0, 3]);
  assertEquals(await keptBy("tokenMajor"), [1, 2, 0, 3]);
});

Deno.test("topKRouter() is causal unless a later token can take a second choice's place", () => {
  const sizes = { width: 2, experts: 4 };
  assertEquals(topKRouter({ ...sizes, k: 2 }).causal, true);
  assertEquals(topKRouter({ ...sizes, k: 1, capacityFactor: 1 }).causal, true);
  assertEquals(topKRouter({ ...sizes, k: 2, capacityFactor: 1 }).causal, false);
  assertEquals(topKRouter({ ...sizes, k: 2, evalCapacityFactor: 1 }).causal, false);
  assertEquals(topKRouter({ ...sizes, k: 2, capacityFactor: 1, capacityOrder: "tokenMajor" }).causal, true);
  assertEquals(topKRouter({ ...sizes, k: 1, capacityFactor: 1, capacityOrder: "priority" }).causal, false);
  assertEquals(topKRouter({ ...sizes, k: 1, capacityFactor: 1, retries: 1 }).causal, false);
  assertEquals(topKRouter({ ...sizes, k: 1, capacityOrder: "priority", retries: 1 }).causal, true);
});

oracleTest("topKRouter() teaches a gate of normalized single weights nothing", async () => {
  const hidden = tensor(randomSource(4).normals(8 * WIDTH), { shape: [8, WIDTH] });
  const gradientWith = async (weights: "scores" | "normalized") => {
    const router = topKRouter({ width: WIDTH, experts: EXPERTS, k: 1, weights });
    const { gate } = grad((params: { gate: Tensor }) => sum(mul(router.route(params, { hidden }).weight, 3)))(
      wideGate(),
    );
    return [...await gate.data()];
  };
  assert((await gradientWith("normalized")).every((value) => value === 0));
  assert((await gradientWith("scores")).some((value) => value !== 0));
});

oracleTest("topKRouter() normalizes sigmoids that all underflow", async () => {
  const router = topKRouter({ width: 1, experts: 3, k: 2, score: "sigmoid", weights: "normalized" });
  const gate = tensor([[-1000, -2000, -1000]]);
  const plan = await readPlan(router.route({ gate }, { hidden: ones([1, 1]) }));
  assertEquals(plan.weight, [0.5, 0.5]);
});

gpuTest("topKRouter() computes in f32 for half-precision tokens", async () => {
  const router = topKRouter({ width: 2, experts: 2, k: 1 });
  // The logits differ by less than bf16 can tell.
  const gate = tensor([[1, 1 + 2 ** -12], [0, 0]]);
  const plan = await readPlan(router.route({ gate }, { hidden: cast(ones([3, 2]), "bf16") }));
  assertEquals(plan.load, [0, 3]);
  assert(plan.weight.every((value) => value > 0.5));
});

oracleTest("topKRouter() jitters while training and asks for a key then", async () => {
  const router = topKRouter({ width: WIDTH, experts: EXPERTS, k: 1, jitter: 0.1 });
  const hidden = ones([4, WIDTH]);
  const weightsOf = async (context: { train?: boolean; key?: ReturnType<typeof key> }) => [
    ...await router.route(wideGate(), { hidden }, context).weight.data(),
  ];
  const calm = await weightsOf({});
  assert(calm.every((value) => value === calm[0]));
  const jittered = await weightsOf({ train: true, key: key(1) });
  assertEquals(new Set(jittered).size, 4);
  assert(String(await weightsOf({ train: true, key: key(2) })) !== String(jittered));
  const error = assertThrows(() => router.route(wideGate(), { hidden }, { train: true }), ConfigError);
  assertEquals(
    error.message,
    `Cannot route with topK(1/6): jitter draws random numbers while training, and the context has no key
Fix: pass { train: true, key } as context, with a key split for this call`,
  );
});

oracleTest("topKRouter() has the losses of uniform and concentrated routing", async () => {
  const router = topKRouter({ width: 1, experts: 4, k: 2 });
  const { balance, zLoss } = await read(router.route({ gate: zeros([1, 4]) }, { hidden: ones([5, 1]) }).aux);
  assertAlmostEquals(balance![0]!, 1, 1e-12);
  assertAlmostEquals(zLoss![0]!, Math.log(4) ** 2, 1e-12);
  const one = topKRouter({ width: 1, experts: 4, k: 1 });
  const full = await readPlan(one.route({ gate: tensor([[900, 0, 0, 0]]) }, { hidden: ones([5, 1]) }));
  assertEquals([full.aux.balance, full.entropy], [4, 0]);
});

oracleTest("balance below 1 occurs: uniform routing is no lower bound", async () => {
  const logits = [...new Array(9).fill([0.51, 0.49]), [0.01, 0.99]].map((row: number[]) => row.map(Math.log));
  const router = topKRouter({ width: 2, experts: 2, k: 1 });
  const plan = await readPlan(router.route({ gate: eye(2) }, { hidden: tensor(logits) }));
  assertAlmostEquals(plan.aux.balance!, 0.936, 1e-6);
});

oracleTest("topKRouter() starts with the gate its options describe", async () => {
  const spread = async (options: Partial<TopKRouterOptions>) => {
    const router = topKRouter({ width: 100, experts: 50, k: 1, ...options });
    const gate = [...await router.init(key(3)).gate.data()];
    return {
      deviation: Math.sqrt(gate.reduce((total, value) => total + value ** 2, 0) / gate.length),
      most: Math.max(...gate.map(Math.abs)),
    };
  };
  assertAlmostEquals((await spread({})).deviation, 0.02, 1e-3);
  const cut = await spread({ gateInit: "truncatedNormal", gateStd: 0.1 });
  assert(cut.most < 0.2);
  assertAlmostEquals(cut.deviation, 0.088, 4e-3);
});

oracleTest("topKRouter() samples experts in proportion to their probability", async () => {
  const router = topKRouter({ width: 1, experts: 3, k: 1, selection: "sampled" });
  const gate = tensor([[Math.log(1), Math.log(2), Math.log(5)]]);
  const hidden = ones([4000, 1]);
  const plan = await readPlan(router.route({ gate }, { hidden }, { train: true, key: key(5) }));
  plan.load.forEach((load, e) => assertAlmostEquals(load / 4000, [1, 2, 5][e]! / 8, 0.03));
  assertEquals([...new Set(plan.weight.map((value) => value.toFixed(6)))].sort(), ["0.125000", "0.250000", "0.625000"]);
  assertEquals((await readPlan(router.route({ gate }, { hidden }))).load, [0, 0, 4000]);
});

Deno.test("expertCapacity() rounds down, but not below the least or beyond the group", () => {
  const base = { groupSize: 100, experts: 5, k: 1, capacityFactor: 1, minCapacity: 4 };
  assertEquals(expertCapacity(base), 20);
  assertEquals(expertCapacity({ ...base, capacityFactor: 1.15 }), 23);
  assertEquals(expertCapacity({ ...base, experts: 7 }), 14);
  assertEquals(expertCapacity({ ...base, k: 2 }), 40);
  assertEquals(expertCapacity({ ...base, capacityFactor: 10 }), 100);
  assertEquals(expertCapacity({ ...base, groupSize: 3 }), 4);
  assertEquals(expertCapacity({ ...base, capacityFactor: Infinity }), Infinity);
});

Deno.test("topKRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 8, experts: "4", k: 2.5, capacity: 0.5, score: "softmx", jitter: 1, capacityFactor: 0 };
  assertEquals(
    assertThrows(() => topKRouter(wrong), ConfigError).message,
    `Cannot build topKRouter: 6 options are invalid
  experts         "4"       must be a whole number from 1 up
  k               2.5       must be a whole number from 1 up
  score           "softmx"  must be one of softmax, sigmoid; did you mean softmax?
  capacityFactor  0         must be a number above 0, or Infinity to drop nothing
  jitter          1         must be a number from 0 up, below 1
  capacity        0.5       unknown option; did you mean capacityFactor?`,
  );
  assertEquals(
    assertThrows(() => topKRouter({ width: 8, experts: 4, k: 5 }), ConfigError).message,
    `Cannot build topKRouter: 1 option is invalid
  k  5  must be a whole number in 1..4 (experts is 4)`,
  );
  assertEquals(
    assertThrows(() => topKRouter({ width: 8, experts: 4, k: 2, retries: 1 }), ConfigError).message,
    `Cannot build topKRouter: 1 option is invalid
  retries  1  must be 0 for more than one expert a token (k is 2)`,
  );
});

oracleTest("topKRouter() refuses tokens and parameters that do not fit", () => {
  const router = topKRouter({ width: 2, experts: 3, k: 1 });
  const params = { gate: zeros([2, 3]) };
  const hidden = zeros([6, 2]);
  const messageOf = (route: () => unknown, kind: typeof ShapeError | typeof DTypeError) =>
    assertThrows(route, kind).message.split("\n")[0];
  assertEquals(
    messageOf(() => router.route(params, { hidden: zeros([2, 3, 2]) }), ShapeError),
    "Cannot route: tokens.hidden is f32[2, 3, 2], it should be [tokens, width]",
  );
  assertEquals(
    messageOf(() => router.route(params, { hidden: zeros([6, 4]) }), ShapeError),
    "Cannot route: tokens.hidden is f32[6, 4], its shape should be [6, 2]",
  );
  assertEquals(
    messageOf(() => router.route({ gate: zeros([3, 2]) }, { hidden }), ShapeError),
    "Cannot route: params.gate is f32[3, 2], its shape should be [2, 3]",
  );
  assertEquals(
    messageOf(() => router.route(params, { hidden, mask: ones([6]) }), DTypeError),
    "Cannot route: tokens.mask is f32[6], its type should be bool",
  );
  assertEquals(
    messageOf(() => router.route(params, { hidden, sequenceLength: 4 }), ShapeError),
    "Cannot cut 6 tokens into sequences of 4",
  );
});
