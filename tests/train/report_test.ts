import { assert, assertEquals } from "@std/assert";
import { resolveConfig } from "../../src/train/config.ts";
import type { MetricsRow } from "../../src/train/metrics.ts";
import { renderReport, type ReportInput } from "../../src/train/report.ts";
import { findBrowser, openPage } from "./support/browser.ts";

const BROWSER = await findBrowser();

const ROWS: readonly MetricsRow[] = Array.from({ length: 12 }, (_, i) => ({
  step: (i + 1) * 10,
  trainBitsPerByte: 2 + 6 / (i + 1),
  load: [[0.5, 0.3, 0.2], [0.9, 0.1, 0]],
  dropped: [0, 0.125],
  ...(i % 4 === 3 ? { validationBitsPerByte: 2.1 + 6 / (i + 1) } : {}),
}));

function inputOf(changes: Partial<ReportInput> = {}): ReportInput {
  return {
    config: resolveConfig({ adapter: "software", flags: { experts: "3", layers: "2" } }),
    rows: ROWS,
    baselines: [{ name: "gzip -9", bitsPerByte: 2.71 }],
    sample: { prompt: "The ", text: "state of the Union" },
    adapter: "llvmpipe (software)",
    summary: {
      steps: 120,
      validationBitsPerByte: 2.6,
      bytesSeen: 245_760,
      seconds: 61.4,
      parameters: 1_930_000,
      activeParameters: 540_000,
      plannedBytes: 312_000_000,
      corpus: "sotu, 12 of 233 documents held out whole",
    },
    ...changes,
  };
}

Deno.test("renderReport() shows the result, the adapter, the configuration and the baseline", () => {
  const page = renderReport(inputOf());
  for (
    const part of [
      "2.600",
      "4.1 % below gzip -9 (2.71)",
      "llvmpipe (software)",
      "246\u202fkB",
      "1 min 1 s",
      "expert-width",
    ]
  ) {
    assert(page.includes(part), part);
  }
  assert(page.includes(">gzip -9  2.71</text>"));
});

Deno.test("renderReport() draws one loss chart and one load picture a layer", () => {
  const page = renderReport(inputOf());
  assertEquals(page.match(/<svg class="loss"/g)?.length, 1);
  assertEquals(page.match(/<svg class="load"/g)?.length, 2);
  assert(page.includes('stroke="var(--validation)"') && page.includes('stroke="var(--training)"'));
  // Expert 2 of layer 1 has no load at all, expert 0 has 2.7 times an even share.
  assert(page.includes("at the end 0.00× to 2.70×, 12.5 % dropped"));
  assert(page.includes("fill:var(--load-0)") && page.includes("fill:var(--load-8)") === false);
});

Deno.test("renderReport() gives the same page twice, and refers to nothing outside", () => {
  const page = renderReport(inputOf());
  assertEquals(renderReport(inputOf()), page);
  const addresses = [...page.matchAll(/(?:https?:)?\/\/[\w.]+[^"\s]*/g)].map(([address]) => address);
  assertEquals(new Set(addresses), new Set(["http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"]));
  assertEquals(/<script|\ssrc=|url\((?!#)|@import/.test(page), false);
});

Deno.test("renderReport() escapes every text that it is given", () => {
  const evil = `<img src=x onerror=alert(1)> " ' & \0`;
  const { summary } = inputOf();
  const page = renderReport(inputOf({
    config: resolveConfig({ adapter: "software", flags: { data: evil } }),
    sample: { prompt: evil, text: evil },
    adapter: evil,
    summary: { ...summary, corpus: evil },
    baselines: [{ name: evil, bitsPerByte: 2.7 }],
  }));
  assertEquals(page.includes("<img"), false);
  assertEquals(page.includes("\0"), false);
  assert(page.includes("&lt;img src=x onerror=alert(1)&gt; &quot; &#39; &amp; \u2400"));
});

Deno.test("renderReport() takes a run without measurements, without experts, and with values that are not finite", () => {
  const { summary } = inputOf();
  const empty = renderReport(
    inputOf({ rows: [], baselines: [], summary: { ...summary, validationBitsPerByte: NaN, seconds: 0 } }),
  );
  assert(empty.includes("Nothing was measured."));
  const dense = renderReport(inputOf({
    config: resolveConfig({ adapter: "software", flags: { router: "dense" } }),
    rows: [{ step: 1, trainBitsPerByte: NaN }, { step: 2, trainBitsPerByte: 8, validationBitsPerByte: NaN }],
  }));
  assert(dense.includes("tiny, no experts"));
  assertEquals(dense.includes("Expert load over time"), false);
  for (const page of [empty, dense]) assertEquals(/NaN|undefined|Infinity/.test(page), false);
});

Deno.test("renderReport() stays below two megabytes for a long run with many experts", () => {
  const uneven = (seed: number): number => 1 + 0.9 * Math.sin(seed * seed);
  const rows = Array.from({ length: 1000 }, (_, i) => ({
    step: i + 1,
    trainBitsPerByte: 2 + uneven(i) / 9,
    load: Array.from(
      { length: 8 },
      (_, layer) => Array.from({ length: 128 }, (_, expert) => uneven(i * 31 + layer * 7 + expert) / 128),
    ),
  }));
  assert(renderReport(inputOf({ rows })).length < 2e6);
});

Deno.test({
  name: "the report opens in a headless browser without errors and shows its curves",
  ignore: BROWSER === undefined,
  async fn() {
    const { dom, console } = await openPage(BROWSER!, renderReport(inputOf()));
    assertEquals(console, []);
    assert(dom.includes("</html>"));
    const chart = /<svg class="loss"[\s\S]*?<\/svg>/.exec(dom)![0];
    for (const color of ["--validation", "--training"]) {
      const curve = new RegExp(`<path d="M([^"]+)"[^>]*stroke="var\\(${color}\\)"`).exec(chart);
      assert((curve?.[1]?.length ?? 0) > 20, `a curve in ${color}`);
    }
    assertEquals(dom.match(/<svg class="load"/g)?.length, 2);
  },
});

Deno.test({
  name: "openPage() sees what a browser complains about, so that no complaints mean something",
  ignore: BROWSER === undefined,
  async fn() {
    const broken = renderReport(inputOf()).replace("<main>", '<main><img src="https://example.org/x.png">');
    const { console } = await openPage(BROWSER!, broken);
    assert(console.some((line) => line.includes("Content Security Policy")), console.join("\n"));
  },
});
