import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { eye, ones, tensor } from "../../src/ops/creation.ts";
import { take } from "../../src/ops/gather.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { reshape } from "../../src/ops/view.ts";
import { switchRouter } from "../../src/routing/switch_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

interface WorkedExample {
  readonly capacity: number;
  readonly logits: GoldenTensor;
  readonly probabilities: GoldenTensor;
  readonly ranks: GoldenTensor;
  readonly experts: GoldenTensor;
  readonly keep: GoldenTensor;
  readonly weights: GoldenTensor;
  readonly meanProbabilities: GoldenTensor;
  readonly balance: number;
  readonly balanceGradient: GoldenTensor;
  readonly zLoss: number;
  readonly zLossGradient: GoldenTensor;
  readonly batchPrioritized: { readonly keep: GoldenTensor };
  readonly noTokenLeftBehind: { readonly experts: GoldenTensor };
  readonly constantExperts: {
    readonly expertOutputs: readonly number[];
    readonly output: GoldenTensor;
    readonly gradientOfSum: GoldenTensor;
  };
}

interface AuxCase {
  readonly value: number;
  readonly gradients: { readonly x: GoldenTensor; readonly router: GoldenTensor };
}

interface RouterCase {
  readonly capacity: number;
  readonly x: GoldenTensor;
  readonly router: GoldenTensor;
  readonly experts: GoldenTensor;
  readonly gates: GoldenTensor;
  readonly keep: GoldenTensor;
  readonly aux: { readonly balance: AuxCase; readonly zLoss: AuxCase };
}

const { workedExample, router: transformers } = await readGolden<
  { readonly workedExample: WorkedExample; readonly router: RouterCase }
>("switch.json");

/** Agreement with numbers that were rounded to float32. */
const ROUNDED = { relative: 2e-6, absolute: 1e-7 };
/** Agreement of float32 kernels with them. */
const COMPUTED = { relative: 1e-5, absolute: 2e-6 };

const WIDTH = 4;
const EXPERTS = 3;
const NARROW = { width: WIDTH, experts: EXPERTS, capacityFactor: 0.75, evalCapacityFactor: 1, minCapacity: 2 };

checkRouter({
  name: "switchRouter()",
  router: switchRouter({ ...NARROW, groupSize: 9 }),
  width: WIDTH,
  sequenceLength: 12,
  params: () => ({ gate: tensor(randomSource(2).normals(12).map(Math.fround), { shape: [WIDTH, EXPERTS] }) }),
});

/** With the identity as gate, the hidden states are the logits. */
function routeLogits(logits: Tensor) {
  const router = switchRouter({ width: 3, experts: 3, evalCapacityFactor: 1, minCapacity: 1 });
  return router.route({ gate: eye(3) }, { hidden: logits });
}

async function checkWorkedExample(): Promise<void> {
  const logits = fromGolden(workedExample.logits);
  const plan = await readPlan(routeLogits(logits));
  assertEquals(plan.expertOffsets, [0, 2, 3, 4]);
  assertEquals(plan.rowToken.slice(0, 4), [0, 1, 3, 5]);
  assertEquals(plan.assignRow, [0, 1, 0xffffffff, 2, 0xffffffff, 3]);
  assertEquals(plan.assignRow.map((row) => row === 0xffffffff ? 0 : 1), workedExample.keep.data);
  assertEquals([plan.load, plan.counts, plan.dropped], [[4, 1, 1], [2, 1, 1], 2]);
  assertClose(plan.weight, workedExample.weights.data, COMPUTED, "weight");
  assertClose([plan.aux.balance!, plan.aux.zLoss!], [workedExample.balance, workedExample.zLoss], COMPUTED, "aux");
  const entropy = -workedExample.meanProbabilities.data.reduce((total, p) => total + p * Math.log(p), 0);
  assertClose([plan.entropy], [entropy], COMPUTED, "entropy");
  for (const name of ["balance", "zLoss"] as const) {
    const gradient = await grad((x: Tensor) => routeLogits(x).aux[name]!)(logits).data();
    assertClose(gradient, workedExample[`${name}Gradient`].data, COMPUTED, `gradient of ${name}`);
  }
}

oracleTest("switchRouter() has the numbers of the worked example", checkWorkedExample);
gpuTest("switchRouter() has the numbers of the worked example", checkWorkedExample);

