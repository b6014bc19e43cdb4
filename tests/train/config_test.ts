import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CheckpointError, ConfigError } from "../../src/core/errors.ts";
import { resolveConfig } from "../../src/train/config.ts";
import { formatSavedConfig, loadConfig, readSavedConfig } from "../../src/train/config_file.ts";
import { describeFlags, FLAGS, OPTION_NAMES } from "../../src/train/option_table.ts";
import { PRESETS } from "../../src/train/presets.ts";
import { ROUTER_NAMES, ROUTERS } from "../../src/train/routers.ts";

type Flags = Readonly<Record<string, unknown>>;

function withFlags(flags: Flags): ReturnType<typeof resolveConfig> {
  return resolveConfig({ adapter: "software", flags });
}

function messageOf(flags: Flags, values?: unknown): string {
  const file = values === undefined ? {} : { file: { path: "train.json", values } };
  return assertThrows(() => resolveConfig({ adapter: "software", flags, ...file }), ConfigError).message;
}

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("resolveConfig() picks the preset by the adapter", () => {
  assertEquals(resolveConfig({ adapter: "software" }).preset, "tiny");
  assertEquals(resolveConfig({ adapter: "hardware" }).preset, "small");
  assertEquals(resolveConfig({ adapter: "hardware", flags: { preset: "base" } }).width, PRESETS.base.width);
});

Deno.test("resolveConfig() lets the file override the preset and flags override the file", () => {
  const values = { steps: 30, "expert-width": 48, batch: 3, quiet: true };
  const config = resolveConfig({
    adapter: "software",
    file: { path: "train.json", values },
    flags: { _: [], batch: "5", quiet: false },
  });
  const { steps, expertWidth, batch, quiet, seq } = config;
  assertEquals([steps, expertWidth, batch, quiet, seq], [30, 48, 5, true, PRESETS.tiny.seq]);
});

Deno.test("resolveConfig() reads every flag that it describes", () => {
  assertEquals(FLAGS.string.length + FLAGS.boolean.length, OPTION_NAMES.length + 1);
  for (const flag of [...FLAGS.string, ...FLAGS.boolean]) assert(describeFlags().includes(`--${flag} `), flag);
  const config = withFlags({ lr: "3e-4", seconds: "1.5", out: "runs/a", data: "notes.txt", json: true, seed: 9 });
  assertEquals(
    [config.lr, config.seconds, config.out, config.data, config.json, config.seed],
    [3e-4, 1.5, "runs/a", "notes.txt", true, 9],
  );
});

Deno.test("resolveConfig() fits experts and topk to the router", () => {
  const { expertWidth } = PRESETS.tiny;
  const expected = { none: [1, 1, expertWidth], one: [8, 1, expertWidth], many: [8, 2, expertWidth / 2] };
  for (const router of ROUTER_NAMES) {
    const { visits, causal = true } = ROUTERS[router];
    if (!causal) continue;
    const config = withFlags({ router });
    assertEquals([config.experts, config.topk, config.expertWidth], expected[visits], router);
  }
  assertEquals(withFlags({ router: "topk", experts: "1" }).topk, 1);
  assertEquals(withFlags({ router: "noisy-topk", experts: "2" }).topk, 1);
  assertEquals(withFlags({ router: "topk", topk: "4" }).expertWidth, expertWidth / 4);
  assertEquals(withFlags({ router: "topk", "expert-width": "96" }).expertWidth, 96);
});

Deno.test("resolveConfig() reports all problems at once", () => {
  assertEquals(
    messageOf({
      router: "swich",
      experts: "4",
      "expert-widht": "64",
      steps: "0",
      heads: "3",
      lr: "fast",
      out: "",
      _: ["tiny"],
    }, { batch: "8", momentum: 0.9 }),
    "Cannot start the run: 9 options are invalid\n" +
      "  momentum        0.9      unknown option\n" +
      '  --expert-widht  "64"     unknown option; did you mean --expert-width?\n' +
      "  tiny                     unexpected argument\n" +
      '  batch           "8"      must be an integer in 1..65536\n' +
      '  --router        "swich"  must be one of dense, switch, topk, hash, multihash, thor, sigma, ' +
      "topk-activation, pkm, memory, altup, base, sinkhorn, expert-choice, noisy-topk, deepseek, soft-moe, smear, relu; " +
      "did you mean switch?\n" +
      "  --steps         0        must be an integer in 1..1000000000\n" +
      '  --lr            "fast"   must be above 0 and at most 10\n' +
      '  --out           ""       must name a folder\n' +
      "  --heads         3        must divide width (128)",
  );
});

Deno.test("resolveConfig() checks options against each other", () => {
  assertEquals(
    messageOf({ router: "topk", experts: "4", topk: "5" }),
    "Cannot start the run: 1 option is invalid\n  --topk  5  must be an integer in 1..4 (experts is 4)",
  );
  assertEquals(
    messageOf({ router: "switch", topk: "2" }).split("\n")[1],
    "  --topk  2  must be 1 with router switch; router topk takes more",
  );
  assertEquals(
    messageOf({ router: "dense", experts: "8" }).split("\n")[1],
    "  --experts  8  has no meaning here: router dense has no experts",
  );
  assertEquals(
    messageOf({ width: "12", heads: "4" }).split("\n")[1],
    "  --heads  4  must leave an even width per head for rotary positions (12 / 4 is 3)",
  );
});

