import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError, init, key, OutOfMemoryError, read, tensor } from "../../mod.ts";
import { installRuntime } from "../../src/core/runtime.ts";
import { trainingBatch } from "../../src/train/batches.ts";
import { resolveConfig, type TrainConfig } from "../../src/train/config.ts";
import { loadConfig, readSavedConfig } from "../../src/train/config_file.ts";
import { generate } from "../../src/train/generate.ts";
import { readMetrics } from "../../src/train/metrics.ts";
import { buildModel } from "../../src/train/model.ts";
import { buildOptimizer, buildStep, type RunMetrics } from "../../src/train/objective.ts";
import { plannedBytes } from "../../src/train/planned_memory.ts";
import { runTraining } from "../../src/train/program.ts";
import { ROUTER_NAMES } from "../../src/train/routers.ts";
import { startRun } from "../../src/train/run_files.ts";
import { assertClose } from "../support/check_primitive.ts";
import { gpuTest } from "../support/runtimes.ts";
import { type Flags, inFolder, SMALL_FLAGS, smallFlags, stateOf, train } from "./support/runs.ts";
import { sourceOf } from "./support/variants.ts";

const TEXT = new TextEncoder().encode("the wagon moves to the yard of the switch and the engine. ".repeat(20));

/** What a step measures, as numbers. */
interface Taken {
  readonly loss: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly load: readonly number[];
  readonly dropped: readonly number[];
}

/** A step with what was planned for it. */
interface Planned extends Taken {
  readonly peak: number;
}

function configOf(flags: Flags): TrainConfig {
  return resolveConfig({ adapter: "software", flags: { "allow-non-causal": true, ...flags } });
}

/** Takes the first step of a run and plans its memory. */
async function firstStep(config: TrainConfig): Promise<Planned> {
  const model = buildModel(config, sourceOf(config));
  const optimizer = buildOptimizer(config);
  const step = buildStep(config, model, optimizer);
  const { state } = startRun(config, model, optimizer);
  const peak = plannedBytes(step, state, config);
  const { tokens, rows, length } = trainingBatch(TEXT, { ...config, step: 0 });
  const [, metrics]: readonly [unknown, RunMetrics] = step(state, {
    ids: tensor(tokens, { shape: [rows, length], dtype: "u32" }),
  });
  assertEquals(step.traces, 1);
  const { loss, gradientNorm, learningRate, routing } = await read(metrics);
  return {
    loss: loss[0]!,
    gradientNorm: gradientNorm[0]!,
    learningRate: learningRate[0]!,
    load: [...routing?.load ?? []].map(Number),
    dropped: [...routing?.dropped ?? []].map(Number),
    peak,
  };
}

function assertSameStep(actual: Taken, expected: Taken, what: string): void {
  for (const name of ["loss", "gradientNorm", "learningRate"] as const) {
    assertClose([actual[name]], [expected[name]], { relative: 2e-5, absolute: 1e-6 }, `${what}: ${name}`);
  }
  assertEquals([actual.load, actual.dropped], [expected.load, expected.dropped], what);
}

/** A model whose activations outweigh its parameters. */
const DEEP = {
  ...smallFlags("dense"),
  width: "32",
  layers: "3",
  "expert-width": "256",
  seq: "32",
  batch: "16",
} as const;

Deno.test("--micro-batches must divide the batch, and may change on resume like --remat", () => {
  const message = (flags: Flags): string => assertThrows(() => configOf(flags), ConfigError).message.split("\n")[1]!;
  assertEquals(message({ ...SMALL_FLAGS, "micro-batches": "3" }), "  --micro-batches  3  must divide batch (4)");
  assertEquals(
    message({ ...smallFlags("base"), experts: "32", "micro-batches": "4" }),
    "  --micro-batches  4  must leave a multiple of experts (32) of bytes: router base balances them",
  );
  const saved = configOf(SMALL_FLAGS);
  assertEquals([saved.microBatches, saved.remat, saved.profile], [1, false, null]);
  const { microBatches, remat } = resolveConfig({
    adapter: "software",
    flags: { "micro-batches": "2", remat: true },
    saved,
  });
  assertEquals([microBatches, remat], [2, true]);
});

