/**
 * Hash and THOR layers: their plans executed, which is what they promise together.
 */
import { assert, assertEquals } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { relu } from "../../src/ops/activations.ts";
import { add } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { take } from "../../src/ops/gather.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { slice } from "../../src/ops/slice.ts";
import { square } from "../../src/ops/unary.ts";
import { execute, type ExpertParams } from "../../src/routing/execute.ts";
import { hashRouter } from "../../src/routing/hash_router.ts";
import { thorRouter } from "../../src/routing/thor_router.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { normalTensor } from "../support/draw.ts";

const [WIDTH, INNER, VOCABULARY] = [3, 5, 4];
const IDS = [1, 0, 3, 1, 0, 1, 3];
const F32 = { relative: 1e-5, absolute: 1e-5 };

function expertsOf(count: number): Required<Pick<ExpertParams, "up" | "upBias" | "down" | "downBias">> {
  return {
    up: normalTensor([count, WIDTH, INNER], 1),
    upBias: normalTensor([count, INNER], 2),
    down: normalTensor([count, INNER, WIDTH], 3),
    downBias: normalTensor([count, WIDTH], 4),
  };
}

/** The dense layer of one expert. */
function dense(x: Tensor, params: ExpertParams, expert: number): Tensor {
  const own = (stacked: Tensor) => slice(stacked, [expert]);
  const inner = relu(add(matmul(x, own(params.up)), own(params.upBias!)));
  return add(matmul(inner, own(params.down)), own(params.downBias!));
}

function hashed(table: readonly number[], experts: number, hidden: Tensor, params: ExpertParams): Tensor {
  const router = hashRouter({ experts, vocabulary: VOCABULARY, table });
  const plan = router.route(router.init(key(0)), { hidden, ids: tensor(IDS, { dtype: "u32" }) });
  return execute(plan, hidden, params, { activation: "relu" });
}

async function checkDense(): Promise<void> {
  const [x, params] = [normalTensor([7, WIDTH], 5), expertsOf(1)];
  const found = await read({ hashed: hashed([0, 0, 0, 0], 1, x, params), dense: dense(x, params, 0) });
  assertClose(found.hashed, found.dense, F32, "output");
}

oracleTest("a hash layer with one expert is the dense layer", checkDense);
gpuTest("a hash layer with one expert is the dense layer", checkDense);

async function checkPermutation(): Promise<void> {
  const [x, params, table] = [normalTensor([7, WIDTH], 5), expertsOf(3), [2, 0, 1, 2]];
  const order = [1, 2, 0]; // new expert e is old expert order[e]
  const moved = {
    up: reorder(params.up, order),
    upBias: reorder(params.upBias, order),
    down: reorder(params.down, order),
    downBias: reorder(params.downBias, order),
  };
  const { before, after } = await read({
    before: hashed(table, 3, x, params),
    after: hashed(table.map((expert) => order.indexOf(expert)), 3, x, moved),
  });
  assertEquals([...after], [...before]);
}

function reorder(stacked: Tensor, order: readonly number[]): Tensor {
  return take(stacked, tensor(order, { dtype: "u32" }), { axis: 0 });
}

oracleTest("a hash layer does not depend on the order of its experts", checkPermutation);
gpuTest("a hash layer does not depend on the order of its experts", checkPermutation);

async function checkEqualTokens(): Promise<void> {
  const row = [0.3, -1.2, 0.7];
  const x = tensor(IDS.map((id) => row.map((value) => value + id)));
  const out = await hashed([2, 0, 1, 2], 3, x, expertsOf(3)).data();
  const rowOf = (token: number) => [...out.slice(token * WIDTH, (token + 1) * WIDTH)];
  IDS.forEach((id, token) => assertEquals(rowOf(token), rowOf(IDS.indexOf(id))));
}

oracleTest("a hash layer treats equal tokens of equal ids alike", checkEqualTokens);
gpuTest("a hash layer treats equal tokens of equal ids alike", checkEqualTokens);

/** Which experts have a gradient that is not all zeros, for each parameter. */
async function touched(gradients: ExpertParams, experts: number): Promise<boolean[][]> {
  const data = await read(gradients as Required<ExpertParams>);
  return Object.values(data).map((values) => {
    const size = values.length / experts;
    return Array.from(
      { length: experts },
      (_, e) => values.slice(e * size, (e + 1) * size).some((value) => value !== 0),
    );
  });
}

async function checkUnused(): Promise<void> {
  const x = normalTensor([7, WIDTH], 5);
  const gradients = grad((params: ExpertParams) => sum(square(hashed([2, 0, 1, 2], 4, x, params))))(expertsOf(4));
  for (const experts of await touched(gradients, 4)) assertEquals(experts, [true, false, true, false]);
}

oracleTest("a hash layer leaves experts without tokens a gradient of exactly zero", checkUnused);
gpuTest("a hash layer leaves experts without tokens a gradient of exactly zero", checkUnused);

async function checkThor(): Promise<void> {
  const [x, params] = [normalTensor([8, WIDTH], 6), expertsOf(3)];
  const router = thorRouter({ experts: 3, passes: 2, draw: "distinct" });
  const plan = router.route(router.init(key(0)), { hidden: x }, { train: true, key: key(5) });
  const out = execute(plan, x, params, { activation: "relu" });
  const gradients = grad((params: ExpertParams) => sum(square(execute(plan, x, params, { activation: "relu" }))))(
    params,
  );
  const denses = await read([0, 1, 2].map((expert) => dense(x, params, expert)));
  const { values, counts } = await read({ values: out, counts: plan.stats.counts });
  const half = values.length / 2;
  const passes = [0, 1].map((pass) =>
    denses.findIndex((each) =>
      each.slice(pass * half, (pass + 1) * half).every((value, i) => Math.abs(value - values[pass * half + i]!) < 1e-4)
    )
  );
  assert(passes.every((expert) => expert >= 0) && passes[0] !== passes[1], `experts ${passes}`);
  assertEquals([...counts], [0, 1, 2].map((expert) => passes.includes(expert) ? 4 : 0));
  for (const experts of await touched(gradients, 3)) assertEquals(experts, [0, 1, 2].map((e) => passes.includes(e)));
}

oracleTest("a THOR layer trains one expert for each pass, and no other", checkThor);
gpuTest("a THOR layer trains one expert for each pass, and no other", checkThor);

async function checkEnsemble(): Promise<void> {
  const [x, params] = [normalTensor([5, WIDTH], 6), expertsOf(3)];
  const router = thorRouter({ experts: 3, inference: "ensemble" });
  const out = execute(router.route(router.init(key(0)), { hidden: x }), x, params, { activation: "relu" });
  const [found, first, second, third] = await read([
    out,
    dense(x, params, 0),
    dense(x, params, 1),
    dense(x, params, 2),
  ]);
  const mean = first!.map((value, i) => (value + second![i]! + third![i]!) / 3);
  assertClose(found!, mean, F32, "output");
}

oracleTest("a THOR ensemble is the mean of its experts", checkEnsemble);
gpuTest("a THOR ensemble is the mean of its experts", checkEnsemble);