oracleTest("switchRouter() gets the task's gradient through the weights of kept tokens", async () => {
  const { expertOutputs, output, gradientOfSum } = workedExample.constantExperts;
  const chosen = take(tensor([...expertOutputs]), fromGolden(workedExample.experts));
  const outputOf = (logits: Tensor) => mul(routeLogits(logits).weight, chosen);
  const logits = fromGolden(workedExample.logits);
  assertClose(await outputOf(logits).data(), output.data, ROUNDED, "output");
  assertClose(await grad((x: Tensor) => sum(outputOf(x)))(logits).data(), gradientOfSum.data, ROUNDED, "gradient");
});

oracleTest("switchRouter() has a balance loss E² times that of sigma-MoE's Switch baseline", async () => {
  const { aux } = await readPlan(routeLogits(fromGolden(workedExample.logits)));
  assertAlmostEquals(aux.balance!, 1.281139, 1e-6);
  assertAlmostEquals(aux.balance! / 9, 0.142349, 1e-6);
});

/** Two sequences of six tokens; with four experts, a factor of 4/3 makes the two slots of the reference. */
function routeLikeTransformers(x: Tensor, gate: Tensor) {
  const router = switchRouter({ width: 6, experts: 4, evalCapacityFactor: 4 / 3, minCapacity: 1 });
  return router.route({ gate }, { hidden: reshape(x, [12, 6]), sequenceLength: 6 });
}

async function checkTransformers(): Promise<void> {
  const { x, router, experts, gates, keep, aux } = transformers;
  const plan = await readPlan(routeLikeTransformers(fromGolden(x), fromGolden(router)));
  const kept = plan.assignRow.map((row) => row === 0xffffffff ? 0 : 1);
  assertEquals(kept, keep.data);
  assertClose(plan.weight, gates.data.map((gate, t) => gate * keep.data[t]!), COMPUTED, "weight");
  plan.rowToken.slice(0, plan.expertOffsets.at(-1)).forEach((token, row) => {
    assertEquals(plan.expertOffsets.findLastIndex((start) => start <= row), experts.data[token]);
  });
  for (const name of ["balance", "zLoss"] as const) {
    assertClose([plan.aux[name]!], [aux[name].value], COMPUTED, name);
    const gradients = grad((inputs: { x: Tensor; gate: Tensor }) =>
      routeLikeTransformers(inputs.x, inputs.gate).aux[name]!
    )({ x: fromGolden(x), gate: fromGolden(router) });
    assertClose(await gradients.x.data(), aux[name].gradients.x.data, COMPUTED, `${name} by x`);
    assertClose(await gradients.gate.data(), aux[name].gradients.router.data, COMPUTED, `${name} by router`);
  }
}

oracleTest("switchRouter() agrees with the Switch router of transformers", checkTransformers);
gpuTest("switchRouter() agrees with the Switch router of transformers", checkTransformers);

oracleTest("switchRouter() has more slots outside training, and none run out with an infinite factor", async () => {
  const params = { gate: tensor([[5, 0], [0, 0]]) };
  const tokens = { hidden: ones([20, 2]) };
  const keptBy = async (options: { evalCapacityFactor?: number }, train: boolean) => {
    const router = switchRouter({ width: 2, experts: 2, jitter: 0, ...options });
    return (await readPlan(router.route(params, tokens, { train }))).counts[0];
  };
  assertEquals(await keptBy({}, true), 12);
  assertEquals(await keptBy({}, false), 20);
  assertEquals(await keptBy({ evalCapacityFactor: 1.5 }, false), 15);
  assertEquals(await keptBy({ evalCapacityFactor: Infinity }, false), 20);
});

oracleTest("switchRouter() draws a gate of a tenth of the usual variance, cut at two deviations", async () => {
  const router = switchRouter({ width: 100, experts: 60 });
  const gate = [...await router.init(key(1)).gate.data()];
  const sigma = Math.sqrt(0.1 / 100);
  assert(Math.max(...gate.map(Math.abs)) < 2 * sigma);
  // Cutting at two deviations leaves 0.88 of the deviation.
  assertAlmostEquals(Math.sqrt(gate.reduce((total, value) => total + value ** 2, 0) / gate.length) / sigma, 0.88, 0.02);
});