for (const router of ["dense", "hash", "deepseek"] as const) {
  gpuTest(`a step in micro-batches measures what a whole one does, with router ${router}`, async () => {
    // A loss over a batch as a whole is not the mean over its parts.
    const flags = { ...smallFlags(router), ...(router === "deepseek" ? { aux: "0", "z-loss": "0" } : {}) };
    const whole = await firstStep(configOf(flags));
    assertSameStep(await firstStep(configOf({ ...flags, "micro-batches": "4" })), whole, router);
  });
}

gpuTest("micro-batches and rematerialization shrink what is planned for a step", async () => {
  const whole = await firstStep(configOf(DEEP));
  const parts = await firstStep(configOf({ ...DEEP, "micro-batches": "4" }));
  const again = await firstStep(configOf({ ...DEEP, remat: true }));
  const both = await firstStep(configOf({ ...DEEP, "micro-batches": "4", remat: true }));
  for (const other of [parts, again, both]) assertSameStep(other, whole, "planned");
  assert(parts.peak < 0.6 * whole.peak, `${parts.peak} of ${whole.peak}`);
  assert(again.peak < 0.6 * whole.peak, `${again.peak} of ${whole.peak}`);
  assert(both.peak < Math.min(parts.peak, again.peak), `${both.peak} of ${parts.peak} and ${again.peak}`);
});

gpuTest("--remat leaves loss, gradients, load and drops of every router as they are", async () => {
  for (const router of ROUTER_NAMES) {
    const flags = smallFlags(router);
    const plain = await firstStep(configOf(flags));
    assertSameStep(await firstStep(configOf({ ...flags, remat: true })), plain, router);
  }
});

gpuTest(
  "runTraining() with --micro-batches and --remat learns, generates and goes on as without",
  () =>
    inFolder(async (folder) => {
      const flags = { ...smallFlags("hash"), data: `${folder}/text.txt` };
      await train({ ...flags, out: `${folder}/plain` });
      const out = `${folder}/thrifty`;
      const controller = new AbortController();
      await train({ ...flags, "micro-batches": "2", remat: true, out }, {
        signal: controller.signal,
        onStep: (step) => step === 13 && controller.abort(),
      });
      const saved = await readSavedConfig(out);
      assertEquals([saved.microBatches, saved.remat], [2, true]);
      await train({ resume: out, "micro-batches": "4" });
      const lossesOf = async (folder: string): Promise<ReadonlyMap<number, number>> =>
        new Map((await readMetrics(folder)).flatMap(({ step, validationBitsPerByte: loss }) =>
          loss === undefined ? [] : [[step, loss] as const]
        ));
      const [plain, thrifty] = [await lossesOf(`${folder}/plain`), await lossesOf(out)];
      assertEquals([...thrifty.keys()], [...plain.keys()]);
      for (const [step, loss] of plain) {
        assert(Math.abs(thrifty.get(step)! - loss) < 0.02, `${step}`);
      }

      // What generates has no gradients, so nothing is computed twice: the same bits come out.
      const config = configOf(flags);
      const texts: string[] = [];
      for (const remat of [false, true]) {
        const model = buildModel({ ...config, remat });
        const parts = generate(model, model.init(key(3)), {
          prompt: new TextEncoder().encode("the "),
          tokens: 12,
          temperature: 0.5,
          seed: 1,
          window: config.seq,
        });
        texts.push(String((await Array.fromAsync(parts)).flatMap((part) => [...part])));
      }
      assertEquals(texts[1], texts[0]);
    }),
);