Deno.test("resolveConfig() checks the numbers of a router", () => {
  for (
    const [flags, line] of [
      [{ router: "noisy-topk", experts: "4", topk: "4" }, "--topk  4  must be an integer in 1..3 (experts is 4)"],
      [
        { router: "noisy-topk", experts: "1" },
        "--experts  1  must be at least 2: router noisy-topk compares with an expert that a byte does not visit",
      ],
      [
        { router: "base", experts: "7" },
        "--experts  7  must divide the 1024 bytes of a batch (8 x 128): router base balances them",
      ],
      [
        { router: "multihash", topk: "3" },
        "--topk  3  must divide width (128): router multihash cuts layers into as many segments",
      ],
      [{ router: "pkm", experts: "8" }, "--experts  8  has no meaning here: router pkm has no experts"],
      [{ router: "thor", topk: "2" }, "--topk  2  must be 1 with router thor; router topk takes more"],
    ] as const
  ) assertEquals(messageOf(flags), `Cannot start the run: 1 option is invalid\n  ${line}`);
});

Deno.test("resolveConfig() refuses routers that see the future", () => {
  for (const router of ["expert-choice", "soft-moe", "smear"]) {
    assertEquals(
      messageOf({ router }),
      "Cannot start the run: 1 option is invalid\n" +
        `  --router  "${router}"  is not causal: a byte's experts depend on later bytes, which a language model must not see; ` +
        "allow-non-causal trains it all the same",
    );
  }
});

Deno.test("resolveConfig() rejects numbers that are none, too large, not whole or missing", () => {
  for (const steps of ["", "1.5", "ten", "-1", "1e10", "Infinity", "0x", "NaN"]) {
    assertEquals(
      messageOf({ steps }).split("\n")[0],
      "Cannot start the run: 1 option is invalid",
      `steps ${JSON.stringify(steps)}`,
    );
  }
  assert(messageOf({ seconds: "0" }).endsWith("must be a number of seconds above 0"));
  assert(messageOf({ seed: "4294967296" }).endsWith("must be an integer in 0..4294967295"));
});

Deno.test("resolveConfig() rejects an option given in both spellings, and a file that is no object", () => {
  assertEquals(
    messageOf({}, { expertWidth: 3, "expert-width": 4 }).split("\n")[1],
    "  expert-width  4  given twice, as expertWidth too",
  );
  assertEquals(messageOf({}, [1]), "Cannot read train.json: it should hold one JSON object with options, not an array");
});

Deno.test("resolveConfig() keeps what a checkpoint fixes and lets the rest change on resume", () => {
  const saved = withFlags({ width: "64", steps: "10" });
  const config = resolveConfig({ adapter: "hardware", saved, flags: { resume: "runs/a", steps: "20", width: "64" } });
  assertEquals([config.preset, config.width, config.steps], ["tiny", 64, 20]);
  const error = assertThrows(
    () => resolveConfig({ adapter: "hardware", saved, flags: { resume: "runs/a", width: "128", seed: "1" } }),
    ConfigError,
  );
  assertEquals(
    error.message,
    "Cannot start the run: 2 options are invalid\n" +
      "  --width  128  cannot change on resume: the run has 64\n" +
      "  --seed   1    cannot change on resume: the run has 0",
  );
});

Deno.test("loadConfig() reads a file and resumes a run from what formatSavedConfig() wrote", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/train.json`, '{ "steps": 12, "router": "topk" }');
    const config = await loadConfig({ adapter: "software", flags: { config: `${folder}/train.json`, out: folder } });
    assertEquals([config.steps, config.topk, config.out], [12, 2, folder]);
    await Deno.writeTextFile(`${folder}/config.json`, formatSavedConfig(config));
    assertEquals(await readSavedConfig(folder), { ...config, out: null });
    const resumed = await loadConfig({ adapter: "hardware", flags: { resume: folder, steps: "24" } });
    assertEquals(resumed, { ...config, resume: folder, steps: 24 });
    assertEquals(
      await loadConfig({ adapter: "hardware", flags: { config: `${folder}/config.json`, out: folder } }),
      config,
    );
  });
});

Deno.test("loadConfig() says what is wrong with a configuration file", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/train.json`;
    const load = (): Promise<unknown> => loadConfig({ adapter: "software", flags: { config: path } });
    assertEquals(
      (await assertRejects(load, ConfigError)).message,
      `Cannot read ${path}: no such file\nFix: --config takes the path of a JSON file with options`,
    );
    await Deno.writeTextFile(path, "{ steps: 3 }");
    assertEquals(
      (await assertRejects(load, ConfigError)).message.split("\n")[0],
      `Cannot read ${path}: it is not JSON`,
    );
  });
});

Deno.test("loadConfig() says that a folder holds no run", async () => {
  await inFolder(async (folder) => {
    const load = (): Promise<unknown> => loadConfig({ adapter: "software", flags: { resume: folder } });
    assertEquals(
      (await assertRejects(load, CheckpointError)).message,
      `Cannot use ${folder} as a run: no such file\n` +
        `  looked for  ${folder}/config.json\n` +
        "Fix: pass the folder that an earlier run wrote with --out",
    );
    await Deno.writeTextFile(`${folder}/config.json`, '{"steps":0}');
    assertEquals(
      (await assertRejects(load, ConfigError)).message.split("\n")[1],
      "  steps  0  must be an integer in 1..1000000000",
    );
  });
});
