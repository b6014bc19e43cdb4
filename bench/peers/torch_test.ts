import { assertEquals } from "@std/assert";
import type { BenchResult } from "../results.ts";
import { formatTorch } from "./torch.ts";

const RESULT: BenchResult = {
  name: "matmul 4096x4096x4096, matmul",
  shapes: "f32[4096,4096] x f32[4096,4096]",
  flop: 2 * 4096 ** 3,
  bytes: 12 * 4096 ** 2,
  medianMs: 4,
  leastMs: 4,
  mostMs: 4,
  calls: 1,
  rounds: 3,
  ceiling: { of: "matmul", share: 1 },
  allocations: 0,
};

Deno.test("formatTorch() gives PyTorch's time over ours by name", () => {
  const known = { name: RESULT.name, ms: 3, form: "eager" };
  const output = { device: "Some GPU", torch: "2.6.0", results: [known, { ...known, name: "not measured here" }] };
  assertEquals(formatTorch(output, { results: [RESULT] }).split("\n"), [
    "PyTorch 2.6.0 on Some GPU, f32 without tf32; its time over ours, above 1 where ours is faster",
    "    0.75x  matmul 4096x4096x4096, matmul: ours 4.00 ms, PyTorch 3.00 ms (eager)",
  ]);
  assertEquals(
    formatTorch({ ...output, results: [] }, { results: [RESULT] }).split("\n").at(-1),
    "  nothing that was measured has a counterpart there",
  );
});

Deno.test("formatTorch() says why there is nothing to compare with", () => {
  assertEquals(
    formatTorch({ skipped: "python3 has no torch" }, { results: [] }),
    "PyTorch: skipped, python3 has no torch",
  );
});
