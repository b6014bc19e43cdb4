import { assert, assertEquals, assertMatch } from "@std/assert";
import { runComparison } from "../../../src/train/compare/compare.ts";
import { writeComparisonReport } from "../../../src/train/compare/write_report.ts";
import { findBrowser, openPage } from "../support/browser.ts";
import { fakeRuns, inFreshFolder, listen, requestOf } from "./support/fake_runs.ts";

const BROWSER = await findBrowser();
const DATE = new Date("2026-02-03T04:05:06Z");

/** Trains fake runs of which those of `relu` fail, and returns page, Markdown and data. */
async function reportOf(
  routers: string,
): Promise<{ readonly page: string; readonly markdown: string; readonly json: string }> {
  let files = { page: "", markdown: "", json: "" };
  await inFreshFolder(async (folder) => {
    const out = `${folder}/<out> & more`;
    const { execute } = fakeRuns(({ router }) => router === "relu" ? "failed" : "over");
    const { onEvent } = listen();
    const { signal } = new AbortController();
    await runComparison(requestOf(routers), {
      out,
      command: "deno task compare --out '<out>'",
      execute,
      onEvent,
      signal,
    });
    const [page, markdown, json] = await Promise.all(
      (await writeComparisonReport(out, DATE)).map((path) => Deno.readTextFile(path)),
    );
    files = { page: page!, markdown: markdown!, json: json! };
  });
  return files;
}

const ROUTERS = "dense,switch,wide=hash:experts=3,relu";

Deno.test("results.md has a row for each variant, best first, with spread and paired difference", async () => {
  const { markdown } = await reportOf(ROUTERS);
  const rows = markdown.split("\n").filter((line) => line.startsWith("| ")).slice(2);
  assertEquals(rows.map((row) => row.split(" | ").slice(0, 4).map((cell) => cell.replace("| ", ""))), [
    ["wide", "2.090 ± 0.071", "2", "−0.010 ± 0.000"],
    ["dense", "2.100 ± 0.071", "2", "–"],
    ["switch", "2.110 ± 0.071", "2", "+0.010 ± 0.000"],
  ]);
  // Speed, drops, fullest expert, variation: dense has no experts.
  assertEquals(rows.map((row) => row.split(" | ").slice(10).join(" ")), [
    "200 25.0 % 2.25× 0.88 |",
    "200 – – – |",
    "200 25.0 % 2.25× 0.88 |",
  ]);
  for (
    const part of ["failed: relu, seed 1: a reason", "fake adapter", "2026-02-03", "--out '<out>'", "20 steps a run"]
  ) {
    assert(markdown.includes(part), part);
  }
});

Deno.test("results.json holds every run", async () => {
  const { runs, missing, summary, reference, variants } = JSON.parse((await reportOf(ROUTERS)).json);
  assertEquals(runs.length, 6);
  assertEquals(runs[3].validationBitsPerByte, 2.16);
  assertEquals(runs[3].curve, [[640, 3.16], [1280, 2.16]]);
  assertEquals(missing.map(({ seed, reason }: { seed: number; reason: string }) => [seed, reason]), [
    [0, "a reason"],
    [1, "a reason"],
  ]);
  assertEquals([summary.length, reference, variants[1].options.router], [3, "dense", "switch"]);
});

Deno.test("report.html shows table, curves and loads, and needs nothing but itself", async () => {
  const { page } = await reportOf(ROUTERS);
  assertEquals(page.match(/<svg class="dots"/g)?.length, 1);
  assertEquals(page.match(/<svg class="series"/g)?.length, 1);
  assertEquals(page.match(/<svg class="load"/g)?.length, 4);
  for (const part of ["2.090 ± 0.071", "−0.010 ± 0.000", "failed: a reason", "fake adapter", "&lt;out&gt;"]) {
    assert(page.includes(part), part);
  }
  assert(!/<script|<link|@import|url\((?!#)|src=|href=/.test(page));
  assertMatch(page, /Content-Security-Policy" content="default-src 'none'/);
});

Deno.test("report.html splits many variants into charts by group", async () => {
  const names = Array.from({ length: 8 }, (_, index) => `s${index}=switch`);
  const { page } = await reportOf(["dense", ...names, "hash"].join(","));
  assertEquals(page.match(/<svg class="series"/g)?.length, 3);
  for (const part of ["switch, continued", ">hash<"]) assert(page.includes(part), part);
});

Deno.test({
  name: "report.html opens in a browser without a complaint",
  ignore: BROWSER === undefined,
  fn: async () => {
    const { dom, console } = await openPage(BROWSER!, (await reportOf(ROUTERS)).page);
    assertEquals(console, []);
    assertEquals(dom.match(/<svg class="load"/g)?.length, 4);
  },
});
