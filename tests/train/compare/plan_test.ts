import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../../mod.ts";
import { forwardFlop, stepsOf, trainingFlop } from "../../../src/train/compare/budget.ts";
import type { ComparisonRequest } from "../../../src/train/compare/comparison.ts";
import { matchWidth, parametersOf } from "../../../src/train/compare/matching.ts";
import { planComparison } from "../../../src/train/compare/plan.ts";
import { requestOf as smallRequest } from "./support/fake_runs.ts";

function requestOf(routers: string, changes: Partial<ComparisonRequest> = {}): ComparisonRequest {
  const small = smallRequest(routers);
  return { ...small, common: { ...small.common, experts: 4 }, budget: { kind: "steps", amount: 100 }, ...changes };
}

Deno.test("stepsOf() divides bytes by batches, and steps by passes at equal compute only", () => {
  const options = { budget: { kind: "tokens", amount: 6400 }, match: "compute", passes: 1, batchBytes: 64 } as const;
  assertEquals(stepsOf(options), 100);
  assertEquals(stepsOf({ ...options, passes: 2 }), 50);
  assertEquals(stepsOf({ ...options, passes: 2, match: "tokens" }), 100);
  assertEquals(stepsOf({ ...options, budget: { kind: "steps", amount: 7 }, passes: 2, match: "params" }), 7);
  assertEquals(stepsOf({ ...options, budget: { kind: "tokens", amount: 1 } }), 1);
  assertEquals(stepsOf({ ...options, budget: { kind: "seconds", amount: 9 } }), null);
});

Deno.test("at equal compute two passes over half the text cost what one pass costs", () => {
  const forward = forwardFlop({ activeParameters: 1000, width: 16, layers: 2, seq: 16 });
  assertEquals(forward, 2 * 1000 + 2 * 16 * 16 * 2);
  assertEquals(trainingFlop(forward, { bytes: 50, passes: 2 }), trainingFlop(forward, { bytes: 100, passes: 1 }));
});

Deno.test("matchWidth() finds the nearest width, also beyond the ends", () => {
  const count = (width: number): number => 100 + 7 * width;
  for (const [target, expertWidth] of [[100 + 7 * 50, 50], [100 + 7 * 50 + 3, 50], [100 + 7 * 50 + 4, 51], [5, 1]]) {
    assertEquals(matchWidth(target!, count), { expertWidth: expertWidth!, parameters: count(expertWidth!) });
  }
  assertEquals(matchWidth(1e9, count).expertWidth, 65_536);
});

Deno.test("planComparison() gives every variant the width that a byte passes through", () => {
  const { variants } = planComparison(requestOf("dense,switch,topk:topk=2,own=topk:topk=2+expert-width=5"));
  assertEquals(
    variants.map(({ config: { expertWidth, experts, topk, steps } }) => [expertWidth, experts, topk, steps]),
    [
      [24, 1, 1, 100],
      [24, 4, 1, 100],
      [12, 4, 2, 100],
      [5, 4, 2, 100],
    ],
  );
  // Evaluations follow the steps where nothing else is asked for.
  assertEquals(variants[0]!.config.evalEvery, 13);
});

Deno.test("planComparison() halves the steps of two passes, and knows them by their option", () => {
  const routers = "one=thor,two=thor:consistency=0,dense:dropout=0.1+consistency=5";
  const compute = planComparison(requestOf(routers)).variants;
  assertEquals(compute.map(({ passes, config }) => [passes, config.steps]), [[1, 100], [2, 50], [2, 50]]);
  const tokens = planComparison(requestOf(routers, { match: "tokens" })).variants;
  assertEquals(tokens.map(({ config }) => config.steps), [100, 100, 100]);
});

Deno.test("planComparison() matches parameters to those of the first variant", () => {
  const { variants } = planComparison(requestOf("dense,switch,sigma:topk=2", { match: "params" }));
  const [dense, ...others] = variants.map(({ config }) => parametersOf(config).parameters);
  for (const parameters of others) assert(Math.abs(parameters / dense! - 1) < 0.05, `${parameters} against ${dense}`);
  // Four experts and their gate take the room of 24 dense columns.
  assertEquals(variants[1]!.config.expertWidth, 5);
});

Deno.test("planComparison() matches parameters from the narrowest width on that a variant can have", () => {
  const { variants } = planComparison(requestOf("dense,topk-activation:k=7,pkm:k=3", { match: "params" }));
  assertEquals(variants.map(({ config: { expertWidth } }) => expertWidth).slice(0, 2), [24, 24]);
  const counts = variants.map(({ config }) => parametersOf(config).parameters);
  assert(Math.abs(counts[2]! / counts[0]! - 1) < 0.1, `${counts[2]} against ${counts[0]}`);
});

Deno.test("planComparison() shares out a common width exactly, whatever the preset's is", () => {
  const common = { width: 16, heads: 2, layers: 1, experts: 8, expertWidth: 1000 };
  const { variants } = planComparison(requestOf("topk:topk=3", { common }));
  assertEquals(variants[0]!.config.expertWidth, 333);
});

Deno.test("planComparison() makes learned tables depend on the dense variant", () => {
  const { variants } = planComparison(requestOf("hash:table=clustered,hash:table=random"));
  assertEquals(variants.map(({ name, needs, config }) => [name, needs, config.tableFrom]), [
    ["dense", null, null],
    ["hash-table-clustered", "dense", null],
    ["hash-table-random", null, null],
  ]);
});

Deno.test("planComparison() tells all that is wrong with any variant, and once what is wrong with all", () => {
  const request = requestOf("dense,swtich,hash:tabel=x,sw=switch:seq=4,switch:experts=0,wide=sigma:expert-width=9", {
    match: "params",
  });
  const { message } = assertThrows(
    () => planComparison({ ...request, common: { ...request.common, heads: 3 } }),
    ConfigError,
  );
  const lines = message.split("\n");
  assertEquals(lines[0], "Cannot compare: 5 options are invalid");
  assertEquals(lines.filter((line) => line.includes("--heads")).length, 1);
  for (const part of ["did you mean switch?", "did you mean table?", "sw: seq", "switch-experts-0: experts"]) {
    assert(message.includes(part), part);
  }
  const { message: shared } = assertThrows(
    () => planComparison(requestOf("a=dense:steps=9,b=dense:seed=1,c=dense:profile=x")),
    ConfigError,
  );
  for (
    const part of [
      "a: steps    9    is the same for all variants; give it as --steps",
      "b: seed     1    has no meaning for a variant: the comparison settles it for each run",
      'c: profile  "x"  has no meaning for a variant',
    ]
  ) assert(shared.includes(part), shared);
  assertThrows(
    () => planComparison(requestOf("dense,wide=sigma:expert-width=9", { match: "params" })),
    ConfigError,
    "--match params finds it",
  );
});
