import { assert, assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vmap } from "../../src/core/vmap.ts";
import { ones, scalar, tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { slice } from "../../src/ops/slice.ts";
import { groupOfToken, routingGroups, splitByGroup } from "../../src/routing/groups.ts";
import { planFromAssignments, planFromTopK } from "../../src/routing/plan.ts";
import { assertPlanAlike, assertPlanHolds, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest, withOracle } from "../support/runtimes.ts";

function indices(rows: readonly (readonly number[])[]): Tensor {
  return tensor(rows, { dtype: "u32" });
}

oracleTest("planFromTopK() sorts assignments by expert and keeps their order", async () => {
  const plan = await readPlan(planFromTopK({
    experts: 3,
    indices: indices([[2, 0], [0, 2], [2, 1]]),
    weights: tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]),
  }));
  assertPlanHolds(plan);
  assertEquals(plan.expertOffsets, [0, 2, 3, 6]);
  assertEquals(plan.rowAssign, [1, 2, 5, 0, 3, 4]);
  assertEquals(plan.rowToken, [0, 1, 2, 0, 1, 2]);
  assertEquals(plan.assignRow, [3, 0, 1, 4, 5, 2]);
  assertEquals([plan.load, plan.dropped], [[2, 1, 3], 0]);
});

oracleTest("planFromTopK() takes a number from experts up for no choice", async () => {
  const plan = await readPlan(planFromTopK({
    experts: 2,
    indices: indices([[1, 2], [0xffffffff, 2], [0, 1]]),
    weights: ones([3, 2]),
    capacity: 1,
  }));
  assertPlanHolds(plan);
  assertEquals(plan.rowAssign.slice(0, 2), [4, 0]);
  assertEquals([plan.load, plan.dropped], [[1, 2], 4]);
});

oracleTest("planFromTopK() counts slots in every routing group", async () => {
  // Two sequences of three, cut after two tokens: groups {0, 1}, {2}, {3, 4}, {5}.
  const plan = await readPlan(planFromTopK({
    experts: 2,
    indices: indices([[0], [0], [0], [1], [1], [1]]),
    weights: ones([6, 1]),
    capacity: 1,
    groups: routingGroups({ tokens: 6, groupSize: 2, sequenceLength: 3 }),
  }));
  assertPlanHolds(plan);
  assertEquals(plan.rowToken.slice(0, 4), [0, 2, 3, 5]);
  assertEquals([plan.load, plan.counts], [[3, 3], [2, 2]]);
});

oracleTest("planFromTopK() drops everything at capacity 0, and copes without tokens", async () => {
  const nothing = planFromTopK({ experts: 2, indices: indices([[1], [0]]), weights: ones([2, 1]), capacity: 0 });
  const plan = await readPlan(nothing);
  assertPlanHolds(plan);
  assertEquals([plan.counts, plan.dropped], [[0, 0], 2]);
  const empty = { experts: 2, indices: zeros([0, 2], { dtype: "u32" }), weights: zeros([0, 2]) };
  for (const capacity of [1, Infinity]) {
    const none = await readPlan(planFromTopK({ ...empty, capacity }));
    assertPlanHolds(none);
    assertEquals([none.assignments, none.expertOffsets], [0, [0, 0, 0]]);
  }
});

oracleTest("planFromTopK() hands the gradient of kept weights on, and none of dropped ones", async () => {
  const weights = tensor([[0.5], [0.6], [0.7]]);
  const total = (values: Tensor) =>
    sum(planFromTopK({ experts: 1, indices: indices([[0], [0], [0]]), weights: values, capacity: 2 }).weight);
  assertEquals([...await grad(total)(weights).data()], [1, 1, 0]);
});

oracleTest("planFromTopK() carries losses, scale and state along", () => {
  const plan = planFromTopK({
    experts: 1,
    indices: indices([[0]]),
    weights: ones([1, 1]),
    aux: { balance: scalar(2) },
    scaleAt: "input",
    carry: { step: scalar(3) },
  });
  assertEquals([Object.keys(plan.aux), plan.scaleAt, "carry" in plan], [["balance"], "input", true]);
  const plain = planFromTopK({ experts: 1, indices: indices([[0]]), weights: ones([1, 1]) });
  assertEquals([plain.aux, plain.scaleAt, "carry" in plain], [{}, "output", false]);
});

oracleTest("planFromTopK() under vmap plans like a loop", async () => {
  const random = randomSource(1);
  const choices = Array.from({ length: 3 * 10 * 2 }, () => random.integer(0, 4));
  const all = tensor(choices, { dtype: "u32", shape: [3, 10, 2] });
  const route = (each: Tensor) => planFromTopK({ experts: 4, indices: each, weights: ones([10, 2]), capacity: 3 });
  const { rowAssign, expertOffsets } = vmap(route)(all);
  for (let i = 0; i < 3; i++) {
    const alone = await readPlan(route(slice(all, [i])));
    assertEquals([...await slice(rowAssign, [i]).data()], alone.rowAssign);
    assertEquals([...await slice(expertOffsets, [i]).data()], alone.expertOffsets);
  }
});

