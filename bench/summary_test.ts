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
  assertEquals(
    verdict({ ofPeak: 0.5, ofCopy: 0.8, ofHost: 0.9 }, { ms: 1, ofPeak: 0.25, ofCopy: 0.8 }),
    "50 % of f32 peak: missed by 2.00x, 80 % of copy: met, host hidden: -",
  );
  assertEquals(verdict({ ofHost: 0.9 }, { ms: 1, ofHost: 0.99 }), "host hidden: missed by 1.10x");
  assertEquals(verdict({ overAny: 3 }, { ms: 1, overAny: 2 }), "3x any peer: missed by 1.50x");
});

const RUN = { software: true, ceilings: { copyGBps: 10, matmulGflops: 40, matmulSize: 512, waitMs: 11 } } as const;

Deno.test("formatSummary() sets the fastest peer against the goal and marks what failed", () => {
  const name = "elementwise_chain 16Mi, fused";
  const results = [
    result(name, 20),
    peerResult(name, "jax-js webgpu", 80, 4),
    peerResult(name, "jax-js wasm", 44, 2.2),
    result("plan without goal or peer, plan", 1),
  ];
  const peerFailures = [{ name, peer: "tfjs webgpu", form: "eager", reason: "wrong result: zeros" }];
  assertEquals(formatSummary({ ...RUN, results, peerFailures }).split("\n").map((line) => line.split(/ {2,}/)), [
    ["workload", "ours", "jax-js webgpu", "jax-js wasm", "tfjs webgpu", "tfjs wasm", "reach"],
    [name, "20.0 ms", "80.0 ms (4.00x)", "44.0 ms (2.20x)", "fails", "-", "28.0 ms: met, 3x any peer: missed by 1.36x"],
  ]);
});

Deno.test("formatSummary() has no columns for peers that nobody asked for, and no table without rows", () => {
  const [header] = formatSummary({ ...RUN, results: [result("elementwise_chain 16Mi, fused", 20)] }).split("\n");
  assertEquals(header!.split(/ {2,}/), ["workload", "ours", "reach"]);
  assertEquals(formatSummary({ ...RUN, results: [result("some, other", 20)] }), "");
});

Deno.test("formatSummary() has goals of its own for GPUs: shares of what the card does in the same run", () => {
  const results = [
    result("matmul 4096x4096x4096, matmul", 4, { flop: 2 * 4096 ** 3 }),
    result("elementwise_chain 16Mi, fused", 1, { bytes: 8 * 2 ** 24 }),
    result("train_step small, switch", 10, { hostMs: 4 }),
    result("softmax 2048x512, forward", 1),
  ];
  const ceilings = { ...RUN.ceilings, copyGBps: 200, fmaGflops: 60_000 };
  const rows = formatSummary({ software: false, ceilings, results }).split("\n").map((line) => line.split(/ {2,}/));
  assertEquals(rows.slice(1).map(([, , reach]) => reach), [
    "50 % of f32 peak: met",
    "80 % of copy: missed by 1.19x",
    "host hidden: met",
  ]);
});
