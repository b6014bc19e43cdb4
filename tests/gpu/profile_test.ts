import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { AdapterError, TraceError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { realizeTree } from "../../src/core/realize.ts";
import { currentRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import type { GpuRuntime } from "../../src/gpu/device_runtime.ts";
import { profile } from "../../src/gpu/profile.ts";
import { add, matmul, mul, ones, sin, softmax, sub, sum, tensor } from "../../src/ops/mod.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

/** Number of dispatches that a printed program tells of. */
function dispatchesOf(program: string): number {
  return Number(/(\d+) dispatches/.exec(program)![1]);
}

/** The line of this file that calls it, as sites print it. */
function here(): string {
  return /profile_test\.ts:\d+/.exec(new Error().stack!.split("\n")[2]!)![0];
}

gpuTest("profile lists every dispatch of a program, with times, shares and sizes", async () => {
  const f = jit((x: Tensor, w: Tensor) => softmax(matmul(x, w)), { name: "classify" });
  const [x, w] = realizeTree([ones([40, 24]), ones([24, 16])] as const);
  const report = await profile(() => f(x, w));
  assertEquals(report.kernels.length, dispatchesOf(f.program(x, w)));
  for (const { ms, share, startMs, bytes, workgroups } of report.kernels) {
    for (const value of [ms, share, startMs, bytes]) assert(Number.isFinite(value) && value >= 0, `${value}`);
    assert(workgroups.every((count) => count >= 1));
  }
  const product = report.kernels.find(({ ops }) => ops.includes("matmul"))!;
  assertEquals(product.flop, 2 * 40 * 24 * 16);
  assertEquals(product.program, "classify");
  assert(product.bytes >= 4 * (40 * 24 + 24 * 16 + 40 * 16));
  assert(Math.abs(report.kernels.reduce((sum, { share }) => sum + share, 0) - 1) < 1e-9 || report.totalMs === 0);
  assertEquals((await report.result.data())[0], 1 / 16);
});

gpuTest("profile knows the line an op was written on, also of derivatives and of composed ops", async () => {
  let written = "";
  function loss(x: Tensor): Tensor {
    written = here();
    return sum(sin(mul(x, x)));
  }
  const next = (line: string) => line.replace(/\d+$/, (n) => String(Number(n) + 1));
  const slope = jit((x: Tensor) => grad(loss)(x));
  const x = tensor([1, 2, 3]);
  await slope(x).data();
  const { kernels } = await profile(() => slope(x));
  assertEquals(kernels.length, 1);
  assertStringIncludes(kernels[0]!.source, next(written));
  const eager = await profile(() => softmax(add(x, 1)));
  const line = here();
  for (const { source } of eager.kernels) {
    assertStringIncludes(source, line.replace(/\d+$/, (n) => String(Number(n) - 1)));
  }
});

gpuTest("a profile is a trace of its own: ordinary calls keep theirs, and maxTraces does not count it", async () => {
  const f = jit((x: Tensor) => mul(x, 3), { maxTraces: 1 });
  const x = tensor([1, 2]);
  f(x);
  await profile(() => f(x));
  await profile(() => f(x));
  assertEquals([...await f(x).data()], [3, 6]);
  assertEquals(f.traces, 1);
});

gpuTest("profile takes over donated arguments and returns the result", async () => {
  const step = jit((w: Tensor) => ({ w: sub(w, 1), loss: sum(w) }), { donate: [0] });
  const { result } = await profile(() => step(tensor([5, 6])));
  assertEquals([...await result.w.data(), await result.loss.item()], [4, 5, 11]);
});

gpuTest(
  "the Chrome trace has one complete event for each dispatch, and the table one line for each kernel",
  async () => {
    const f = jit((x: Tensor) => softmax(matmul(x, x)));
    const x = ones([64, 64]);
    const report = await profile(() => [f(x), f(x)]);
    const { traceEvents } = JSON.parse(report.chromeTrace()) as { traceEvents: Record<string, unknown>[] };
    assertEquals(traceEvents.length, report.kernels.length);
    for (const [i, event] of traceEvents.entries()) {
      assertEquals([event.ph, event.name], ["X", report.kernels[i]!.label]);
      assert(Number.isFinite(event.ts) && Number.isFinite(event.dur));
    }
    const [summary, head, ...lines] = report.toString().split("\n");
    assertStringIncludes(summary!, `${report.kernels.length} kernels`);
    assertEquals(head!.trim().split(/\s{2,}/), ["ms", "share", "calls", "GB/s", "GFLOP/s", "kernel", "source"]);
    assertEquals(lines.length, new Set(report.kernels.map(({ label, source }) => label + source)).size);
    assertStringIncludes(report.toString(), "profile_test.ts");
  },
);

gpuTest("both clocks can be asked for, and a device without timestamps says so", async () => {
  const x = ones([16, 16]);
  const { device } = currentRuntime("test") as GpuRuntime;
  for (const clock of ["host", "device"] as const) {
    if (clock === "device" && !device.features.has("timestamp-query")) {
      await assertRejects(() => profile(() => matmul(x, x), { clock }), AdapterError, "timestamp-query");
      continue;
    }
    const report = await profile(() => matmul(x, x), { clock });
    assertEquals(report.clock, clock);
    assert(report.kernels.length > 0 && report.kernels.every(({ ms }) => Number.isFinite(ms) && ms >= 0));
    assertEquals((await report.result.data())[0], 16);
  }
});

gpuTest("after a profile nothing is timed any more, also when the work throws", async () => {
  const runtime = currentRuntime("test") as GpuRuntime;
  const limit = Error.stackTraceLimit;
  await assertRejects(
    () =>
      profile(() => {
        throw new RangeError("stop");
      }),
    RangeError,
  );
  assertEquals([runtime.timer, Error.stackTraceLimit], [null, limit]);
  await assertRejects(() => profile(() => Promise.resolve(1)), TraceError);
  assertEquals(runtime.timer, null);
});

oracleTest("the oracle has no kernels to profile", async () => {
  await assertRejects(() => profile(() => add(tensor([1]), 1)), AdapterError, "on the host");
});
