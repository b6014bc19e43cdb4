import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { eye, tensor } from "../../src/ops/creation.ts";
import { exp } from "../../src/ops/unary.ts";
import { sum } from "../../src/ops/reduce.ts";
import { sinkhorn } from "../../src/routing/sinkhorn.ts";
import { sinkhornRouter } from "../../src/routing/sinkhorn_router.ts";
import { checkOp } from "../support/check_primitive.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

const [WIDTH, EXPERTS] = [5, 4];

function wideGate() {
  return { gate: tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] }) };
}

for (const k of [1, 2]) {
  checkRouter({
    name: `sinkhornRouter() with k = ${k}`,
    router: sinkhornRouter({ width: WIDTH, experts: EXPERTS, k, iterations: 5 }),
    width: WIDTH,
    params: wideGate,
  });
}

checkOp({
  name: "sinkhorn",
  fn: (logits) => sinkhorn(logits, { iterations: 3 }),
  samples: [{ inputs: [{ shape: [7, 3] }] }],
});

interface Case {
  readonly logits: GoldenTensor;
  readonly plan: GoldenTensor;
}

oracleTest("sinkhorn() converges to the plan of the optimal-transport solver", async () => {
  const { sinkhorn: cases } = await readGolden<{ readonly sinkhorn: readonly Case[] }>("assignment.json");
  for (const { logits, plan } of cases) {
    const found = await exp(sinkhorn(fromGolden(logits), { iterations: 300 })).data();
    assertClose(found, plan.data, { relative: 1e-5, absolute: 1e-8 }, "plan");
  }
});

oracleTest("sinkhorn() has exact rows, leaves padding out and survives large logits", async () => {
  const logits = tensor(randomSource(4).normals(6 * 3).map((value) => 200 * value), { shape: [6, 3] });
  const mask = tensor([true, true, false, true, true, true]);
  const rows = [...await sum(exp(sinkhorn(logits, { iterations: 4, mask })), { axis: 1 }).data()];
  rows.forEach((value, t) => assertAlmostEquals(value, t === 2 ? 0 : 0.2, 1e-9));
  const nobody = await sinkhorn(logits, { iterations: 2, mask: tensor(new Array(6).fill(false)) }).data();
  assert(nobody.every((value) => value <= -1e29));
});

/** Skewed logits: most tokens prefer the last experts. */
function skewedLogits(tokens: number, experts: number): readonly (readonly number[])[] {
  return Array.from({ length: tokens }, (_, t) => [...randomSource(t).normals(experts)].map((x, e) => x + 0.4 * e));
}

oracleTest("sinkhorn() with subtracted shifts is the loop of the published code, and leaves padding out", async () => {
  const logits = skewedLogits(9, 4);
  const sumExp = (values: readonly number[]) => values.reduce((total, value) => total + Math.exp(value), 0);
  let rows = logits.map(() => 0);
  let columns = [0, 0, 0, 0];
  for (let round = 0; round < 3; round++) {
    rows = logits.map((row) => -Math.log(9 * sumExp(row.map((x, e) => x - columns[e]!))));
    columns = columns.map((_, e) => -Math.log(4 * sumExp(logits.map((row, t) => row[e]! - rows[t]!))));
  }
  const expected = logits.flatMap((row, t) => row.map((x, e) => x + rows[t]! + columns[e]!));
  const options = { iterations: 3, shifts: "subtracted" } as const;
  const found = await sinkhorn(tensor(logits), options).data();
  assertClose(found, expected, { relative: 1e-6, absolute: 1e-6 }, "logarithms");
  const padded = tensor([...logits, [5, 5, 5, 5]]);
  const mask = tensor([...logits.map(() => true), false]);
  const masked = await sinkhorn(padded, { ...options, mask }).data();
  assertClose(masked.slice(0, 36), found, { relative: 1e-12, absolute: 1e-12 }, "beside padding");
  assert(masked.slice(36).every((value) => value <= -1e29));
});

