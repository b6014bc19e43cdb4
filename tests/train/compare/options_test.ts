import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError } from "../../../mod.ts";
import { loadCompareOptions, resolveCompareOptions } from "../../../src/train/compare/options.ts";
import { planComparison } from "../../../src/train/compare/plan.ts";

const FOUNDING = new URL("../../../bench/comparisons/founding.json", import.meta.url).pathname;

Deno.test("resolveCompareOptions() has defaults for all but variants and budget", () => {
  const options = resolveCompareOptions({ _: [], routers: "dense", steps: "5", width: "32", quiet: false });
  assertEquals(options, {
    request: {
      title: null,
      variants: [{ name: "dense", options: { router: "dense" } }],
      common: { width: 32 },
      budget: { kind: "steps", amount: 5 },
      match: "compute",
      seeds: 3,
    },
    out: "runs/comparison",
    quiet: false,
    json: false,
  });
});

Deno.test("resolveCompareOptions() lets flags override a file, and one budget another", () => {
  const values = {
    title: "A title",
    tokens: 1000,
    seeds: 5,
    width: 64,
    expertWidth: 32,
    variants: [
      { name: "a", options: { router: "dense" } },
      { name: "b", note: "a note", options: { router: "switch", experts: 2 } },
    ],
  };
  const { request } = resolveCompareOptions({ seconds: "9", width: "32", only: "b" }, { path: "file.json", values });
  assertEquals(request, {
    title: "A title",
    variants: [{ name: "b", note: "a note", options: { router: "switch", experts: 2 } }],
    common: { width: 32, expertWidth: 32 },
    budget: { kind: "seconds", amount: 9 },
    match: "compute",
    seeds: 5,
  });
});

Deno.test("resolveCompareOptions() tells all that is wrong at once, that of variants included", () => {
  const { message } = assertThrows(
    () =>
      resolveCompareOptions({
        _: ["now"],
        routers: "dense,swtich",
        steps: "3",
        tokens: "4",
        seeds: "0",
        match: "cmopute",
        widht: "9",
      }),
    ConfigError,
  );
  const lines = message.split("\n").slice(1).map((line) => line.trim().replaceAll(/ {2,}/g, " | "));
  assertEquals(lines.map((line) => line.split(" | ")[0]), [
    "now",
    "--widht",
    "--seeds",
    "--match",
    "--steps, --tokens",
    "swtich: router",
  ]);
  assert(lines[3]!.endsWith("did you mean compute?") && lines[5]!.endsWith("did you mean switch?"));
});

Deno.test("resolveCompareOptions() needs variants and a budget, and knows where they are at odds", () => {
  const cases: readonly (readonly [Record<string, unknown>, Record<string, unknown> | undefined, string])[] = [
    [{ routers: "dense" }, undefined, "--steps    is required"],
    [{ steps: "1" }, undefined, "--routers    is required"],
    [{ steps: "1", routers: "dense", only: "dense" }, undefined, "picks variants of --config"],
    [{ steps: "1", routers: "dense" }, { variants: [] }, "use --only"],
    [{ steps: "1" }, { variants: [{ nmae: "x" }] }, "variants.0"],
    [{ steps: "1" }, { variants: [], titel: "x" }, "--titel"],
    [
      { steps: "1", only: "densse" },
      { variants: [{ name: "dense", options: { router: "dense" } }] },
      "did you mean dense?",
    ],
    [{ report: "runs/x", steps: "1" }, undefined, "has no meaning with --report"],
  ];
  for (const [flags, values, part] of cases) {
    assertThrows(
      () => resolveCompareOptions(flags, values === undefined ? undefined : { path: "file.json", values }),
      ConfigError,
      part,
    );
  }
});

Deno.test("resolveCompareOptions() takes a folder to report on", () => {
  assertEquals(resolveCompareOptions({ _: [], report: "runs/x", json: true, quiet: false }), {
    request: null,
    out: "runs/x",
    quiet: false,
    json: true,
  });
});

Deno.test("loadCompareOptions() says what is wrong with a file", async () => {
  const file = await Deno.makeTempFile();
  try {
    for (
      const [text, part] of [["{", "it is not JSON"], ["[]", "one JSON object"], ['{"a":1,"a":2}', 'the key "a" twice']]
    ) {
      await Deno.writeTextFile(file, text!);
      await assertRejects(() => loadCompareOptions({ config: file }), ConfigError, part!);
    }
  } finally {
    await Deno.remove(file);
  }
  await assertRejects(() => loadCompareOptions({ config: "no/such.json" }), ConfigError, "no such file");
});

Deno.test("the founding comparison can be planned as it is", async () => {
  const { request } = await loadCompareOptions({ config: FOUNDING });
  const { variants } = planComparison(request!);
  assertEquals(variants.length, request!.variants.length);
  assertEquals(variants.filter(({ needs }) => needs === "dense").map(({ name }) => name), [
    "hash-clustered",
    "hash-dispersed",
  ]);
});