gpuTest(
  "runTraining() refuses what does not fit before it makes a folder, and tells what would fit",
  () =>
    inFolder(async (folder) => {
      const previous = installRuntime(null);
      try {
        const flags = { ...DEEP, data: `${folder}/text.txt`, out: `${folder}/run` };
        await init();
        const { peak } = await firstStep(configOf(flags));
        installRuntime(null);
        const device = await init({ budgetBytes: Math.floor(peak * 0.75) });
        const config = await loadConfig({ adapter: "software", flags });
        const error = await assertRejects(() => runTraining(config, { device, onEvent: () => {} }), OutOfMemoryError);
        assertEquals(error.code, "memory/planned");
        const planned = error.details.planned as Readonly<Record<string, number>>;
        assertEquals(Object.keys(planned), [
          "--micro-batches 2",
          "--remat",
          "--micro-batches 2 --remat",
          "--precision bf16",
          "--batch 8",
        ]);
        for (const [name, bytes] of Object.entries(planned)) assert(bytes < peak, name);
        const lines = error.message.replaceAll("\u202f", " ").split("\n");
        assert(/^Cannot start the run: a training step needs .*B of device memory, the budget is .*B$/.test(lines[0]!));
        assert(/^ {2}--micro-batches 2 {10}\d.* [kM]B$/.test(lines[1]!), lines[1]);
        assertEquals(lines.at(-1), "Fix: start it again with one of these that fits");
        await assertRejects(() => Deno.stat(`${folder}/run`), Deno.errors.NotFound);

        // Its own advice works.
        const { events } = await train({ ...flags, steps: "1", remat: true, "micro-batches": "2" }, { device });
        const [start] = events;
        assertEquals(start?.event === "start" && start.plannedBytes, planned["--micro-batches 2 --remat"]);
      } finally {
        installRuntime(previous);
      }
    }),
);

gpuTest("--profile traces a step and leaves the run as it is", () =>
  inFolder(async (folder) => {
    const flags = { ...SMALL_FLAGS, steps: "9", data: `${folder}/text.txt` };
    await train({ ...flags, out: `${folder}/plain` });
    const profile = `${folder}/traces/step.json`;
    const { events } = await train({ ...flags, out: `${folder}/profiled`, profile });
    assertEquals(await stateOf(`${folder}/profiled`), await stateOf(`${folder}/plain`));
    const [plain, profiled] = [await readMetrics(`${folder}/plain`), await readMetrics(`${folder}/profiled`)];
    const lasting = (rows: typeof plain): unknown =>
      rows.map(({ seconds: _, bytesPerSecond, ...row }) => [row, (bytesPerSecond ?? 1) > 0]);
    assertEquals(lasting(profiled), lasting(plain));

    const found = events.filter((event) => event.event === "profile");
    assertEquals(found.map(({ step, path }) => [step, path]), [[4, profile]]);
    const { traceEvents } = JSON.parse(await Deno.readTextFile(profile));
    assertEquals(traceEvents.length, found[0]!.kernels);
    assert(found[0]!.kernels > 10 && found[0]!.table[0]!.startsWith(`${found[0]!.kernels} kernels, `));
    assert(/^ *ms +share +calls/.test(found[0]!.table[1]!));
    // The program is part of the library, and yet each kernel has a line.
    for (const line of found[0]!.table.slice(2)) assert(/ \w+\.ts:\d+:\d+$/.test(line), line);
    assertEquals((await readSavedConfig(`${folder}/profiled`)).profile, null);

    // A run that is shorter than that has its last step profiled.
    const short = await train({ ...flags, steps: "2", out: `${folder}/short`, profile });
    assertEquals(short.events.flatMap((event) => event.event === "profile" ? [event.step] : []), [2]);
    await assertRejects(() => train({ ...flags, out: `${folder}/none`, profile: folder }), ConfigError, "--profile");
    await assertRejects(() => Deno.stat(`${folder}/none`), Deno.errors.NotFound);
  }));
