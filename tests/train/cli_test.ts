import { assert, assertEquals, assertMatch } from "@std/assert";
import type { RunEvent } from "../../src/train/events.ts";
import { readCheckpoint } from "../../src/train/checkpoint.ts";
import { gpuTest } from "../support/runtimes.ts";
import { commandLine, type Flags, inFolder, runScript, SMALL_FLAGS, startScript, stateOf } from "./support/runs.ts";

gpuTest("main.ts explains its flags, and rejects what is wrong with them without a stack", async () => {
  const help = await runScript("main", ["--help"]);
  assertEquals(help.code, 0);
  assertMatch(help.stdout, /deno task train \[options\][^]*--router X +how tokens find experts/);
  assertEquals(await runScript("main", ["--preset", "huge", "--stpes", "3", "now"]), {
    code: 2,
    stdout: "",
    stderr: "Cannot start the run: 3 options are invalid\n" +
      "  now               unexpected argument\n" +
      "  --stpes   3       unknown option; did you mean --steps?\n" +
      '  --preset  "huge"  must be one of tiny, small, base\n',
  });
});

gpuTest("main.ts says what is wrong with a file, a folder and a text", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/config.json`, '{ "widht": 64 }');
    await Deno.writeTextFile(`${folder}/empty.txt`, "");
    const cases: readonly (readonly [flags: Flags, code: number, firstLines: string])[] = [
      [
        { config: `${folder}/config.json` },
        2,
        "Cannot start the run: 1 option is invalid\n  widht  64  unknown option; did you mean width?\n",
      ],
      [{ resume: `${folder}/none` }, 1, `Cannot use ${folder}/none as a run: no such file\n`],
      [
        { data: `${folder}/empty.txt`, out: `${folder}/run` },
        1,
        `Cannot train on ${folder}/empty.txt: the file is empty\n`,
      ],
    ];
    for (const [flags, code, firstLines] of cases) {
      const ended = await runScript("main", commandLine(flags));
      assertEquals([ended.code, ended.stdout, ended.stderr.slice(0, firstLines.length)], [code, "", firstLines]);
      assert(!ended.stderr.includes("    at "));
    }
  }));

gpuTest(
  "main.ts --json writes one object a line, and sample.ts and eval.ts use what it left",
  () =>
    inFolder(async (folder) => {
      const out = `${folder}/run`;
      const ended = await runScript(
        "main",
        commandLine({ ...SMALL_FLAGS, data: `${folder}/text.txt`, out, json: true }),
      );
      assertEquals([ended.code, ended.stderr], [0, ""]);
      const events = ended.stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as RunEvent);
      assertEquals([events[0]!.event, events.at(-1)!.event], ["start", "end"]);

      const sampled = await runScript("sample", ["--from", out, "--prompt", "the y", "--tokens", "20", "--seed", "1"]);
      assertEquals([sampled.code, sampled.stderr], [0, ""]);
      assert(sampled.stdout.startsWith("the y") && sampled.stdout.endsWith("\n"));
      assertEquals(
        await runScript("sample", ["--from", out, "--prompt", "the y", "--tokens", "20", "--seed", "1"]),
        sampled,
      );

      const measured = await runScript("eval", ["--from", out]);
      assertEquals([measured.code, measured.stderr], [0, ""]);
      assertMatch(
        measured.stdout,
        /^Bits per byte on \d+ bytes of held-out text\n {2}this model {5}\d\.\d{3} {2}after 24 steps\n {2}order-3 bytes {2}\d\.\d{3}\n {2}gzip -9 {8}\d\.\d{3}\n$/,
      );
    }),
);

gpuTest("sample.ts and eval.ts reject what is wrong with their flags", async () => {
  assertEquals(await runScript("sample", ["--form", "x", "--tokens", "many", "--temperature=-1"]), {
    code: 2,
    stdout: "",
    stderr: "Cannot generate text: 4 options are invalid\n" +
      '  --form         "x"     unknown option; did you mean --from?\n' +
      "  --from                 is required: the folder of a run\n" +
      '  --tokens       "many"  must be an integer in 1..1000000\n' +
      "  --temperature  -1      must be a number in 0..100\n",
  });
  const missing = await runScript("eval", ["--from", "no/such/run"]);
  assertEquals([missing.code, missing.stderr.split("\n")[0]], [1, "Cannot use no/such/run as a run: no such file"]);
});

gpuTest("doctor.ts describes this machine", async () => {
  const { code, stdout } = await runScript("doctor", []);
  assertEquals(code, 0);
  assertMatch(stdout, /^Runtime +Deno \d[^]*\nAdapter +\S[^]*\nComputes +yes\nFeatures [^]*maxBufferSize/);
});

gpuTest(
  "SIGINT makes main.ts save and end with status 130, and the run goes on from there",
  () =>
    inFolder(async (folder) => {
      const out = `${folder}/run`;
      const flags = { ...SMALL_FLAGS, data: `${folder}/text.txt`, out, steps: "100000", "checkpoint-every": "100000" };
      const { process, lines } = await startScript("main", commandLine({ ...flags, json: true }));
      const events: RunEvent[] = [];
      for await (const line of lines) {
        events.push(JSON.parse(line));
        if (events.length === 3) process.kill("SIGINT");
      }
      assertEquals((await process.status).code, 130);
      const last = events.at(-1)!;
      const { step } = await readCheckpoint(out);
      assertEquals(last, { event: "interrupted", step, out });
      const resumed = await runScript("main", commandLine({ resume: out, steps: String(step + 3), quiet: true }));
      assertEquals(resumed.code, 0);
      assertEquals((await readCheckpoint(out)).step, step + 3);
    }),
);

gpuTest(
  "SIGKILL at any moment leaves a folder from which main.ts resumes to the same bits",
  () =>
    inFolder(async (folder) => {
      const flags = { ...SMALL_FLAGS, data: `${folder}/text.txt`, steps: "120", "checkpoint-every": "1", quiet: true };
      assertEquals((await runScript("main", commandLine({ ...flags, out: `${folder}/whole` }))).code, 0);

      const out = `${folder}/killed`;
      let args = commandLine({ ...flags, out, json: true });
      for (let killed = 0; killed < 5; killed++) {
        const { process, lines } = await startScript("main", args);
        const patience = Math.random() * 500;
        let timer: ReturnType<typeof setTimeout> | undefined;
        for await (const line of lines) {
          // From the start event on there is something to resume.
          if (line.startsWith('{"event":"start"')) timer = setTimeout(() => process.kill("SIGKILL"), patience);
        }
        // A run that was quick enough to end needs no killing.
        clearTimeout(timer);
        await process.status;
        args = commandLine({ resume: out, json: true });
      }
      const { code, stderr } = await runScript("main", args);
      assertEquals([code, stderr], [0, ""]);
      assertEquals(await stateOf(out), await stateOf(`${folder}/whole`));
    }),
);
