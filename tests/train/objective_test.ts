import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { key, leavesOf, mapTree, mul, scalar } from "../../mod.ts";
import { resolveConfig, type TrainConfig } from "../../src/train/config.ts";
import { buildModel, countParameters } from "../../src/train/model.ts";
import { buildOptimizer, learningRateSchedule } from "../../src/train/objective.ts";
import { oracleTest } from "../support/runtimes.ts";
import { SMALL_FLAGS } from "./support/runs.ts";

function configOf(router: string): TrainConfig {
  const { experts, "expert-width": _, ...rest } = SMALL_FLAGS;
  return resolveConfig({
    adapter: "software",
    flags: { ...rest, ...(router === "dense" ? {} : { experts }), router },
  });
}

oracleTest("learningRateSchedule() rises for a tenth of the steps and falls to a twentieth of the peak", async () => {
  const schedule = learningRateSchedule({ steps: 200, lr: 2 });
  const rates = await Promise.all(
    [0, 9, 19, 109, 199, 500].map((step) => schedule(scalar(step, { dtype: "u32" })).item()),
  );
  for (const [i, rate] of [0.1, 1, 2, 1.05, 0.1, 0.1].entries()) assertAlmostEquals(rates[i]!, rate, 1e-6);
  assert(await learningRateSchedule({ steps: 1, lr: 2 })(scalar(0, { dtype: "u32" })).item() > 0);
});

oracleTest("buildOptimizer() decays matrices, but neither norms nor embeddings", async () => {
  const config = configOf("switch");
  const params = mapTree(buildModel(config).init(key(0)), (leaf) => leaf);
  const optimizer = buildOptimizer(config);
  const zeros = mapTree(params, (leaf) => mul(leaf, 0));
  const [updates] = optimizer.update(zeros, optimizer.init(params), params);
  const decayed = new Set<string>();
  for (const [path, update] of leavesOf(updates)) {
    if ((await update.data()).some((value) => value !== 0)) decayed.add(path.replace(/^.*\]/, ""));
  }
  assertEquals([...decayed].sort(), [
    ".attention.output.weight",
    ".attention.qkv.weight",
    ".body.experts.down",
    ".body.experts.up",
    ".body.router.gate",
  ]);
});

Deno.test("countParameters() counts of the experts only those that a byte visits, the same for every router", () => {
  const counts = ["dense", "switch", "topk", "hash"].map((router) => {
    const config = configOf(router);
    return { router, ...countParameters(config, buildModel(config).init(key(0))) };
  });
  const dense = counts[0]!;
  assertEquals(dense.activeParameters, dense.parameters);
  for (const { router, parameters, activeParameters } of counts.slice(1)) {
    // Two more experts of 2 · 16 · 256 in each of two layers, and a gate where there is something to learn.
    const gates = router === "hash" ? 0 : 2 * 16 * 3;
    assertEquals(activeParameters - gates, dense.parameters, router);
    const visited = router === "topk" ? 2 : 1;
    assertEquals(parameters - gates - dense.parameters, 2 * (3 - visited) * 2 * 16 * (256 / visited), router);
  }
});
