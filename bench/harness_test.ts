import { assert, assertEquals, assertThrows } from "@std/assert";
import { tensor } from "../mod.ts";
import { withOracle } from "../tests/support/runtimes.ts";
import { formatMs, formatNumber, formatRates, formatUnits, formatWork } from "./format.ts";
import { forcedChoices } from "./forced_router.ts";
import { callsPerTurn, type Entrant, entrantOf, median, timeInTurns, timeRatio } from "./harness.ts";
import { expectDefinition, type HostExperts } from "./host_experts.ts";
import { ceilingOf } from "./report.ts";
import { type BenchResult, type BenchRun, compareRuns, readRun, resultPath, writeRun } from "./results.ts";
import { expectClose, WrongResultError } from "./verify.ts";

const WORK = { flop: 2e9, bytes: 1e9 };
const TIMING = { rounds: 3, turnMs: 5 };

function busyEntrant(name: string, ms: number, order: string[]): Entrant {
  return entrantOf({
    name,
    work: WORK,
    run() {
      order.push(name);
      for (const start = performance.now(); performance.now() - start < ms;);
      return tensor([1]);
    },
  }, { waitMs: 0 });
}

Deno.test("callsPerTurn() makes one call where one fills the turn, and does not count the first", async () => {
  const order: string[] = [];
  assertEquals(await withOracle(() => callsPerTurn(busyEntrant("a", 6, order), TIMING)), 1);
  assertEquals(order.length, 2);
});

Deno.test("timeInTurns() lets another contender start each round and counts every call", async () => {
  const order: string[] = [];
  const timings = await withOracle(() => timeInTurns([busyEntrant("a", 6, order), busyEntrant("b", 6, order)], TIMING));
  assertEquals(timings.map(({ contender, calls, callMs }) => [contender, calls, callMs.length]), [
    ["a", 1, 3],
    ["b", 1, 3],
  ]);
  assertEquals(order.slice(-6), ["a", "b", "b", "a", "a", "b"]);
});

Deno.test("timeRatio() compares within rounds and takes the median", () => {
  const timing = { calls: 1, hostMs: [], allocations: 0 };
  const slow = { ...timing, contender: "slow", callMs: [2, 40, 3] };
  const fast = { ...timing, contender: "fast", callMs: [1, 10, 1] };
  assertEquals(timeRatio(slow, fast), 3);
  assertEquals(median([4, 1, 2, 3]), 2.5);
});

Deno.test("expectClose() lets rounding pass and names the worst of what is wrong", () => {
  expectClose("sum", [1.000001, 2], [1, 2], 4);
  assertThrows(() => expectClose("sum", [1, 2.01], [1, 2], 4), WrongResultError, "sum: element 1 is 2.01, expected 2");
  assertThrows(() => expectClose("sum", [1, NaN], [1, 2], 4), WrongResultError, "element 1 is NaN");
  assertThrows(() => expectClose("sum", [1], [1, 2], 4), WrongResultError, "1 elements, expected 2");
});

Deno.test("ceilingOf() takes the ceiling that binds", () => {
  const ceilings = { copyGBps: 10, matmulGflops: 40, matmulSize: 512, waitMs: 11 };
  assertEquals(ceilingOf(WORK, 200, ceilings), { of: "copy", share: 0.5 });
  assertEquals(ceilingOf({ flop: 8e9, bytes: 1e9 }, 400, ceilings), { of: "matmul", share: 0.5 });
});

Deno.test("formats carry units and about three digits", () => {
  assertEquals([0, 0.0123, 1.234, 12.34, 123.4].map(formatNumber), ["0", "0.012", "1.23", "12.3", "123"]);
  assertEquals([formatUnits(134217728, "B"), formatUnits(999, "FLOP")], ["134 MB", "999 FLOP"]);
  assertEquals([1500, 12.34, 0.05].map(formatMs), ["1.50 s", "12.3 ms", "50.0 us"]);
  assertEquals(formatWork({ ...WORK, items: { name: "tokens", count: 2048 } }), "2.00 GFLOP, 1.00 GB, 2048 tokens");
  assertEquals(
    formatRates({ flop: 0, bytes: 1e9, items: { name: "tokens", count: 50 } }, 100),
    "10.0 GB/s, 500 tokens/s",
  );
});

