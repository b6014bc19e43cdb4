import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { calibrate, type CalibrationDecision, formatDecision } from "../../src/calibrate/mod.ts";
import { AdapterError, ConfigError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { KernelTuning } from "../../src/core/kernel.ts";
import { installRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { init, startedDevice } from "../../src/gpu/device.ts";
import { tuningPath, writeTuning } from "../../src/gpu/tuning_file.ts";
import { matmul, ones } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";

const DATE = "2026-01-02T03:04:05.678Z";

/** Runs a test with a folder of its own for choices, and puts the runtime back that was there. */
async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const previous = installRuntime(null);
  try {
    await run(folder);
  } finally {
    installRuntime(previous);
    await Deno.remove(folder, { recursive: true });
  }
}

/** Starts a device and says which choices it uses. */
async function startIn(folder: string | false) {
  installRuntime(null);
  const { calibration } = await init({ calibration: folder });
  const { key, runtime } = startedDevice()!;
  return { calibration, key, tuning: runtime.adapter.tuning };
}

const TUNING: KernelTuning = { textureWork: 2 ** 30, expertTextureWork: 2 ** 20, sharedTiles: { small: "32x64" } };

gpuTest("init() takes choices from a file, says so, and its programs follow them", () =>
  inFolder(async (folder) => {
    const before = await startIn(folder);
    assertEquals([before.calibration, before.tuning], [null, undefined]);
    const product = jit((a: Tensor, b: Tensor) => matmul(a, b));
    const [a, b] = [ones([200, 200]), ones([200, 200])];
    const builtIn = product.program(a, b);
    const path = await writeTuning(folder, before.key, { date: DATE, tuning: TUNING });
    const after = await startIn(folder);
    assertEquals(after.calibration, { date: DATE, path });
    assertEquals(after.tuning, TUNING);
    const chosen = product.program(a, b);
    assert(startedDevice()!.info.software ? chosen !== builtIn : true, "the program is compiled again");
    assertEquals((await product(a, b).data())[0], 200);
    // Other choices are another device: the two never share a program.
    assertEquals((await startIn(false)).calibration, null);
    assertEquals(product.program(a, b), builtIn);
  }));

gpuTest("init() ignores a broken file", () =>
  inFolder(async (folder) => {
    const { key } = await startIn(folder);
    const path = await writeTuning(folder, key, { date: DATE, tuning: TUNING });
    for (const text of ["", "{", (await Deno.readTextFile(path)).replace("1073741824", "-1")]) {
      await Deno.writeTextFile(path, text);
      const { calibration, tuning } = await startIn(folder);
      assertEquals([calibration, tuning], [null, undefined], text);
    }
  }));

gpuTest("calibrate() measures, decides and writes what the next init() reads", () =>
  inFolder(async (folder) => {
    const { key } = await startIn(folder);
    const heard: CalibrationDecision[] = [];
    const only = startedDevice()!.info.software ? "textureTiles.small" : "sharedTiles.small";
    const result = await calibrate({ only, rounds: 2, turnMs: 1, onDecision: (each) => heard.push(each) });
    assertEquals(result.path, tuningPath(folder, key));
    assertEquals(result.decisions.map(({ name }) => name), [only]);
    assertEquals(heard, result.decisions);
    const [{ trials, isChanged }] = result.decisions as [CalibrationDecision];
    assert(
      trials.length >= 2 && trials.every(({ ratio, wins, rounds }) => ratio > 0 && wins <= rounds && rounds === 2),
    );
    assertEquals(result.changed, isChanged ? [only] : []);
    assertStringIncludes(result.toString(), only);
    const { calibration, tuning } = await startIn(folder);
    assertEquals(calibration, { date: result.date, path: result.path! });
    assertEquals(Object.keys(tuning!).length, isChanged ? 1 : 0);
  }));

gpuTest(
  "calibrate() for a part keeps the other choices, and writes nothing where asked not to",
  () =>
    inFolder(async (folder) => {
      const { key } = await startIn(folder);
      const path = await writeTuning(folder, key, { date: DATE, tuning: TUNING });
      await startIn(folder);
      const before = await Deno.readTextFile(path);
      const quick = { only: "no such choice", rounds: 1, turnMs: 1 };
      assertEquals((await calibrate({ ...quick, write: false })).path, null);
      assertEquals(await Deno.readTextFile(path), before);
      await calibrate(quick);
      assertEquals((await startIn(folder)).tuning, TUNING);
    }),
);

gpuTest("calibrate() wants a device, sound options and a folder to write to", () =>
  inFolder(async (folder) => {
    const error = await assertRejects(() => calibrate(), AdapterError);
    assertEquals(error.message, "Cannot calibrate: no device yet\nFix: await init() once at program start");
    await startIn(folder);
    const wrong = await assertRejects(() => calibrate({ rounds: 0, turnMs: NaN }), ConfigError);
    assertStringIncludes(wrong.message, "rounds");
    assertStringIncludes(wrong.message, "turnMs");
    await startIn(false);
    const nowhere = await assertRejects(() => calibrate({ only: "none" }), ConfigError);
    assertStringIncludes(nowhere.message, "SWITCHYARD_CALIBRATION");
  }));

Deno.test("formatDecision() shows what was decided and why", () => {
  const trial = { ratio: 0.8, wins: 7, rounds: 7 };
  const decision = { name: "sharedTiles.large", shapes: "", chosen: "tile 128x128", isChanged: true };
  const trials = [{ name: "2 rows a lane", ratio: 1.5, wins: 0, rounds: 7 }, { name: "tile 128x128", ...trial }];
  assertEquals(
    formatDecision({ ...decision, trials, confirmation: { name: "tile 128x128", ...trial, ratio: 0.85 } }).replaceAll(
      / +/g,
      " ",
    ),
    "sharedTiles.large changed tile 128x128 best 0.80 (7 of 7 rounds), tile 128x128; again 0.85 (7 of 7 rounds)",
  );
  assertEquals(
    formatDecision({ ...decision, chosen: "built-in", isChanged: false, trials: [], confirmation: null }).replaceAll(
      / +/g,
      " ",
    ),
    "sharedTiles.large kept built-in nothing else to choose from",
  );
});