gpuTest("planFromTopK() plans many tokens like the oracle, every time", async () => {
  const random = randomSource(2);
  const [tokens, k, experts] = [700, 3, 13];
  const choices = Array.from({ length: tokens * k }, () => random.integer(0, experts + 1));
  const values = random.normals(tokens * k).map(Math.fround);
  const route = (ids: Tensor, weights: Tensor) =>
    planFromTopK({
      experts,
      indices: ids,
      weights,
      capacity: 9,
      groups: routingGroups({ tokens, groupSize: 64, sequenceLength: 350 }),
    });
  const plan = (run: typeof route) =>
    readPlan(run(tensor(choices, { dtype: "u32", shape: [tokens, k] }), tensor(values, { shape: [tokens, k] })));
  const expected = await withOracle(() => plan(route));
  assertPlanHolds(expected);
  const compiled = jit(route);
  const first = await plan(compiled);
  assertPlanAlike(first, expected);
  for (let repeat = 0; repeat < 3; repeat++) assertEquals(await plan(compiled), first);
});

async function checkAssignments(): Promise<void> {
  // Tokens with 2, 0, 1 and 3 assignments, two spare places, and token 2 is padding.
  const options = {
    experts: 3,
    indices: tensor([1, 0, 2, 2, 1, 0, 1, 1], { dtype: "u32" }),
    weights: tensor([1, 2, 3, 4, 5, 6, 7, 8]),
    tokenOffsets: tensor([0, 2, 2, 3, 6], { dtype: "u32" }),
  };
  const mask = [true, true, false, true];
  const plan = await readPlan(planFromAssignments({ ...options, mask: tensor(mask) }));
  assertPlanHolds(plan, mask);
  assertEquals(plan.expertOffsets, [0, 2, 4, 5]);
  assertEquals(plan.rowAssign, [1, 5, 0, 4, 3, 2, 6, 7]);
  assertEquals(plan.rowToken.slice(0, 5), [0, 3, 0, 3, 3]);
  assertEquals(plan.weight, [1, 2, 0, 4, 5, 6, 0, 0]);
  assertEquals([plan.load, plan.dropped], [[2, 2, 1], 3]);
  const all = await readPlan(planFromAssignments(options));
  assertEquals(all.counts, [2, 2, 2]);
}

gpuTest("planFromTopK() takes three dispatches at most", async () => {
  for (const [tokens, experts, k] of [[512, 8, 1], [2048, 8, 1], [2048, 8, 2], [4096, 64, 8]] as const) {
    const plan = jit((ids: Tensor, weights: Tensor) => {
      const { stats: _stats, ...rest } = planFromTopK({ experts, indices: ids, weights });
      return rest;
    });
    const printed = String(await plan.program(zeros([tokens, k], { dtype: "u32" }), zeros([tokens, k])));
    const dispatches = Number(/: (\d+) dispatches/.exec(printed)?.[1]);
    assert(dispatches <= 3, printed);
  }
});

oracleTest("planFromAssignments() plans for tokens with different numbers of experts", checkAssignments);
gpuTest("planFromAssignments() plans for tokens with different numbers of experts", checkAssignments);

oracleTest("planFromAssignments() copes with tokens that all have none", async () => {
  const plan = await readPlan(planFromAssignments({
    experts: 2,
    indices: tensor([0, 1], { dtype: "u32" }),
    weights: ones([2]),
    tokenOffsets: zeros([4], { dtype: "u32" }),
  }));
  assertPlanHolds(plan);
  assertEquals([plan.tokens, plan.counts, plan.entropy], [3, [0, 0], 0]);
});

oracleTest("plans refuse indices, weights and masks that do not fit", () => {
  const good = { experts: 2, indices: indices([[0], [1]]), weights: ones([2, 1]) };
  const messageOf = (
    options: Partial<Parameters<typeof planFromTopK>[0]>,
    kind: typeof ShapeError | typeof DTypeError,
  ) => assertThrows(() => planFromTopK({ ...good, ...options }), kind).message;
  assertEquals(
    messageOf({ weights: ones([2]) }, ShapeError),
    `Cannot route: weights is f32[2], its shape should be [2, 1]
  op  planFromTopK
Fix: pass weights with the shape [2, 1]`,
  );
  assertEquals(
    messageOf({ indices: zeros([2, 1]) }, DTypeError),
    `Cannot route: indices is f32[2, 1], its type should be u32
  op  planFromTopK
Fix: cast it first: cast(x, "u32")`,
  );
  assert(messageOf({ mask: tensor([true]) }, ShapeError).startsWith("Cannot route: mask is bool[1]"));
});

oracleTest("routingGroups() cuts sequences, and leaves the rest of each a shorter group", async () => {
  const groups = routingGroups({ tokens: 10, groupSize: 2, sequenceLength: 5 });
  assertEquals(groups, { tokens: 10, groups: 6, groupSize: 2, sequences: 2, sequenceLength: 5 });
  assertEquals([...await groupOfToken(groups).data()], [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]);
  const rows = splitByGroup(tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), groups);
  assertEquals(rows.shape, [6, 2]);
  assertEquals([...await rows.data()], [1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 0]);
  assertEquals(routingGroups({ tokens: 10 }).groups, 1);
  assertEquals(routingGroups({ tokens: 10, groupSize: 8, sequenceLength: 5 }).groupSize, 5);
  assertEquals([...await groupOfToken(routingGroups({ tokens: 4, groupSize: 2 })).data()], [0, 0, 1, 1]);
});
