import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { CheckpointError, ConfigError, DataError, NonFiniteError, tensor } from "../../mod.ts";
import { resolveConfig } from "../../src/train/config.ts";
import { readSavedConfig } from "../../src/train/config_file.ts";
import type { MetricsEvent } from "../../src/train/events.ts";
import { runLoop } from "../../src/train/loop.ts";
import { measureRun } from "../../src/train/measure.ts";
import { readMetrics } from "../../src/train/metrics.ts";
import type { RunState, RunStep } from "../../src/train/objective.ts";
import { planSteps } from "../../src/train/plan_steps.ts";
import { gpuTest } from "../support/runtimes.ts";
import { inFolder, SMALL_FLAGS, smallFlags, stateOf, train } from "./support/runs.ts";

gpuTest("runTraining() lowers the loss, and writes and tells everything in order", () =>
  inFolder(async (folder) => {
    const out = `${folder}/run`;
    const { end, events } = await train({ ...SMALL_FLAGS, data: `${folder}/text.txt`, out });
    assertEquals(end, "steps");
    assertEquals(
      events.map((event) => event.event).join(" "),
      [
        "start metrics metrics checkpoint metrics metrics checkpoint metrics checkpoint metrics end",
      ].join(),
    );
    const rows = events.filter((event): event is MetricsEvent => event.event === "metrics");
    assertEquals(rows.map(({ step }) => step), [8, 10, 16, 20, 24, 24]);
    assertEquals(rows.map((row) => row.validationBitsPerByte !== undefined), [true, false, true, false, false, true]);
    assert(rows.at(-1)!.validationBitsPerByte! < rows[0]!.validationBitsPerByte! - 0.5);
    for (const { load = [], dropped = [] } of rows.slice(0, -1)) {
      assertEquals(load.map((layer) => [layer.length, layer.reduce((sum, share) => sum + share, 0).toFixed(6)]), [
        [3, "1.000000"],
        [3, "1.000000"],
      ]);
      assertEquals(dropped, [0, 0]);
    }

    const files = ["checkpoints", "config.json", "metrics.jsonl", "model.safetensors", "optimizer.safetensors"];
    assertEquals([...Deno.readDirSync(out)].map(({ name }) => name).sort(), [...files, "report.html"].sort());
    assertEquals((await readSavedConfig(out)).steps, 24);
    assertEquals((await readMetrics(out)).map(({ step }) => step), [8, 10, 16, 20, 24]);
    const page = await Deno.readTextFile(`${out}/report.html`);
    assert(page.includes("Layer 1") && page.includes('<svg class="loss"') && page.includes("gzip -9"));
  }));

for (const router of ["dense", "switch", "topk", "hash", "deepseek"] as const) {
  gpuTest(
    `runTraining() interrupted and resumed with router ${router} ends with the bits of a run that never stopped`,
    () =>
      inFolder(async (folder) => {
        const flags = { ...smallFlags(router), data: `${folder}/text.txt` };
        await train({ ...flags, out: `${folder}/whole` });

        const out = `${folder}/parts`;
        const controller = new AbortController();
        const stopped = await train({ ...flags, out }, {
          signal: controller.signal,
          onStep: (step) => step === 13 && controller.abort(),
        });
        assertEquals(stopped.end, "interrupted");
        assertEquals(stopped.events.at(-1), { event: "interrupted", step: 13, out });
        assertEquals((await stateOf(out))[0], 13);
        assertEquals((await train({ resume: out })).end, "steps");

        assertEquals(await stateOf(out), await stateOf(`${folder}/whole`));
        const [whole, parts] = [await readMetrics(`${folder}/whole`), await readMetrics(out)];
        assertEquals(parts.map(({ step }) => step), [8, 10, 13, 16, 20, 24]);
        for (const step of [8, 24]) {
          const [a, b] = [whole, parts].map((rows) => rows.find((row) => row.step === step));
          assertEquals(a?.validationBitsPerByte, b?.validationBitsPerByte);
        }
      }),
  );
}

gpuTest(
  "runTraining() makes a table from a dense run once, and goes on without that run to the same bits",
  () =>
    inFolder(async (folder) => {
      const data = `${folder}/text.txt`;
      const dense = `${folder}/dense`;
      await train({ ...smallFlags("dense"), data, steps: "4", out: dense });
      const flags = { ...smallFlags("hash"), data, table: "clustered", "table-from": dense };
      await train({ ...flags, out: `${folder}/whole` });

      const out = `${folder}/parts`;
      const controller = new AbortController();
      const onStep = (step: number): void => void (step === 13 && controller.abort());
      await train({ ...flags, out }, { signal: controller.signal, onStep });
      await Deno.remove(dense, { recursive: true });
      assertEquals((await train({ resume: out })).end, "steps");
      assertEquals(await stateOf(out), await stateOf(`${folder}/whole`));
      assert((await measureRun(out)).validationBitsPerByte < 8);

      // Another run cannot do without it, and it has to be dense.
      const missing = await assertRejects(() => train({ ...flags, out: `${folder}/other` }), CheckpointError);
      assertEquals(missing.message.split("\n")[0], `Cannot use ${dense} as a run: no such file`);
      const wrong = await assertRejects(() => train({ ...flags, "table-from": out, out: dense }), ConfigError);
      assertEquals(
        wrong.message,
        `Cannot make a clustered table from ${out}: its router is hash, it should be dense\n` +
          "Fix: pass a folder that a run with --router dense wrote to --table-from",
      );
    }),
);

