import { assertEquals, assertRejects } from "@std/assert";
import { CheckpointError, ConfigError } from "../../../mod.ts";
import { runComparison } from "../../../src/train/compare/compare.ts";
import type { ComparisonRequest } from "../../../src/train/compare/comparison.ts";
import { readComparison } from "../../../src/train/compare/folder.ts";
import { readRecord } from "../../../src/train/compare/records.ts";
import type { TrainConfig } from "../../../src/train/config.ts";
import { type FakeRuns, fakeRuns, inFreshFolder, listen, requestOf } from "./support/fake_runs.ts";

interface Compared {
  readonly end: "over" | "interrupted";
  /** Variant and seed of each run that was started, and whether it went on with something. */
  readonly order: readonly string[];
}

async function compare(out: string, request: ComparisonRequest, runs: FakeRuns = fakeRuns()): Promise<Compared> {
  const { onEvent } = listen();
  const end = await runComparison(request, {
    out,
    command: "deno task compare …",
    execute: runs.execute,
    onEvent,
    signal: new AbortController().signal,
  });
  return { end, order: runs.started.map((config) => config.out!.slice(out.length + 1)) };
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

Deno.test("runComparison() trains all variants seed by seed, and what others need first", () =>
  inFreshFolder(async (out) => {
    const runs = fakeRuns();
    const { end, order } = await compare(out, requestOf("near=hash:table=clustered,switch"), runs);
    assertEquals(end, "over");
    assertEquals(order, [
      "dense/seed-0",
      "switch/seed-0",
      "near/seed-0",
      "dense/seed-1",
      "switch/seed-1",
      "near/seed-1",
    ]);
    assertEquals(runs.started.map(({ seed }) => seed), [0, 0, 0, 1, 1, 1]);
    assertEquals([runs.started[2]!.tableFrom, runs.started[5]!.tableFrom], [
      `${out}/dense/seed-0`,
      `${out}/dense/seed-1`,
    ]);
  }));

Deno.test("runComparison() leaves alone what is over, and adds seeds and variants", () =>
  inFreshFolder(async (out) => {
    await compare(out, requestOf("dense,switch", { seeds: 1 }));
    assertEquals((await compare(out, requestOf("dense,switch", { seeds: 1 }))).order, []);
    assertEquals((await compare(out, requestOf("dense,switch", { seeds: 2 }))).order, [
      "dense/seed-1",
      "switch/seed-1",
    ]);
    assertEquals((await compare(out, requestOf("hash", { seeds: 1 }))).order, ["hash/seed-0", "hash/seed-1"]);
    assertEquals((await readComparison(out)).variants.map(({ name }) => name), ["dense", "switch", "hash"]);
  }));

Deno.test("runComparison() goes on from an interrupted run's checkpoint", () =>
  inFreshFolder(async (out) => {
    const request = requestOf("dense,switch", { seeds: 1 });
    const first = await compare(out, request, fakeRuns(({ router }) => router === "switch" ? "interrupted" : "over"));
    assertEquals(first, { end: "interrupted", order: ["dense/seed-0", "switch/seed-0"] });
    assertEquals(await readRecord(`${out}/switch/seed-0`), undefined);
    // What there is by then is reported.
    assertEquals(await exists(`${out}/report.html`), true);
    const second = fakeRuns();
    assertEquals((await compare(out, request, second)).order, ["switch/seed-0"]);
    assertEquals(second.started[0]!.resume, `${out}/switch/seed-0`);
  }));

Deno.test("a run that is resumed keeps the steps that it settled, and has all the time it takes", () =>
  inFreshFolder(async (out) => {
    const request = requestOf("dense", { seeds: 1, budget: { kind: "seconds", amount: 5 } });
    const first = fakeRuns(() => "interrupted");
    await compare(out, request, first);
    assertEquals([first.started[0]!.seconds, first.started[0]!.steps], [5, 1e9]);
    const path = `${out}/dense/seed-0/config.json`;
    await Deno.writeTextFile(path, JSON.stringify({ ...JSON.parse(await Deno.readTextFile(path)), steps: 77 }));
    const second = fakeRuns();
    await compare(out, request, second);
    assertEquals([second.started[0]!.seconds, second.started[0]!.steps], [null, 77]);
  }));

Deno.test("a process that ends without a word is started again, three times in all", () =>
  inFreshFolder(async (out) => {
    const request = requestOf("dense,switch", { seeds: 1 });
    let crashes = 0;
    const recovers = ({ router }: TrainConfig): "over" | "crashed" =>
      router === "dense" && crashes++ < 2 ? "crashed" : "over";
    assertEquals((await compare(out, request, fakeRuns(recovers))).order.length, 4);
    assertEquals((await readRecord(`${out}/dense/seed-0`))?.status, "done");

    const never = await compare(
      `${out}/never`,
      request,
      fakeRuns(({ router }) => router === "dense" ? "crashed" : "over"),
    );
    assertEquals(never, { end: "over", order: ["dense/seed-0", "dense/seed-0", "dense/seed-0", "switch/seed-0"] });
    assertEquals(await readRecord(`${out}/never/dense/seed-0`), { status: "failed", reason: "a reason (3 times)" });
  }));

Deno.test("a run that fails is recorded, what needs it fails too, and the others go on", () =>
  inFreshFolder(async (out) => {
    const request = requestOf("dense,near=hash:table=clustered,switch", { seeds: 1 });
    const fails = ({ router }: TrainConfig): "over" | "failed" => router === "dense" ? "failed" : "over";
    assertEquals((await compare(out, request, fakeRuns(fails))).order, ["dense/seed-0", "switch/seed-0"]);
    assertEquals(await readRecord(`${out}/dense/seed-0`), { status: "failed", reason: "a reason" });
    assertEquals((await readRecord(`${out}/near/seed-0`))?.status, "failed");
    // It stays failed.
    assertEquals((await compare(out, request)).order, []);
  }));

Deno.test("a run whose last loss is not a number has failed, and the comparison is still reported", () =>
  inFreshFolder(async (out) => {
    const { started, execute } = fakeRuns();
    const diverges: FakeRuns["execute"] = (config, { onEvent, signal }) =>
      execute(config, {
        signal,
        onEvent: (event) =>
          onEvent(
            event.event === "end" && config.router === "dense" ? { ...event, validationBitsPerByte: NaN } : event,
          ),
      });
    const { end } = await compare(out, requestOf("dense,switch", { seeds: 1 }), { started, execute: diverges });
    assertEquals(end, "over");
    assertEquals(await readRecord(`${out}/dense/seed-0`), {
      status: "failed",
      reason: "its last loss is not a number",
    });
    assertEquals(await exists(`${out}/report.html`), true);
  }));

Deno.test("a run that is over keeps its model and no optimizer state", () =>
  inFreshFolder(async (out) => {
    await compare(out, requestOf("dense", { seeds: 1 }));
    const run = `${out}/dense/seed-0`;
    const names: string[] = [];
    for await (const { name } of Deno.readDir(`${run}/checkpoints`)) names.push(name);
    assertEquals(names.length, 1);
    assertEquals(await exists(`${run}/checkpoints/${names[0]}/model.safetensors`), true);
    assertEquals(await exists(`${run}/checkpoints/${names[0]}/optimizer.safetensors`), false);
    assertEquals([await exists(`${run}/model.safetensors`), await exists(`${run}/optimizer.safetensors`)], [
      true,
      false,
    ]);
  }));

Deno.test("another budget or another option is refused before a file is touched", () =>
  inFreshFolder(async (out) => {
    const request = requestOf("dense,switch");
    await compare(out, request);
    const before = await Deno.readTextFile(`${out}/comparison.json`);
    const changes: readonly (readonly [Partial<ComparisonRequest>, string])[] = [
      [{ budget: { kind: "steps", amount: 21 } }, "steps  21, but the folder has 20"],
      [{ budget: { kind: "tokens", amount: 20 } }, 'budget  "20 tokens", but the folder has "20 steps"'],
      [{ match: "tokens" }, 'match  "tokens", but the folder has "compute"'],
      [{ common: { ...request.common, lr: 0.5 } }, "switch: lr  0.5, but the folder has 0.003"],
      [
        { variants: [{ name: "new", options: { router: "hash" } }], common: { ...request.common, batch: 2 } },
        "batch  2",
      ],
      [{ variants: [{ name: "dense", options: { router: "switch" } }] }, 'dense: router   "switch"'],
    ];
    for (const [change, part] of changes) {
      await assertRejects(() => compare(out, { ...request, ...change }), ConfigError, part);
    }
    assertEquals(await Deno.readTextFile(`${out}/comparison.json`), before);
  }));

Deno.test("a folder with a run or with something broken is refused", () =>
  inFreshFolder(async (out) => {
    await Deno.writeTextFile(`${out}/config.json`, "{}");
    await assertRejects(() => compare(out, requestOf("dense")), ConfigError, "it holds a run");
    await Deno.remove(`${out}/config.json`);
    await Deno.writeTextFile(`${out}/comparison.json`, "{");
    await assertRejects(() => compare(out, requestOf("dense")), CheckpointError, "comparison.json is not JSON");
    await Deno.remove(`${out}/comparison.json`);
    await Deno.mkdir(`${out}/dense/seed-0`, { recursive: true });
    await Deno.writeTextFile(`${out}/dense/seed-0/result.json`, "{}");
    await assertRejects(() => compare(out, requestOf("dense")), CheckpointError, "it is not what a comparison writes");
  }));