oracleTest("sinkhorn() evens out columns, with subtracted shifts it never does", async () => {
  const logits = tensor(skewedLogits(4, 4));
  const sumsOf = async (shifts: "added" | "subtracted") => {
    const plan = exp(sinkhorn(logits, { iterations: 40, shifts }));
    const columns = [...await sum(plan, { axis: 0 }).data()];
    const total = columns.reduce((a, b) => a + b);
    return columns.map((value) => 4 * value / total);
  };
  (await sumsOf("added")).forEach((value) => assertAlmostEquals(value, 1, 1e-9));
  const uneven = await sumsOf("subtracted");
  assert(Math.max(...uneven) - Math.min(...uneven) > 0.05, `${uneven}`);
});

oracleTest("sinkhornRouter() with subtracted shifts balances less, but does balance", async () => {
  const hidden = tensor(skewedLogits(256, 8));
  const mostBy = async (shifts: "added" | "subtracted", train: boolean) => {
    const router = sinkhornRouter({ width: 8, experts: 8, iterations: 10, shifts });
    return Math.max(...(await readPlan(router.route({ gate: eye(8) }, { hidden }, { train }))).load);
  };
  const [even, published, none] = [
    await mostBy("added", true),
    await mostBy("subtracted", true),
    await mostBy("added", false),
  ];
  assert(32 <= even && even < published && published < none, `${even}, ${published}, ${none}`);
});

checkRouter({
  name: "sinkhornRouter() with subtracted shifts",
  router: sinkhornRouter({ width: WIDTH, experts: EXPERTS, iterations: 5, shifts: "subtracted" }),
  width: WIDTH,
  params: wideGate,
});

oracleTest("sinkhornRouter() chooses from the soft assignment and weighs raw logits", async () => {
  const hidden = Array.from(
    { length: 16 },
    (_, t) => [...randomSource(t).normals(3)].map((x, e) => e === 0 ? x + 2 : x),
  );
  const router = sinkhornRouter({ width: 3, experts: 3, iterations: 8 });
  for (const train of [false, true]) {
    const plan = await readPlan(router.route({ gate: eye(3) }, { hidden: tensor(hidden) }, { train }));
    // Alternate scaling of exp(logits), columns first, as the definition has it.
    const soft = hidden.map((row) => row.map(Math.exp));
    for (let round = 0; round < (train ? 8 : 0); round++) {
      for (let e = 0; e < 3; e++) {
        const total = soft.reduce((add, row) => add + row[e]!, 0);
        soft.forEach((row) => row[e]! /= 3 * total);
      }
      soft.forEach((row) => {
        const total = row.reduce((a, b) => a + b);
        row.forEach((value, e) => row[e] = value / total / 16);
      });
    }
    const experts = soft.map((row) => row.indexOf(Math.max(...row)));
    assertEquals(plan.assignRow.map((row) => plan.expertOffsets.findLastIndex((start) => start <= row)), experts);
    plan.weight.forEach((value, t) => assertAlmostEquals(value, 1 / (1 + Math.exp(-hidden[t]![experts[t]!]!)), 1e-6));
    if (train) assert(Math.max(...plan.load) <= 7);
    else assert(Math.max(...plan.load) >= 12);
  }
});

oracleTest("sinkhornRouter() keeps one token's NaN to itself", async () => {
  const router = sinkhornRouter({ width: 2, experts: 2 });
  const plan = router.route({ gate: eye(2) }, { hidden: tensor([[NaN, 0], [1, 0], [2, 0], [3, 0]]) }, { train: true });
  const weight = [...await plan.weight.data()];
  assert(weight.slice(1).every(Number.isFinite));
  const load = [...await plan.stats.load.data()];
  assert(load.every((each) => each >= 1), `${load}`);
});

Deno.test("sinkhornRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 2, experts: 3, iterations: 0, iteration: 4 };
  assertEquals(
    assertThrows(() => sinkhornRouter(wrong), ConfigError).message,
    `Cannot build sinkhornRouter: 2 options are invalid
  iterations  0  must be a whole number from 1 up
  iteration   4  unknown option; did you mean iterations?`,
  );
  assertThrows(() => sinkhornRouter({ width: 2, experts: 3, k: 4 }), ConfigError, "1..3");
});
