import { assert, assertEquals } from "@std/assert";
import { ones, tensor } from "../../src/ops/creation.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { balancedAssignment } from "../../src/routing/balanced_assignment.ts";
import { checkOp } from "../support/check_primitive.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest, withOracle } from "../support/runtimes.ts";

interface Case {
  readonly scores: GoldenTensor;
  readonly experts: GoldenTensor;
  readonly best: number;
}

const { balanced } = await readGolden<{ readonly balanced: readonly Case[] }>("assignment.json");

checkOp({
  name: "balancedAssignment",
  fn: (scores) => balancedAssignment(scores, { rounds: 12 }),
  samples: [
    { inputs: [{ shape: [13, 3] }], differentiable: false },
    { inputs: [{ shape: [6, 1] }], differentiable: false },
    { inputs: [{ shape: [3, 5] }], differentiable: false },
  ],
});

function loadsOf(found: readonly number[], experts: number): number[] {
  return Array.from({ length: experts }, (_, e) => found.filter((expert) => expert === e).length);
}

function scoreOf(found: readonly number[], { scores }: Case): number {
  const experts = scores.shape[1]!;
  return found.reduce((total, expert, t) => total + scores.data[t * experts + expert]!, 0);
}

oracleTest("balancedAssignment() finds the solver's assignment with fine increments and many rounds", async () => {
  for (const one of balanced) {
    const found = await balancedAssignment(fromGolden(one.scores), { rounds: 1500, increment: 1e-4 }).data();
    assertEquals([...found], one.experts.data);
  }
});

async function checkDefaults(): Promise<void> {
  for (const one of balanced) {
    const [tokens, experts] = one.scores.shape as [number, number];
    const found = [...await balancedAssignment(fromGolden(one.scores)).data()];
    assertEquals(loadsOf(found, experts), new Array(experts).fill(tokens / experts));
    const range = Math.max(...one.scores.data) - Math.min(...one.scores.data);
    assert(scoreOf(found, one) > one.best - 0.02 * range * tokens, `${scoreOf(found, one)} of ${one.best}`);
  }
}

oracleTest("balancedAssignment() stays within its increment of the solver's sum", checkDefaults);
gpuTest("balancedAssignment() stays within its increment of the solver's sum", checkDefaults);

oracleTest("balancedAssignment() balances in any number of rounds", async () => {
  const scores = tensor(randomSource(3).normals(40 * 5), { shape: [40, 5] });
  for (const rounds of [1, 2, 7]) {
    const found = [...await balancedAssignment(scores, { rounds }).data()];
    assertEquals(loadsOf(found, 5), [8, 8, 8, 8, 8]);
  }
});

async function checkBadScores(): Promise<void> {
  const [tokens, experts] = [12, 3];
  const data = [...randomSource(5).normals(tokens * experts)];
  data[4] = NaN;
  data[7] = Infinity;
  data[20] = -Infinity;
  const bad = [...await balancedAssignment(tensor(data, { shape: [tokens, experts] })).data()];
  assertEquals(loadsOf(bad, experts), [4, 4, 4]);
  assertEquals(bad[2], 1, "Infinity is the highest score");
  const nothing = [...await balancedAssignment(tensor(new Array(6).fill([NaN, NaN]))).data()];
  assertEquals(loadsOf(nothing, 2), [3, 3]);
  const alike = [...await balancedAssignment(ones([9, 3])).data()];
  assertEquals(loadsOf(alike, 3), [3, 3, 3]);
}

oracleTest("balancedAssignment() has a defined result for NaN, infinities and equal scores", checkBadScores);
gpuTest("balancedAssignment() has a defined result for NaN, infinities and equal scores", checkBadScores);

oracleTest("balancedAssignment() spreads what is left and leaves padding out", async () => {
  const scores = tensor(randomSource(6).normals(11 * 4), { shape: [11, 4] });
  const mask = Array.from({ length: 11 }, (_, t) => t !== 2 && t !== 9);
  const found = [...await balancedAssignment(scores, { mask: tensor(mask) }).data()];
  assertEquals([found[2], found[9]], [4, 4]);
  assert(loadsOf(found, 4).every((load) => load <= 3));
  const nobody = await balancedAssignment(scores, { mask: tensor(mask.map(() => false)) }).data();
  assert(nobody.every((expert) => expert === 4));
});

gpuTest("balancedAssignment() decides as its definition does", async () => {
  // All of 0..1024, so that shares of the range are exact and no rounding comes between the two.
  const data = Array.from({ length: 200 * 6 }, (_, i) => (i * 389) % 1025);
  const scores = () => tensor(data, { shape: [200, 6] });
  const run = async (from: Tensor) => [...await balancedAssignment(from, { rounds: 20 }).data()];
  assertEquals(await run(scores()), await withOracle(() => run(scores())));
});
