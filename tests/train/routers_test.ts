import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, key, leavesOf, mapTree, mul, read, type Tensor, tensor, trainState } from "../../mod.ts";
import { trainingBatch } from "../../src/train/batches.ts";
import { resolveConfig, type TrainConfig } from "../../src/train/config.ts";
import { buildModel, countParameters, VOCABULARY } from "../../src/train/model.ts";
import { buildOptimizer, buildStep, type RunState } from "../../src/train/objective.ts";
import { PRESETS } from "../../src/train/presets.ts";
import { buildBody } from "../../src/train/router_bodies.ts";
import { ROUTER_NAMES, type RouterName, ROUTERS } from "../../src/train/routers.ts";
import { NO_VARIANT } from "../../src/train/variants.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { sampleText, smallFlags } from "./support/runs.ts";

const CAUSAL = ROUTER_NAMES.filter((router) => ROUTERS[router].causal !== false);

function configOf(router: RouterName): TrainConfig {
  return resolveConfig({ adapter: "software", flags: smallFlags(router) });
}

function batchOf(text: Uint8Array, step: number, { seed, batch, seq }: TrainConfig): { readonly ids: Tensor } {
  const { tokens, rows, length } = trainingBatch(text, { seed, step, batch, seq });
  return { ids: tensor(tokens, { shape: [rows, length], dtype: "u32" }) };
}

/** What a router's reducer moves, by layer. */
async function reducedLeaves(state: RunState, name: string): Promise<readonly (readonly number[])[]> {
  const leaves = leavesOf(state.params).filter(([path]) => path.endsWith(`.body.router.${name}`));
  return await Promise.all(leaves.map(async ([, leaf]) => [...await leaf.data()]));
}

for (const router of CAUSAL) {
  gpuTest(`buildStep() with router ${router} trains, and measures how its experts are used`, async () => {
    const config = configOf(router);
    const { visits, reduced } = ROUTERS[router];
    const text = new TextEncoder().encode(sampleText());
    const model = buildModel(config);
    const optimizer = buildOptimizer(config);
    const step = buildStep(config, model, optimizer);
    let state = trainState({ params: model.init(key(0)), optimizer, key: key(1) });
    const losses: number[] = [];
    for (const at of [0, 1]) {
      const [next, metrics] = step(state, batchOf(text, at, config));
      state = next;
      const { loss, crossEntropy, gradientNorm, routing } = await read(metrics);
      assert([loss, crossEntropy, gradientNorm].every((value) => Number.isFinite(value![0])), `step ${at}`);
      losses.push(crossEntropy[0]!);
      assertEquals(routing === undefined, visits === "none");
      if (routing === undefined) continue;
      assertEquals(routing.load.length, config.layers * config.experts);
      assertEquals([...routing.dropped], [0, 0]);
      const visited = [...routing.load].reduce((sum, count) => sum + count, 0);
      // How many experts a byte visits is for `relu` to find out.
      if (router !== "relu") assertEquals(visited, config.layers * config.batch * config.seq * config.topk);
    }
    assert(losses[1]! < losses[0]!, `${losses}`);
    assertEquals(step.traces, 1);
    if (reduced === undefined) return;
    const moved = (await reducedLeaves(state, reduced)).flat();
    // Two steps up or down, or one of each: nothing else moves it.
    const reachable = router === "relu" ? [1.44e-8, 1e-8 / 1.44] : [-0.002, -0.001, 0, 0.001, 0.002];
    assert(moved.some((value) => value !== 0));
    for (const value of moved) {
      assert(reachable.some((other) => Math.abs(value - other) <= 1e-4 * Math.abs(other)), `${value}`);
    }
  });
}

Deno.test("buildModel() refuses routers that are not causal, and the table of routers says which", () => {
  const { width, layers } = PRESETS.tiny;
  const sizes = { ...NO_VARIANT, vocabulary: VOCABULARY, width, layers, experts: 4, topk: 1, expertWidth: 64 };
  for (const router of ROUTER_NAMES) {
    const body = buildBody(router, sizes);
    assertEquals("router" in body ? body.router.causal : true, ROUTERS[router].causal ?? true, router);
  }
  const error = assertThrows(() => buildModel({ ...configOf("switch"), router: "expert-choice" }), ConfigError);
  assertEquals(error.code, "config/causal");
  assertEquals(error.message.split("\n")[0]!.split(": ")[1], "a token's experts depend on later tokens");
});

oracleTest("countParameters() counts the same active parameters for every router, but for gates and rows", () => {
  const dense = countParameters(configOf("dense"), buildModel(configOf("dense")).init(key(0)));
  // Of each of two layers of width 16.
  const extra: Partial<Record<RouterName, number>> = {
    switch: 16 * 3,
    topk: 16 * 3,
    sigma: 16 * 3,
    memory: 16,
    altup: 2 * 2 + 2,
    base: 16 * 4,
    sinkhorn: 16 * 3,
    "noisy-topk": 2 * 16 * 3,
    deepseek: 16 * 3 + 3,
    relu: 16 * 3 + 1,
  };
  for (const router of CAUSAL) {
    const config = { ...configOf(router), expertWidth: 24 / configOf(router).topk };
    const { activeParameters } = countParameters(config, buildModel(config).init(key(0)));
    const expected = countOf24(dense.activeParameters) + 2 * (extra[router] ?? 0);
    assertAlmostEquals(activeParameters, expected, 1e-6, router);
  }

  function countOf24(count: number): number {
    return count - 2 * 2 * 16 * (configOf("dense").expertWidth - 24);
  }
});

oracleTest("buildOptimizer() decays no table that is looked up, and leaves alone what a reducer moves", async () => {
  for (const router of ["memory", "pkm", "altup", "deepseek", "relu"] as const) {
    const config = configOf(router);
    const params = mapTree(buildModel(config).init(key(0)), (leaf) => leaf);
    const optimizer = buildOptimizer(config);
    const [updates] = optimizer.update(mapTree(params, (leaf) => mul(leaf, 0)), optimizer.init(params), params);
    const decayed = new Set<string>();
    for (const [path, update] of leavesOf(updates)) {
      if (path.includes(".body.") && (await update.data()).some((value) => value !== 0)) {
        decayed.add(path.replace(/^.*\.body\./, ""));
      }
    }
    const expected = {
      memory: ["layer.down.weight", "layer.up.weight"],
      pkm: [],
      altup: ["layer.down.weight", "layer.up.weight"],
      deepseek: ["experts.down", "experts.up", "router.gate"],
      relu: ["experts.down", "experts.up", "router.gate"],
    };
    assertEquals([...decayed].sort(), expected[router], router);
  }
});
