import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { eye, tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { weightedHashRouter } from "../../src/routing/weighted_hash_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

checkRouter({
  name: "weightedHashRouter()",
  router: weightedHashRouter({ width: 3, experts: 5, vocabulary: 8, k: 2, gateStd: 1 }),
  width: 3,
  vocabulary: 8,
});

checkRouter({
  name: "weightedHashRouter() with one expert",
  router: weightedHashRouter({ width: 3, experts: 4, vocabulary: 8, k: 1 }),
  width: 3,
  vocabulary: 8,
});

const TABLE = [[2, 0], [1, 3], [3, 2]];
const router = weightedHashRouter({ width: 4, experts: 4, vocabulary: 3, k: 2, table: TABLE });
const LOGITS = [[0.5, -1, 2, 0], [0.1, 0.2, 0.3, -0.4], [3, 1, 0, -2]];
const IDS = [1, 0, 2];

function paramsOf(): { readonly table: Tensor; readonly gate: Tensor } {
  return { table: tensor(TABLE, { dtype: "u32" }), gate: eye(4) };
}

oracleTest("weightedHashRouter() weighs the named experts as its formula says", async () => {
  const ids = tensor(IDS, { dtype: "u32" });
  const plan = await readPlan(router.route(paramsOf(), { hidden: tensor(LOGITS), ids }));
  const expected = IDS.flatMap((id, token) => {
    const scores = TABLE[id]!.map((expert) => Math.sqrt(Math.log1p(Math.exp(LOGITS[token]![expert]!))));
    const total = scores.reduce((sum, score) => sum + score, 0);
    return scores.map((score) => 1.5 * score / total);
  });
  assertClose(plan.weight, expected, { relative: 1e-6, absolute: 1e-6 }, "weight");
  assertEquals(plan.load, [1, 1, 2, 2]);
  assertEquals(plan.aux, {});
});

oracleTest("weightedHashRouter() sends gradients to the named experts' columns alone", async () => {
  const ids = tensor([1], { dtype: "u32" });
  const hidden = tensor([[0.3, -0.2, 0.8, 1]]);
  const gradient = await grad((gate: Tensor) =>
    sum(mul(router.route({ ...paramsOf(), gate }, { hidden, ids }).weight, tensor([1, -2])))
  )(eye(4)).data();
  gradient.forEach((value, i) => {
    const expert = i % 4;
    assert(expert === 1 || expert === 3 ? value !== 0 : value === 0, `column ${expert}`);
  });
});

async function checkExtremes(): Promise<void> {
  const ids = tensor([0, 0, 0], { dtype: "u32" });
  const hidden = tensor([[-300, 0, -302, 0], [80, 0, 80, 0], [-19.5, 0, -20.5, 0]]);
  const plan = router.route(paramsOf(), { hidden, ids });
  const slope = grad((gate: Tensor) => sum(router.route({ ...paramsOf(), gate }, { hidden, ids }).weight))(eye(4));
  const found = await read({ weight: plan.weight, slope });
  const small = 1.5 / (1 + Math.E);
  const middle = 1.5 / (1 + Math.exp(0.5));
  assertClose(found.weight, [small, 1.5 - small, 0.75, 0.75, middle, 1.5 - middle], {
    relative: 1e-5,
    absolute: 1e-6,
  }, "weight");
  assert(found.slope.every(Number.isFinite), "slopes are finite");
}

oracleTest("weightedHashRouter() stays finite where scores underflow", checkExtremes);
gpuTest("weightedHashRouter() stays finite where scores underflow", checkExtremes);

oracleTest("weightedHashRouter() draws different experts for each id, all as often", async () => {
  const drawn = weightedHashRouter({ width: 2, experts: 6, vocabulary: 200, k: 3 });
  const table = [...await drawn.init(key(0)).table.data()];
  for (let id = 0; id < 200; id++) assertEquals(new Set(table.slice(id * 3, id * 3 + 3)).size, 3);
  for (let expert = 0; expert < 6; expert++) {
    const count = table.filter((each) => each === expert).length;
    assert(count > 75 && count < 125, `expert ${expert} is named ${count} times of 600`);
  }
});

oracleTest("weightedHashRouter() refuses invalid options when it is built, and tokens without ids", () => {
  const error = assertThrows(
    () => weightedHashRouter({ width: 4, experts: 2, vocabulary: 2, k: 3, table: [[0, 1, 1]] }),
    ConfigError,
  );
  assertEquals(
    error.message,
    `Cannot build weightedHashRouter: 2 options are invalid
  k             3  must be a whole number in 1..2 (experts is 2)
  table.length  1  must be 2, one row for each id (vocabulary is 2)`,
  );
  assertThrows(
    () => weightedHashRouter({ width: 4, experts: 3, vocabulary: 2, k: 2, table: [[0, 2], [1, 1]] }),
    ConfigError,
    "table.1  [1,1]  must be 2 different whole numbers in 0..2 (k is 2, experts is 3)",
  );
  const hidden = zeros([3, 4]);
  assertThrows(() => router.route(paramsOf(), { hidden }), ConfigError, "the tokens have no ids");
  const ids = tensor(IDS, { dtype: "u32" });
  const small = { ...paramsOf(), table: tensor([[0, 1]], { dtype: "u32" }) };
  assertThrows(() => router.route(small, { hidden, ids }), ShapeError, "its shape should be [3, 2]");
});
