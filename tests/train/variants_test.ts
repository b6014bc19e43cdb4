import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError, type HostData, key, leavesOf, mapTree, read, tensor, trainState } from "../../mod.ts";
import { trainingBatch } from "../../src/train/batches.ts";
import type { TrainConfig } from "../../src/train/config.ts";
import { formatSavedConfig, readSavedConfig } from "../../src/train/config_file.ts";
import { buildModel, countParameters, type ModelParams, VOCABULARY } from "../../src/train/model.ts";
import { buildOptimizer, buildStep } from "../../src/train/objective.ts";
import { ROUTERS } from "../../src/train/routers.ts";
import { VARIANT_NAMES } from "../../src/train/variants.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { inFolder, sampleText } from "./support/runs.ts";
import { configOf, nameOf, NON_CAUSAL, sourceOf, type Variant, VARIANTS } from "./support/variants.ts";

const SEQ = 16;

/** Takes two steps and checks what is measured on the way. */
async function takeSteps(variant: Variant, flags: Variant["flags"] = {}): Promise<void> {
  const config = configOf({ ...variant, flags: { ...variant.flags, ...flags } });
  const { batch, seq, consistency } = config;
  const model = buildModel(config, sourceOf(config));
  const optimizer = buildOptimizer(config);
  const step = buildStep(config, model, optimizer);
  let state = trainState({ params: model.init(key(0)), optimizer, key: key(1) });
  const text = new TextEncoder().encode(sampleText());
  const losses: number[] = [];
  const fixed = await fixedLeaves(state.params);
  for (const at of [0, 1]) {
    const { tokens, rows, length } = trainingBatch(text, { seed: 0, step: at, batch, seq });
    const [next, metrics] = step(state, { ids: tensor(tokens, { shape: [rows, length], dtype: "u32" }) });
    state = next;
    const { loss, crossEntropy, gradientNorm, divergence, routing } = await read(metrics);
    assert([loss, crossEntropy, gradientNorm].every((value) => Number.isFinite(value![0])), `step ${at}`);
    losses.push(crossEntropy[0]!);
    assertEquals(divergence === undefined, consistency === null);
    if (divergence !== undefined) {
      assert(divergence[0]! > 0);
      assertAlmostEquals(loss[0]!, 2 * crossEntropy[0]! + consistency! * divergence[0]!, 1e-4);
    }
    const { visits, mixes = false } = ROUTERS[config.router];
    assertEquals(routing === undefined, visits === "none" || mixes);
    if (routing !== undefined) expectRouting(routing, config);
  }
  assert(losses[1]! < losses[0]!, `${losses}`);
  assertEquals(step.traces, 1);
  assertEquals(await fixedLeaves(state.params), fixed);
}

function expectRouting({ load, dropped }: Readonly<Record<"load" | "dropped", HostData>>, config: TrainConfig): void {
  const { router, layers, experts, batch, seq, topk, consistency, retries, capacity } = config;
  assertEquals([load.length, dropped.length], [layers * experts, layers]);
  const visited = [...load].reduce((sum, count) => sum + count, 0);
  const assigned = layers * batch * seq * topk * (consistency === null ? 1 : 2);
  // Offers to a second expert count too, and experts that choose take whole numbers of bytes.
  if (retries !== null) assert(visited >= assigned, `${visited} of ${assigned}`);
  else if (router === "expert-choice") assert(visited <= assigned && visited > 0.9 * assigned);
  else assertEquals(visited, assigned);
  if (capacity === null && router !== "expert-choice") assertEquals(new Set(dropped), new Set([0]));
}

/** What no step may move: tables, seeds and directions. */
async function fixedLeaves(params: ModelParams): Promise<ReadonlyMap<string, readonly number[]>> {
  const leaves = leavesOf(mapTree(params, (leaf) => leaf))
    .filter(([path, { dtype }]) => dtype === "u32" || path.endsWith(".directions"));
  const values = await Promise.all(leaves.map(async ([path, leaf]) => [path, [...await leaf.data()]] as const));
  return new Map(values);
}

for (const variant of VARIANTS) {
  gpuTest(`buildStep() trains ${nameOf(variant)}`, () => takeSteps(variant));
}

for (const variant of NON_CAUSAL) {
  gpuTest(`buildStep() trains ${nameOf(variant)}, where that is allowed`, async () => {
    await takeSteps(variant, { "allow-non-causal": true });
    const config = configOf({ ...variant, flags: { ...variant.flags, "allow-non-causal": true } });
    assertEquals(
      assertThrows(() => buildModel({ ...config, allowNonCausal: false }, sourceOf(config)), ConfigError).code,
      "config/causal",
    );
    assertThrows(() => configOf(variant), ConfigError, "is not causal");
  });
}

