import { assert, assertEquals, assertRejects } from "@std/assert";
import { NonFiniteError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { full, tensor } from "../../src/ops/creation.ts";
import { baseRouter } from "../../src/routing/base_router.ts";
import type { DispatchPlan } from "../../src/routing/plan_types.ts";
import { sinkhornRouter } from "../../src/routing/sinkhorn_router.ts";
import { assertPlanHolds, type PlanData, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const [TOKENS, EXPERTS] = [12, 4];
const SIZES = { width: EXPERTS, experts: EXPERTS };

/** Each identity matrix makes the hidden states the logits. */
function identity(): Tensor {
  const rows = Array.from({ length: EXPERTS }, (_, i) => Array.from({ length: EXPERTS }, (_, j) => Number(i === j)));
  return tensor(rows);
}

/** Routers that work in rounds over the whole batch, while training. */
const ITERATIVE: Readonly<Record<string, (hidden: Tensor) => DispatchPlan>> = {
  "baseRouter()": (hidden) => baseRouter(SIZES).route({ centroids: identity() }, { hidden }, { train: true }),
  "sinkhornRouter()": (hidden) => sinkhornRouter(SIZES).route({ gate: identity() }, { hidden }, { train: true }),
  "sinkhornRouter() with two choices": (hidden) =>
    sinkhornRouter({ ...SIZES, k: 2 }).route({ gate: identity() }, { hidden }, { train: true }),
};

/** What a logit is replaced by, by token; a product with the identity spreads NaN over the token. */
const REPLACED: Readonly<Record<string, (t: number, value: number) => number>> = {
  "every logit": () => NaN,
  "every logit but one token's": (t, value) => t === 5 ? value : NaN,
  "one token's": (t, value) => t === 5 ? NaN : value,
  "infinities of both signs": (t, value) => t % 3 === 0 ? Infinity : t % 3 === 1 ? -Infinity : value,
};

function logitsWith(replace: (t: number, value: number) => number): Tensor {
  const values = randomSource(1).normals(TOKENS * EXPERTS);
  return tensor(values.map((value, i) => replace(Math.floor(i / EXPERTS), value)), { shape: [TOKENS, EXPERTS] });
}

/** The plan without the numbers that may show a NaN: those of weights and of what is reported. */
function structureOf(plan: PlanData): PlanData {
  const weight = plan.weight.map((value, a) => plan.assignRow[a] === 0xffffffff ? value : 1);
  return { ...plan, weight, entropy: 0, aux: {} };
}

async function checkIterative(): Promise<void> {
  for (const [router, route] of Object.entries(ITERATIVE)) {
    for (const [name, replace] of Object.entries(REPLACED)) {
      const plan = structureOf(await readPlan(route(logitsWith(replace))));
      assertPlanHolds(plan);
      assertEquals(plan.dropped, 0, `${router}, ${name}`);
      if (router === "baseRouter()") assertEquals(plan.counts, new Array(EXPERTS).fill(TOKENS / EXPERTS), name);
      assertEquals(structureOf(await readPlan(route(logitsWith(replace)))), plan, `${router}, ${name}: again`);
    }
  }
}

oracleTest("routers that work in rounds end with a whole plan whatever the logits are", checkIterative);
gpuTest("routers that work in rounds end with a whole plan whatever the logits are", checkIterative);

gpuTest("the check for NaN and infinity reports the logits of a router that works in rounds", async () => {
  for (const [router, route] of Object.entries(ITERATIVE)) {
    const checked = jit((hidden: Tensor, factor: Tensor) => route(mul(hidden, factor)).weight, { check: "finite" });
    await checked(logitsWith((_, value) => value), full([], 1)).data();
    const error = await assertRejects(
      async () => await checked(full([TOKENS, EXPERTS], 3e38), full([], 3e38)).data(),
      NonFiniteError,
    );
    assert(/infinit|NaN|finite/i.test(error.message), `${router}: ${error.message}`);
  }
});
