import { assert, assertEquals, assertMatch } from "@std/assert";
import { runComparison } from "../../../src/train/compare/compare.ts";
import { readRecord } from "../../../src/train/compare/records.ts";
import type { ComparisonEvent } from "../../../src/train/compare/events.ts";
import { ROUTER_NAMES } from "../../../src/train/routers.ts";
import { gpuTest } from "../../support/runtimes.ts";
import { commandLine, inFolder, runScript, SMALL_FLAGS, startScript, stateOf } from "../support/runs.ts";
import { fakeRuns, inFreshFolder, requestOf } from "./support/fake_runs.ts";

const { router: _router, experts: _experts, steps: _steps, "checkpoint-every": _every, ...MODEL } = SMALL_FLAGS;

gpuTest("compare explains its flags, and rejects what is wrong with them without a stack", async () => {
  const help = await runScript("compare", ["--help"]);
  assertEquals(help.code, 0);
  assertMatch(help.stdout, /deno task compare --routers SPEC[^]*--seeds N[^]*--expert-width X/);
  assertEquals(await runScript("compare", ["--routers", "dense,swich", "--seeds", "0"]), {
    code: 2,
    stdout: "",
    stderr: "Cannot compare: 3 options are invalid\n" +
      "  --seeds        0        must be an integer of at least 1\n" +
      "  --steps                 is required: give --steps, --tokens or --seconds\n" +
      `  swich: router  "swich"  must be one of ${ROUTER_NAMES.join(", ")}; did you mean switch?\n`,
  });
});

Deno.test("compare --report writes a report again and says where", () =>
  inFreshFolder(async (out) => {
    await runComparison(requestOf("dense,switch", { seeds: 1 }), {
      out,
      command: "deno task compare",
      execute: fakeRuns().execute,
      onEvent: () => {},
      signal: new AbortController().signal,
    });
    await Deno.remove(`${out}/report.html`);
    assertEquals(await runScript("compare", ["--report", out]), {
      code: 0,
      stdout: ["Written", ...["report.html", "results.md", "results.json"].map((file) => `    ${out}/${file}`), ""]
        .join("\n"),
      stderr: "",
    });
    assert((await Deno.stat(`${out}/report.html`)).isFile);
  }));

gpuTest(
  "compare trains two variants with two seeds; interrupted in the middle, it ends with the same bits",
  () =>
    inFolder(async (folder) => {
      const flags = {
        ...MODEL,
        routers: "dense,switch:experts=3",
        data: `${folder}/text.txt`,
        steps: "120",
        seeds: "2",
        "checkpoint-every": "10",
      };
      const whole = await runScript("compare", commandLine({ ...flags, out: `${folder}/whole`, quiet: true }));
      assertEquals([whole.code, whole.stderr], [0, ""]);
      assertMatch(whole.stdout, /\[4\/4\] switch-experts-3, seed 1: \d\.\d{3} bits per byte after 120 steps/);

      const out = `${folder}/halves`;
      const command = commandLine({ ...flags, out, json: true });
      const { process, lines } = await startScript("compare", command);
      const events: ComparisonEvent[] = [];
      let isInterrupted = false;
      for await (const line of lines) {
        events.push(JSON.parse(line));
        const last = events.at(-1)!;
        // A second one would not wait for the report.
        if (last.event === "metrics" && last.variant !== "dense" && !isInterrupted) {
          isInterrupted = true;
          process.kill("SIGINT");
        }
      }
      assertEquals((await process.status).code, 130);
      assertEquals(events.at(-1)!.event, "report");
      const interrupted = events.find(({ event }) => event === "interrupted");
      assert(interrupted !== undefined && "step" in interrupted && interrupted.step < 120);
      assertEquals(await readRecord(`${out}/switch-experts-3/seed-0`), undefined);

      const rest = await runScript("compare", command);
      assertEquals([rest.code, rest.stderr], [0, ""]);
      for (const run of ["dense/seed-0", "switch-experts-3/seed-0", "switch-experts-3/seed-1"]) {
        const [, model] = await stateOf(`${out}/${run}`);
        assertEquals(model, (await stateOf(`${folder}/whole/${run}`))[1]);
      }
      const { runs } = JSON.parse(await Deno.readTextFile(`${out}/results.json`));
      assertEquals(runs.length, 4);
    }),
);