for (const variant of VARIANTS) {
  gpuTest(`a later byte changes no earlier prediction of ${nameOf(variant)}`, async () => {
    const config = configOf(variant);
    const model = buildModel(config, sourceOf(config));
    const params = model.init(key(7));
    const ids = Uint32Array.from({ length: SEQ }, (_, at) => (at * 29 + 65) % 128);
    const logits = async (given: Uint32Array): Promise<readonly number[]> => {
      const { logits } = model.apply(params, { ids: tensor(given, { shape: [1, SEQ], dtype: "u32" }) });
      return [...await logits.data()];
    };
    const before = await logits(ids);
    for (const from of [1, 6, 15]) {
      const after = await logits(ids.map((id, at) => at < from ? id : 255 - id));
      const known = from * VOCABULARY;
      assertEquals(after.slice(0, known), before.slice(0, known), `from ${from}`);
      assert(after.slice(known).some((value, at) => value !== before[known + at]), `from ${from}`);
    }
  });
}

Deno.test("every option of a router is in some variant, and survives config.json", () =>
  inFolder(async (folder) => {
    const configs = [
      ...VARIANTS.map(configOf),
      ...NON_CAUSAL.map(({ router, flags }) => configOf({ router, flags: { ...flags, "allow-non-causal": true } })),
    ];
    assertEquals(VARIANT_NAMES.filter((name) => configs.every((config) => config[name] === null)), []);
    for (const config of configs) {
      await Deno.writeTextFile(`${folder}/config.json`, formatSavedConfig(config));
      assertEquals(await readSavedConfig(folder), config);
    }
  }));

Deno.test("readSavedConfig() takes what an older program did not write as not given, and refuses what it does not know", () =>
  inFolder(async (folder) => {
    const config = configOf({ router: "topk", flags: {} });
    const { table: _, capacity: _1, allowNonCausal: _2, ...older } = JSON.parse(formatSavedConfig(config));
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(older));
    assertEquals(await readSavedConfig(folder), config);
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify({ ...older, capacityFactor: 2 }));
    const error = await assertRejects(() => readSavedConfig(folder), ConfigError);
    assertEquals(error.message.split("\n")[1], "  capacityFactor  2  unknown option");
  }));

oracleTest("countParameters() counts the active parameters of the variants", () => {
  const counted = (variant: Variant): readonly [parameters: number, active: number] => {
    const config = configOf(variant);
    const { parameters, activeParameters } = countParameters(config, buildModel(config, sourceOf(config)).init(key(0)));
    return [parameters, activeParameters];
  };
  const flags = { layers: "4" };
  const [dense] = counted({ router: "dense", flags });
  const embedding = 256 * 16;
  // Attention 4 · 16², two norms of 16, and a layer of 2 · 16 · 24.
  const block = 4 * 16 * 16 + 2 * 16 + 2 * 16 * 24;
  assertEquals(dense, embedding + 16 + 4 * block);
  assertEquals(counted({ router: "altup", flags: { ...flags, altup: "recycled", streams: "3" } }), [
    dense + 4 * 12,
    dense + 4 * 12,
  ]);
  // Embedding and final norm are three times as wide.
  const full = dense + 4 * 12 + 2 * embedding + 2 * 16;
  assertEquals(counted({ router: "altup", flags: { ...flags, altup: "full", streams: "3" } }), [full, full]);
  // Of the two layers between the first and the last, a byte has a third of what is computed.
  assertEquals(counted({ router: "altup", flags: { ...flags, altup: "sequence", stride: "3" } }), [
    dense + 2 * 3,
    dense + 2 * 3 - 2 * block * 2 / 3,
  ]);
  const rows = 64 * 16;
  assertEquals(counted({ router: "memory", flags: { ...flags, lookup: "lsh", rows: "64" } }), [
    dense + 4 * (rows + 16 * 6),
    dense + 4 * (16 + 16 * 6),
  ]);
  assertEquals(counted({ router: "memory", flags: { ...flags, lookup: "softmax", rows: "64", k: "2" } }), [
    dense + 4 * (rows + 16 * 64),
    dense + 4 * (2 * 16 + 16 * 64),
  ]);
  const small = 2 * 16 * 4;
  assertEquals(counted({ router: "memory", flags: { ...flags, consume: "experts", rank: "4" } }), [
    dense + 4 * 256 * small,
    dense + 4 * small,
  ]);
});
