import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { erf } from "../../src/ops/error_function.ts";
import { ones, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { normal } from "../../src/ops/samplers.ts";
import { noisyTopKRouter } from "../../src/routing/noisy_top_k_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";

const [WIDTH, EXPERTS, K] = [5, 6, 2];
const SIZES = { width: WIDTH, experts: EXPERTS, k: K };

function makeParams() {
  const random = randomSource(2);
  const draw = () => tensor(random.normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] });
  return { gate: draw(), noise: draw() };
}

checkRouter({ name: "noisyTopKRouter()", router: noisyTopKRouter(SIZES), width: WIDTH, params: makeParams });

function variation(values: readonly number[]): number {
  const mean = values.reduce((a, b) => a + b) / values.length;
  return values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length / (mean ** 2 + 1e-10);
}

oracleTest("noisyTopKRouter() equals a loop over tokens, smooth load and all", async () => {
  const count = 9;
  const random = randomSource(4);
  const hidden = Array.from({ length: count }, () => [...random.normals(WIDTH)]);
  const mask = hidden.map((_, t) => t !== 3);
  const params = makeParams();
  const [gate, noise] = [await params.gate.data(), await params.noise.data()];
  const drawn = await normal(key(6), [count, EXPERTS]).data();
  const router = noisyTopKRouter(SIZES);
  const plan = await readPlan(
    router.route(params, { hidden: tensor(hidden), mask: tensor(mask) }, { train: true, key: key(6) }),
  );

  const importance = new Array<number>(EXPERTS).fill(0);
  const load = new Array<number>(EXPERTS).fill(0);
  for (const [t, row] of hidden.entries()) {
    const through = (weights: ArrayLike<number>, e: number) =>
      row.reduce((total, value, d) => total + value * weights[d * EXPERTS + e]!, 0);
    const clean = load.map((_, e) => through(gate, e));
    const deviation = load.map((_, e) => Math.log1p(Math.exp(through(noise, e))) + 0.01);
    const noisy = clean.map((value, e) => value + drawn[t * EXPERTS + e]! * deviation[e]!);
    const order = noisy.map((_, e) => e).sort((a, b) => noisy[b]! - noisy[a]!);
    const chosen = order.slice(0, K);
    const total = chosen.reduce((sum, e) => sum + Math.exp(noisy[e]!), 0);
    for (const [choice, e] of chosen.entries()) {
      const weight = mask[t] ? Math.exp(noisy[e]!) / total : 0;
      assertAlmostEquals(plan.weight[t * K + choice]!, weight, 1e-6);
      importance[e]! += weight;
    }
    if (!mask[t]) continue;
    for (let e = 0; e < EXPERTS; e++) {
      const rival = noisy[chosen.includes(e) ? order[K]! : order[K - 1]!]!;
      const z = (clean[e]! - rival) / deviation[e]!;
      load[e]! += (1 + await erf(tensor(z / Math.SQRT2)).item()) / 2;
    }
  }
  assertAlmostEquals(plan.aux.importance!, variation(importance), 1e-6);
  assertAlmostEquals(plan.aux.load!, variation(load), 1e-6);
});

oracleTest("noisyTopKRouter() starts even and measures hard loads outside training", async () => {
  const router = noisyTopKRouter({ width: 2, experts: 4, k: 1 });
  const params = router.init(key(0));
  const hidden = ones([400, 2]);
  const calm = await readPlan(router.route(params, { hidden }));
  assertEquals(calm.load, [400, 0, 0, 0]);
  assertAlmostEquals(calm.aux.load!, 3, 1e-6); // one of four has all: variance 3 times the squared mean
  const noisy = await readPlan(router.route(params, { hidden }, { train: true, key: key(1) }));
  assert(noisy.load.every((load) => load > 70 && load < 130));
  assert(noisy.aux.load! < 0.01);
});

Deno.test("noisyTopKRouter() needs an expert that is not chosen", () => {
  assertEquals(
    assertThrows(() => noisyTopKRouter({ width: 4, experts: 2, k: 2 }), ConfigError).message,
    `Cannot build noisyTopKRouter: 1 option is invalid
  k  2  must be below experts, which is 2`,
  );
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 0, experts: 3, k: 1, noiseFloor: -1, noise: 1 };
  assertEquals(
    assertThrows(() => noisyTopKRouter(wrong), ConfigError).message,
    `Cannot build noisyTopKRouter: 3 options are invalid
  width       0   must be a whole number from 1 up
  noiseFloor  -1  must be a number above 0
  noise       1   unknown option; did you mean noiseFloor?`,
  );
});
