import { assertEquals, assertNotMatch, assertStringIncludes } from "@std/assert";
import { currentRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import type { GpuRuntime } from "../../src/gpu/device_runtime.ts";
import { withRolledLoops } from "../../src/gpu/rolled_loops.ts";
import { matmul, mul, sum, tanh } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "./support/compile.ts";

const ENTRY = "fn main(\n  @builtin(workgroup_id) wg: vec3<u32>,\n) {\n";

Deno.test("a loop up to a number or a size ends at one that the driver does not know", () => {
  for (const end of ["8u", "sizes[1].z"]) {
    assertEquals(
      withRolledLoops(`\n@compute\n${ENTRY}for (var i = 0u; i < ${end}; i += 4u) {\n}\n}\n`),
      `\n@compute\n${ENTRY}let unknown_zero = wg.z >> 16u;\n` +
        `for (var i = 0u; i < ${end} + unknown_zero; i += 4u) {\n}\n}\n`,
    );
  }
});

Deno.test("so do loops of functions beside the entry point, and loops that end at a named size", () => {
  const rolled = withRolledLoops(
    `fn total() {\nfor (var i = 0u; i < 8u; i++) {\n}\n}\n${ENTRY}let last = sizes[0].x;\nlet other = sizes[0].y * 4u;\n}\n`,
  );
  assertStringIncludes(rolled, "i < 8u + unknown_zero_outside; i++");
  assertStringIncludes(rolled, "unknown_zero_outside = unknown_zero;");
  assertStringIncludes(rolled, "var<private> unknown_zero_outside: u32;");
  assertStringIncludes(rolled, "let last = sizes[0].x + unknown_zero;");
  assertStringIncludes(rolled, "let other = sizes[0].y * 4u;");
});

Deno.test("kernels without such a loop stay as they are", () => {
  const wgsl = `\n${ENTRY}for (var i = first; i < last; i++) {\nlet x = min(i, 8u);\n}\n}\n`;
  assertEquals(withRolledLoops(wgsl), wgsl);
});

Deno.test("loops of compiled programs are rolled for software adapters only", () => {
  // A sum of 32 is what the driver would unroll; the two products share a text and end at sizes.
  const f = (x: Tensor, a: Tensor, b: Tensor) => tanh(matmul(tanh(matmul(tanh(sum(mul(x, x), { axis: 0 })), a)), b));
  const args = [f32(32, 128, 512), f32(512, 256), f32(256, 256)];
  const textsFor = (adapter: typeof SOFTWARE) =>
    compile(f as (...args: Tensor[]) => unknown, args, { adapter }).dispatches.map(({ wgsl }) => wgsl);
  const texts = textsFor(SOFTWARE);
  for (const wgsl of texts) assertNotMatch(wgsl, /for \(var \w+ = [^;]*; \w+ < (\d+u|sizes\[\d+\]\.\w);/);
  assertEquals(texts.some((wgsl) => wgsl.includes("= sizes[0].x + unknown_zero;")), true);
  assertEquals(textsFor(HARDWARE).some((wgsl) => wgsl.includes("unknown_zero")), false);
});

gpuTest("a rolled loop may hold a barrier, and functions with loops compute what they did", async () => {
  const { device } = currentRuntime("test") as GpuRuntime;
  const wgsl = withRolledLoops(`@group(0) @binding(0) var<storage, read_write> b0: array<u32>;
var<workgroup> shared_sum: array<u32, 8>;
fn total() -> u32 {
var sum = 0u;
for (var i = 0u; i < 8u; i++) {
sum += shared_sum[i];
}
return sum;
}
@compute @workgroup_size(8, 1, 1)
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
for (var turn = 0u; turn < 3u; turn++) {
shared_sum[lane] = lane + turn;
workgroupBarrier();
b0[turn * 8u + lane] = total();
workgroupBarrier();
}
}
`);
  device.pushErrorScope("validation");
  const compute = { module: device.createShaderModule({ code: wgsl }), entryPoint: "main" };
  const pipeline = device.createComputePipeline({ layout: "auto", compute });
  const buffer = device.createBuffer({ size: 96, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size: 96, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const layout = pipeline.getBindGroupLayout(0);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, 96);
  device.queue.submit([encoder.finish()]);
  assertEquals((await device.popErrorScope())?.message, undefined);
  await staging.mapAsync(GPUMapMode.READ);
  const found = [...new Uint32Array(staging.getMappedRange())];
  staging.destroy();
  assertEquals(found, [28, 36, 44].flatMap((sum) => Array.from({ length: 8 }, () => sum)));
});
