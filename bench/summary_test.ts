import { assertEquals } from "@std/assert";
import type { BenchResult } from "./results.ts";
import { formatSummary } from "./summary.ts";
import { verdict } from "./targets.ts";

function result(name: string, medianMs: number, more: Partial<BenchResult> = {}): BenchResult {
  return {
    name,
    shapes: "f32[1]",
    flop: 1,
    bytes: 1,
    medianMs,
    leastMs: medianMs,
    mostMs: medianMs,
    calls: 1,
    rounds: 3,
    ceiling: { of: "copy", share: 0.5 },
    allocations: 0,
    ...more,
  };
}

function peerResult(versus: string, peer: string, medianMs: number, times: number): BenchResult {
  const ratio = { to: versus.slice(versus.indexOf(", ") + 2), times };
  return result(`${versus}, ${peer}`, medianMs, { peer, versus, form: "jit", ratio });
}

Deno.test("verdict() says what was met, what was missed by how much, and what nobody knows", () => {
  assertEquals(
    verdict({ ms: 10, overWebGpu: 6, overAny: 2 }, { ms: 20, overWebGpu: 9, overAny: undefined }),
    "10.0 ms: missed by 2.00x, 6x WebGPU peers: met, 2x any peer: -",
  );
  assertEquals(verdict({ ratio: 1.15 }, { ms: 1, ratio: 1.15 }), "1.15x dense: met");
  assertEquals(verdict({ overAny: 3 }, { ms: 1, overAny: 2 }), "3x any peer: missed by 1.50x");
});

Deno.test("formatSummary() sets the fastest peer against the goal and marks what failed", () => {
  const name = "elementwise_chain 16Mi, fused";
  const results = [
    result(name, 20),
    peerResult(name, "jax-js webgpu", 80, 4),
    peerResult(name, "jax-js wasm", 44, 2.2),
    result("plan without goal or peer, plan", 1),
  ];
  const peerFailures = [{ name, peer: "tfjs webgpu", form: "eager", reason: "wrong result: zeros" }];
  assertEquals(formatSummary({ results, peerFailures }).split("\n").map((line) => line.split(/ {2,}/)), [
    ["workload", "ours", "jax-js webgpu", "jax-js wasm", "tfjs webgpu", "tfjs wasm", "reach"],
    [name, "20.0 ms", "80.0 ms (4.00x)", "44.0 ms (2.20x)", "fails", "-", "28.0 ms: met, 3x any peer: missed by 1.36x"],
  ]);
});

Deno.test("formatSummary() has no columns for peers that nobody asked for, and no table without rows", () => {
  const [header] = formatSummary({ results: [result("elementwise_chain 16Mi, fused", 20)] }).split("\n");
  assertEquals(header!.split(/ {2,}/), ["workload", "ours", "reach"]);
  assertEquals(formatSummary({ results: [result("some, other", 20)] }), "");
});