oracleTest("switchRouter() permutes with its tokens where nothing is dropped", async () => {
  const router = switchRouter({ width: WIDTH, experts: EXPERTS, evalCapacityFactor: Infinity });
  const params = router.init(key(2));
  const hidden = tensor(randomSource(3).normals(10 * WIDTH), { shape: [10, WIDTH] });
  const order = [3, 1, 4, 0, 9, 2, 6, 5, 8, 7];
  const plan = await readPlan(router.route(params, { hidden }));
  const permuted = await readPlan(
    router.route(params, { hidden: take(hidden, tensor(order, { dtype: "u32" })) }),
  );
  assertEquals(permuted.weight, order.map((t) => plan.weight[t]!));
  assertEquals(permuted.load, plan.load);
});

const TIGHT = { width: 3, experts: 3, evalCapacityFactor: 1, minCapacity: 1 };

oracleTest("switchRouter() serves tokens by priority as in the worked example", async () => {
  const router = switchRouter({ ...TIGHT, priority: "probability" });
  const plan = await readPlan(router.route({ gate: eye(3) }, { hidden: fromGolden(workedExample.logits) }));
  assertEquals(plan.assignRow.map((row) => row === 0xffffffff ? 0 : 1), workedExample.batchPrioritized.keep.data);
  assertEquals(router.causal, false);
});

oracleTest("switchRouter() leaves no token behind in the worked example", async () => {
  const router = switchRouter({ ...TIGHT, retries: 2 });
  const plan = await readPlan(router.route({ gate: eye(3) }, { hidden: fromGolden(workedExample.logits) }));
  const experts = plan.assignRow.map((row) => plan.expertOffsets.findLastIndex((start) => start <= row));
  assertEquals(experts, workedExample.noTokenLeftBehind.experts.data);
  const probabilities = fromGolden(workedExample.probabilities);
  const p = await probabilities.data();
  assertClose(plan.weight, experts.map((e, t) => p[3 * t + e]!), COMPUTED, "weight of the expert finally used");
  // Offers of the retries count as load; the balance loss is of first choices.
  assertEquals([plan.load, plan.dropped], [[4, 3, 2], 0]);
  assertClose([plan.aux.balance!], [workedExample.balance], COMPUTED, "balance");
});

checkRouter({
  name: "switchRouter() with retries and priority",
  router: switchRouter({ ...NARROW, groupSize: 9, minCapacity: 1, retries: 1, priority: "probability" }),
  width: WIDTH,
  sequenceLength: 12,
  params: () => ({ gate: tensor(randomSource(2).normals(12).map(Math.fround), { shape: [WIDTH, EXPERTS] }) }),
});

oracleTest("switchRouter() drops nobody with enough retries and room for all", async () => {
  const router = switchRouter({ width: WIDTH, experts: 5, evalCapacityFactor: 1, minCapacity: 1, retries: 4 });
  const hidden = tensor(randomSource(5).normals(40 * WIDTH), { shape: [40, WIDTH] });
  const plan = await readPlan(router.route(router.init(key(3)), { hidden }));
  assertEquals([plan.counts, plan.dropped], [[8, 8, 8, 8, 8], 0]);
});

Deno.test("switchRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 0, experts: 4, k: 2, capacityFactr: 1, initScale: -0.1 };
  assertEquals(
    assertThrows(() => switchRouter(wrong), ConfigError).message,
    `Cannot build switchRouter: 4 options are invalid
  width          0     must be a whole number from 1 up
  initScale      -0.1  must be a number above 0
  k              2     unknown option; the options are width, experts, capacityFactor, evalCapacityFactor, minCapacity, groupSize, priority, retries, jitter, inputDropout, selection, initScale
  capacityFactr  1     unknown option; did you mean capacityFactor?`,
  );
});

gpuTest("switchRouter() builds its plan in few kernels", () => {
  const router = switchRouter({ width: 16, experts: 8, groupSize: 32 });
  const program = jit((gate: Tensor, hidden: Tensor) => router.route({ gate }, { hidden }))
    .program(router.init(key(0)).gate, ones([64, 16]));
  // Equal sub-expressions are compiled once: one ranking for capacity and balance, one sort of what is kept.
  assertEquals(program.match(/group: place/g)?.length, 2);
});
