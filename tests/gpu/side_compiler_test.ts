import { assert, assertEquals } from "@std/assert";
import { currentRuntime } from "../../src/core/runtime.ts";
import type { GpuRuntime } from "../../src/gpu/device_runtime.ts";
import { Pipelines } from "../../src/gpu/pipelines.ts";
import { DryRuns, type KernelSource, SideCompiler } from "../../src/gpu/side_compiler.ts";
import { add, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";

/** A kernel of a text of its own, with one buffer. */
function kernel(number: number): KernelSource {
  const wgsl = `@group(0) @binding(0) var<storage, read_write> b0: array<vec4<f32>>;
@compute @workgroup_size(8) fn main(@builtin(global_invocation_id) at: vec3<u32>) { b0[at.x] = vec4<f32>(${number}.0); }`;
  return { label: `kernel ${number}`, wgsl, bindings: [null] };
}

async function otherDevice(): Promise<GPUDevice> {
  return await (await navigator.gpu.requestAdapter())!.requestDevice();
}

/** Fails the test with what the device reports. */
async function withoutErrors(device: GPUDevice, run: () => void): Promise<void> {
  device.pushErrorScope("validation");
  run();
  assertEquals(await device.popErrorScope(), null);
}

gpuTest("a side compiler takes kernels as long as its probe says that the devices share a cache", async () => {
  const device = await otherDevice();
  const side = new SideCompiler(device);
  await withoutErrors(device, () => side.start(kernel(0), Infinity, [kernel(1), kernel(2)]));
  assertEquals(side.isClosed, false);
  side.start(kernel(3), 0, [kernel(4)]);
  assertEquals(side.isClosed, true, "nothing takes less than no time");
  side.close();
  side.start(kernel(5), Infinity, []);
});

gpuTest("pipelines compiled beside are those compiled alone, each text once", async () => {
  const device = await otherDevice();
  const side = new SideCompiler(await otherDevice());
  const kernels = Array.from({ length: 12 }, (_, i) => kernel(100 + i % 9));
  const pipelines = new Pipelines(device, side);
  await withoutErrors(device, () => {
    const made = pipelines.getAll(kernels, (error) => {
      throw error;
    });
    assertEquals(made.length, 12);
    assertEquals(pipelines.size, 9);
    assert(made[0] === made[9]);
  });
  side.close();
});

gpuTest("a dry run binds stand-ins for buffers and textures, and leaves real buffers alone", async () => {
  const { device } = currentRuntime("test") as GpuRuntime;
  const wgsl = `@group(0) @binding(0) var<storage, read_write> b0: array<vec4<f32>>;
@group(0) @binding(1) var t0: texture_storage_2d<rgba32float, write>;
@compute @workgroup_size(8) fn main() { b0[0] = vec4<f32>(1.0); textureStore(t0, vec2<u32>(0u), vec4<f32>(1.0)); }`;
  const compute = { module: device.createShaderModule({ code: wgsl }), entryPoint: "main" };
  const pipeline = device.createComputePipeline({ layout: "auto", compute });
  await withoutErrors(device, () => {
    for (const width of [16, 17]) new DryRuns(device).submit([{ pipeline, bindings: [null, { width, height: 8 }] }]);
  });
  assertEquals([...await add(tensor([1, 2]), 1).data()], [2, 3]);
});