Deno.test("forcedChoices() deals evenly, to different experts of a token", () => {
  const choices = forcedChoices({ tokens: 12, experts: 4, k: 2 });
  const counts = [0, 0, 0, 0];
  for (const expert of choices) counts[expert]!++;
  assertEquals(counts, [6, 6, 6, 6]);
  for (const load of ["uniform", "zipf", "one"] as const) {
    const dealt = forcedChoices({ tokens: 50, experts: 3, k: 2, load });
    for (let token = 0; token < 50; token++) {
      assert(dealt[2 * token] !== dealt[2 * token + 1], `${load}, token ${token}`);
    }
  }
  assertEquals(new Set(forcedChoices({ tokens: 9, experts: 5, k: 1, load: "one" })), new Set([0]));
});

Deno.test("expectDefinition() rejects a wrong gradient", () => {
  const experts: HostExperts = {
    width: 1,
    inner: 1,
    k: 1,
    hidden: new Float64Array([2, 5]),
    up: new Float64Array([10]),
    down: new Float64Array([3]),
    choices: [0, 0],
    weight: [0.5, 1],
  };
  // gelu(20) is 20 and its slope 1.
  const out = new Float32Array([30, 0]);
  const grads = {
    hidden: new Float32Array([15, 0]),
    weight: new Float32Array([60, 0]),
    up: new Float32Array([3]),
    down: new Float32Array([10]),
  };
  const probe = { checked: [0], cotangent: new Float32Array([1, 0]) };
  expectDefinition("layer", experts, { out, grads }, probe);
  const wrong = { ...grads, up: new Float32Array([3.1]) };
  assertThrows(
    () => expectDefinition("layer", experts, { out, grads: wrong }, probe),
    WrongResultError,
    "layer, gradient of up: element 0",
  );
});

function result(name: string, medianMs: number): BenchResult {
  return {
    name,
    shapes: "f32[1]",
    ...WORK,
    medianMs,
    leastMs: 0.9 * medianMs,
    mostMs: 1.1 * medianMs,
    calls: 3,
    rounds: 7,
    ceiling: { of: "copy", share: 0.5 },
    allocations: 0,
  };
}

function run(...results: readonly BenchResult[]): BenchRun {
  return {
    adapter: "Some GPU (v1)",
    software: false,
    runtime: "Deno",
    date: "2026-01-02T03:04:05.678Z",
    command: "deno task bench",
    ceilings: { copyGBps: 10, matmulGflops: 40, matmulSize: 512, waitMs: 11 },
    results,
    failures: [],
  };
}

Deno.test("compareRuns() puts the worst first and says what has no counterpart", () => {
  const before = run(result("a", 10), result("b", 10), result("gone", 1));
  const now = run(result("a", 5), result("b", 11), result("new", 1));
  assertEquals(compareRuns(now, before).split("\n"), [
    "Against 2026-01-02 (deno task bench), worst first",
    "   1.10x  b  10.0 ms -> 11.0 ms  (ranges overlap)",
    "   0.50x  a  10.0 ms -> 5.00 ms",
    "  1 not measured then, 1 not measured now",
  ]);
});

Deno.test("writeRun() writes what readRun() reads, in a folder named by adapter and date", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const written = run(result("a", 10), result("b", 20));
    const path = resultPath(`${folder}/results/`, written);
    assertEquals(path, `${folder}/results/some-gpu-v1_2026-01-02.json`);
    await writeRun(path, written);
    assertEquals(await readRun(path), written);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("readRun() says what is wrong with a file", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(path, "{}");
    const error = await readRun(path).catch((error) => error);
    assertEquals(error.message.split("\n").slice(0, 1), [
      "Cannot compare: no results of an earlier run could be read",
    ]);
  } finally {
    await Deno.remove(path);
  }
});
