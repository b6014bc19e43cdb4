/**
 * The README's train command, shortened, on the real text: what a newcomer does first, from the command to the report.
 */
import { assert, assertEquals } from "@std/assert";
import { readCheckpoint } from "../../src/train/checkpoint.ts";
import type { EndEvent, MetricsEvent, RunEvent } from "../../src/train/events.ts";
import { gpuTest } from "../support/runtimes.ts";
import { findBrowser, openPage } from "../train/support/browser.ts";
import { commandLine, inFolder, runScript, startScript, stateOf } from "../train/support/runs.ts";

const BROWSER = await findBrowser();

/** The default command but for its length: a smaller model, fewer steps. */
const FLAGS = {
  width: "32",
  heads: "2",
  layers: "2",
  experts: "4",
  "expert-width": "64",
  seq: "64",
  batch: "8",
  lr: "0.01",
  steps: "60",
  "eval-every": "20",
  "checkpoint-every": "25",
  json: true,
};

function eventsOf(stdout: string): readonly RunEvent[] {
  return stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as RunEvent);
}

gpuTest(
  "deno task train learns the State of the Union, resumes to the same bits, samples and reports",
  () =>
    inFolder(async (folder) => {
      const out = `${folder}/run`;
      const ended = await runScript("main", commandLine({ ...FLAGS, out }));
      assertEquals([ended.code, ended.stderr], [0, ""]);
      const events = eventsOf(ended.stdout);
      const measured = events.filter((event): event is MetricsEvent => event.event === "metrics")
        .flatMap(({ validationBitsPerByte }) => validationBitsPerByte === undefined ? [] : [validationBitsPerByte]);
      assertEquals(measured.length, 3);
      assert(measured[0]! < 8 && measured[1]! < measured[0]! && measured[2]! < measured[1]!, String(measured));
      const end = events.at(-1) as EndEvent;
      assertEquals([end.event, end.step, end.bytesSeen], ["end", 60, 60 * 64 * 8]);
      assert(end.gzipBitsPerByte > 2.6 && end.gzipBitsPerByte < 2.8);
      assert(end.prompt.length > 0 && end.sample.length > 100);
      for (const file of end.files) assert((await Deno.stat(file)).size > 0, file);

      const parts = `${folder}/parts`;
      const { process, lines } = await startScript("main", commandLine({ ...FLAGS, out: parts }));
      let told = 0;
      for await (const _ of lines) if (++told === 3) process.kill("SIGINT");
      assertEquals((await process.status).code, 130);
      const { step } = await readCheckpoint(parts);
      assert(step > 0 && step < 60, `interrupted at step ${step}`);
      assertEquals((await runScript("main", commandLine({ resume: parts, quiet: true }))).code, 0);
      assertEquals(await stateOf(parts), await stateOf(out));

      const sampled = await runScript("sample", ["--from", out, "--prompt", "Fellow citizens", "--tokens", "40"]);
      assertEquals(sampled.code, 0);
      assert(sampled.stdout.startsWith("Fellow citizens") && sampled.stdout.length > 40);

      if (BROWSER === undefined) return;
      const page = await openPage(BROWSER, await Deno.readTextFile(`${out}/report.html`));
      assertEquals(page.console, []);
      assertEquals(page.dom.match(/<svg class="load"/g)?.length, 2);
      assertEquals(page.dom.match(/<svg class="loss"/g)?.length, 1);
    }),
);
