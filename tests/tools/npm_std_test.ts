/**
 * Holds the npm stand-ins for `@std/*` to deno.json, and `parseArgs`, whichever is in use, to what the scripts rely on.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";
import { ProgressBar } from "@std/cli/unstable-progress-bar";
import { expect } from "@std/expect";
import configuration from "../../deno.json" with { type: "json" };
import importMap from "../../tools/npm_std/import_map.json" with { type: "json" };

Deno.test("import_map.json replaces deno.json without a gap", () => {
  const replaced: Readonly<Record<string, string>> = importMap.imports;
  for (const [name, target] of Object.entries(configuration.imports)) {
    if (target.startsWith("npm:")) assertEquals(replaced[name], target);
    else assert(Object.keys(replaced).some((key) => key === name || key.startsWith(`${name}/`)), `nothing for ${name}`);
  }
  for (const [path, file] of Object.entries(configuration.exports)) {
    assertEquals(replaced[configuration.name + path.slice(1)], `../../${file.slice(2)}`);
  }
});

Deno.test("parseArgs() reads texts, switches, lists and defaults", () => {
  const args = parseArgs(["--data", "7", "--verbose", "--set", "a=1", "--set", "b=2", "--no-report", "rest"], {
    string: ["data", "out", "set"],
    boolean: ["verbose", "report", "help"],
    collect: ["set"],
    negatable: ["report"],
    default: { report: true, out: "runs" },
    alias: { help: "h" },
  });
  const data: string | undefined = args.data;
  const set: readonly string[] = args.set;
  const verbose: boolean = args.verbose;
  const out: string = args.out;
  assertEquals([data, verbose, args.report, args.help, out], ["7", true, false, false, "runs"]);
  assertEquals(set, ["a=1", "b=2"]);
  assertEquals(args._, ["rest"]);
});

Deno.test("parseArgs() takes the last of a repeated option and an empty list for one not given", () => {
  const args = parseArgs(["--steps", "1", "--steps", "2"], { string: ["steps", "set"], collect: ["set"] });
  assertEquals(args.steps, "2");
  assertEquals(args.set, []);
});

Deno.test("parseArgs() reports what is not declared, by its name", () => {
  const reported: (string | undefined)[] = [];
  parseArgs(["--stepz", "1", "--no-report", "--steps=3", "x"], {
    string: ["steps"],
    unknown: (arg, key) => {
      reported.push(arg, key);
      return false;
    },
  });
  assertEquals(reported, ["--stepz", "stepz", "--no-report", "no-report", "x", undefined]);
});

Deno.test("assertThrows() and assertRejects() check class and message and hand the error over", async () => {
  const thrown = assertThrows(
    () => {
      throw new RangeError("axis 3");
    },
    RangeError,
    "axis",
  );
  assertEquals(thrown.message, "axis 3");
  assertThrows(() =>
    assertThrows(() => {
      throw new Error("axis");
    }, RangeError)
  );
  assertThrows(() => assertThrows(() => 0));
  const rejected = await assertRejects(() => Promise.reject(new TypeError("lost")), TypeError, "lost");
  assertEquals(rejected.message, "lost");
  await assertRejects(() => assertRejects(() => Promise.resolve()));
});

Deno.test("assertEquals() compares typed arrays and nested objects by value", () => {
  assertEquals({ shape: [2, 3], data: new Float32Array([1, 2]) }, { shape: [2, 3], data: new Float32Array([1, 2]) });
  assertThrows(() => assertEquals(new Float32Array([1, 2]), new Float32Array([1, 3])));
  expect([1, 2, 3]).toHaveLength(3);
});

Deno.test("ProgressBar draws until it is stopped", async () => {
  const bar = new ProgressBar({ max: 3, clear: true, formatter: ({ value, max }) => `${value}/${max}` });
  bar.value += 2;
  await bar.stop();
  assertEquals(bar.value, 2);
});
