import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError, key, leavesOf, NonFiniteError, tensor } from "../../mod.ts";
import { resolveConfig } from "../../src/train/config.ts";
import { readSavedConfig } from "../../src/train/config_file.ts";
import { generate } from "../../src/train/generate.ts";
import { runLoop } from "../../src/train/loop.ts";
import { measureRun } from "../../src/train/measure.ts";
import { type MetricsRow, readMetrics } from "../../src/train/metrics.ts";
import { buildModel } from "../../src/train/model.ts";
import type { RunState, RunStep } from "../../src/train/objective.ts";
import { lossScaleFor, roundedOnce } from "../../src/train/precision.ts";
import { loadTrained } from "../../src/train/run_files.ts";
import { gpuTest } from "../support/runtimes.ts";
import { inFolder, SMALL_FLAGS, stateOf, train } from "./support/runs.ts";

Deno.test("--precision is f32 where it is not given, and fixed on resume", () => {
  const saved = resolveConfig({ adapter: "software", flags: SMALL_FLAGS });
  assertEquals(saved.precision, "f32");
  assertThrows(
    () => resolveConfig({ adapter: "software", flags: { precision: "bf16" }, saved }),
    ConfigError,
    "cannot change on resume: the run has f32",
  );
  assertThrows(
    () => resolveConfig({ adapter: "software", flags: { precision: "f8" } }),
    ConfigError,
    "must be one of f32, bf16, f16",
  );
  assertEquals([lossScaleFor("f32"), lossScaleFor("bf16")], [undefined, undefined]);
});

gpuTest(
  "runTraining() in f16 and bf16 learns as f32 does; an interrupted run goes on to the same bits",
  () =>
    inFolder(async (folder) => {
      const losses: number[] = [];
      for (const precision of ["f32", "bf16", "f16"] as const) {
        const flags = { ...SMALL_FLAGS, data: `${folder}/text.txt`, precision };
        const out = `${folder}/${precision}`;
        const controller = new AbortController();
        const onStep = (step: number): void => void (step === 13 && controller.abort());
        await train({ ...flags, out }, precision === "f16" ? { signal: controller.signal, onStep } : {});
        if (precision === "f16") {
          await train({ ...flags, out: `${folder}/whole` });
          await train({ resume: out });
          assertEquals(await stateOf(out), await stateOf(`${folder}/whole`));
        }
        assertEquals((await readSavedConfig(out)).precision, precision);
        const rows = await readMetrics(out);
        assertEquals(rows.every(({ lossScale }) => (lossScale !== undefined) === (precision === "f16")), true);
        for (const { loss = NaN, gradientNorm = NaN } of rows) assert(Number.isFinite(loss) && gradientNorm > 0);
        losses.push((await measureRun(out)).validationBitsPerByte);
      }
      const [wide, ...narrow] = losses as [number, number, number];
      for (const loss of narrow) assert(Math.abs(loss - wide) < 0.1, `${losses}`);

      // Rounding once before generating gives the text of rounding at every byte.
      const config = await readSavedConfig(`${folder}/bf16`);
      const model = buildModel(config, "checkpoint");
      const { params } = await loadTrained(`${folder}/bf16`, model);
      for (const [path, leaf] of leavesOf(params)) assertEquals(leaf.dtype, "f32", path);
      const texts: string[] = [];
      for (const own of [params, roundedOnce(params, "bf16")]) {
        const parts = generate(model, own, {
          prompt: new TextEncoder().encode("the "),
          tokens: 40,
          temperature: 0.5,
          seed: 1,
          window: config.seq,
        });
        texts.push(String((await Array.fromAsync(parts)).flatMap((part) => [...part])));
      }
      assertEquals(texts[1], texts[0]);
    }),
);

/** A step that only counts; a test decides what its loss, its scale and its fate are. */
function scaledStep(at: (step: number) => { loss: number; scale: number; skipped: boolean }): RunStep {
  let done = 0;
  function step(state: RunState): ReturnType<RunStep> {
    const { loss, scale, skipped } = at(++done);
    const metrics = {
      loss: tensor(loss),
      crossEntropy: tensor(loss),
      learningRate: tensor(0.5),
      gradientNorm: tensor(skipped ? Infinity : 3),
      lossScale: { scale: tensor(scale), skipped: tensor(skipped, { dtype: "bool" }) },
    };
    return [{ ...state, step: tensor(done, { dtype: "u32" }) }, metrics];
  }
  const memory = () => ({ argumentBytes: 0, resultBytes: 0, scratchBytes: 0, peakBytes: 0 });
  return Object.assign(step, { program: () => "", memory, traces: 0 });
}

async function loopOver(step: RunStep): Promise<readonly MetricsRow[]> {
  const rows: MetricsRow[] = [];
  const state = { step: tensor(0, { dtype: "u32" }) } as RunState;
  await runLoop({ state, step: 0, seconds: 0 }, {
    config: resolveConfig({ adapter: "software", flags: { ...SMALL_FLAGS, steps: "4" } }),
    text: new Uint8Array(100),
    step,
    evaluate: () => Promise.resolve(1),
    metricsEvery: 4,
    signal: new AbortController().signal,
    isTimeUp: () => false,
    onRow: (row) => void rows.push(row),
    onCheckpoint: () => {},
  });
  return rows;
}

gpuTest("runLoop() takes a skipped step for what it is, and leaves it out of the means", async () => {
  const fates = [
    { loss: 2, scale: 16, skipped: false },
    { loss: 3, scale: 16, skipped: true },
    { loss: 4, scale: 8, skipped: false },
    { loss: NaN, scale: 8, skipped: true },
  ];
  const [row] = await loopOver(scaledStep((step) => fates[step - 1]!));
  const { step, loss, gradientNorm, lossScale, skippedSteps } = row!;
  assertEquals({ step, loss, gradientNorm, lossScale, skippedSteps }, {
    step: 4,
    loss: 3,
    gradientNorm: 3,
    lossScale: 8,
    skippedSteps: 2,
  });
});

gpuTest("runLoop() stops when no loss scale helps", async () => {
  const step = scaledStep((step) => ({ loss: 2.5, scale: 2 ** (2 - step), skipped: true }));
  assertEquals(
    (await assertRejects(() => loopOver(step), NonFiniteError)).message,
    "Cannot go on training: the gradients at step 2 are not finite, however little the loss is scaled\n" +
      "  step before    loss 2.5\n" +
      "  learning rate  0.5\n" +
      "  gradient norm  Infinity\n" +
      "  loss scale     1\n" +
      "Fix: use a smaller --lr; the run's last checkpoint is from before and can be resumed",
  );
});

gpuTest("a model in bf16 says so, and has the parameters of one in f32", () => {
  const config = resolveConfig({ adapter: "software", flags: { ...SMALL_FLAGS, precision: "bf16" } });
  const [narrow, wide] = [buildModel(config), buildModel({ ...config, precision: "f32" })];
  assertEquals(narrow.name, `${wide.name} in bf16`);
  const shapesOf = (model: typeof wide) => leavesOf(model.init(key(0))).map(([path, { dtype }]) => [path, dtype]);
  assertEquals(shapesOf(narrow), shapesOf(wide));
});