gpuTest("runTraining() reports the divergence of two passes, and of what both drew", () =>
  inFolder(async (folder) => {
    const flags = { ...smallFlags("thor"), data: `${folder}/text.txt`, consistency: "5", steps: "8" };
    await train({ ...flags, out: `${folder}/run` });
    const [row] = await readMetrics(`${folder}/run`);
    assert(row!.divergence! > 0 && row!.loss! > 2 * row!.trainBitsPerByte! * Math.LN2);
    for (const layer of row!.load!) {
      // Of 8 steps with 2 passes, each expert has whole sixteenths.
      for (const share of layer) assertAlmostEquals(share * 16, Math.round(share * 16), 1e-6);
    }
  }));

gpuTest(
  "runTraining() resumes into another folder, and a run that was killed before its first checkpoint",
  () =>
    inFolder(async (folder) => {
      const flags = { ...SMALL_FLAGS, data: `${folder}/text.txt` };
      const [first, second] = [`${folder}/first`, `${folder}/second`];
      await train({ ...flags, steps: "12", out: first });
      // What a run leaves that is killed right after its start.
      await Deno.mkdir(second);
      await Deno.copyFile(`${first}/config.json`, `${second}/config.json`);
      const { events } = await train({ resume: second });
      assertEquals(events[0]?.event === "start" && events[0].step, 0);
      assertEquals(await stateOf(second), await stateOf(first));

      const third = `${folder}/third`;
      await train({ resume: first, steps: "16", out: third });
      assertEquals((await stateOf(third))[0], 16);
      assertEquals((await stateOf(first))[0], 12);
      assertEquals((await readMetrics(third)).map(({ step }) => step), [8, 10, 12, 16]);
    }),
);

gpuTest(
  "runTraining() does not write over a run, nor train on a text that is too short",
  () =>
    inFolder(async (folder) => {
      await Deno.writeTextFile(`${folder}/config.json`, "{}");
      const flags = { ...SMALL_FLAGS, data: `${folder}/text.txt`, out: folder };
      assertEquals(
        (await assertRejects(() => train(flags), ConfigError)).message,
        `Cannot write the run to ${folder}: it holds a run already\n` +
          `Fix: continue that run with --resume ${folder}, or choose another --out`,
      );
      const error = await assertRejects(() => train({ ...flags, seq: "4096", out: `${folder}/run` }), DataError);
      assertEquals(error.code, "data/too-short");
    }),
);

/** A step that only counts, and whose loss a test decides. */
function countingStep(lossAt: (step: number) => number): RunStep {
  let done = 0;
  function step(state: RunState): ReturnType<RunStep> {
    done++;
    const loss = tensor(lossAt(done));
    const metrics = { loss, crossEntropy: tensor(1), learningRate: tensor(0.5), gradientNorm: tensor(3) };
    return [{ ...state, step: tensor(done, { dtype: "u32" }) }, metrics];
  }
  const memory = () => ({ argumentBytes: 0, resultBytes: 0, scratchBytes: 0, peakBytes: 0 });
  return Object.assign(step, { program: () => "", memory, traces: 0 });
}

const COUNTING_STATE = { step: tensor(0, { dtype: "u32" }) } as RunState;

gpuTest("runLoop() stops with an error when the loss is not a number, before it saves", async () => {
  const saved: number[] = [];
  const loop = (): Promise<unknown> =>
    runLoop({ state: COUNTING_STATE, step: 0, seconds: 0 }, {
      config: resolveConfig({ adapter: "software", flags: { ...SMALL_FLAGS, "checkpoint-every": "4" } }),
      text: new Uint8Array(100),
      step: countingStep((step) => step < 7 ? 2.5 : NaN),
      evaluate: () => Promise.resolve(1),
      metricsEvery: 5,
      signal: new AbortController().signal,
      isTimeUp: () => false,
      onRow: () => {},
      onCheckpoint: ({ step }) => void saved.push(step),
    });
  assertEquals(
    (await assertRejects(loop, NonFiniteError)).message,
    "Cannot go on training: the loss at step 7 is NaN\n" +
      "  step before    loss 2.5\n" +
      "  learning rate  0.5\n" +
      "  gradient norm  3\n" +
      "Fix: use a smaller --lr; the run's last checkpoint is from before and can be resumed",
  );
  assertEquals(saved, [4]);
});

gpuTest("runLoop() stops when the time is up, and saves where it stopped", async () => {
  const saved: number[] = [];
  let calls = 0;
  const end = await runLoop({ state: COUNTING_STATE, step: 0, seconds: 2 }, {
    config: resolveConfig({ adapter: "software", flags: SMALL_FLAGS }),
    text: new Uint8Array(100),
    step: countingStep(() => 1),
    evaluate: () => Promise.resolve(1),
    metricsEvery: 5,
    signal: new AbortController().signal,
    isTimeUp: () => calls > 6,
    onStep: () => void calls++,
    onRow: () => {},
    onCheckpoint: ({ step }) => void saved.push(step),
  });
  assertEquals([end.step, saved], [7, [7]]);
  assert(end.seconds > 2);
});

gpuTest("planSteps() counts the steps that fit, with the evaluations between them", async () => {
  const plan = (seconds: string, steps: string): Promise<number> => {
    let now = 10;
    return planSteps({ state: COUNTING_STATE, step: 0, seconds: 0 }, {
      config: resolveConfig({ adapter: "software", flags: { ...SMALL_FLAGS, seconds, steps } }),
      text: new Uint8Array(100),
      step: countingStep(() => {
        now += 0.25;
        return 1;
      }),
      evaluationBatches: 12,
      clock: () => now,
    });
  };
  // Four steps of 0.25 s are measured; every eighth step an evaluation costs as much as four.
  assertEquals(await plan("61", "1000"), Math.floor((61 - 11) / (0.25 * 1.5) * 0.95));
  assertEquals(await plan("61", "20"), 20);
  assertEquals(await plan("3", "1000"), 1);
});
