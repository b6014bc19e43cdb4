/**
 * What the adapter can do at most: its best copy and its best matrix product, measured in the run they are compared with.
 *
 * @module
 */
import { type DeviceInfo, jit, key, matmul, own, realize, type Tensor, uniform } from "../mod.ts";
import { entrantOf, measureWait, timeInTurns } from "./harness.ts";

/** Upper bounds, as measured. */
export interface Ceilings {
  /** GB/s of the better of a buffer copy and a copying kernel, bytes read and bytes written added. */
  readonly copyGBps: number;
  /** GFLOP/s of this library's best square matrix product in f32. */
  readonly matmulGflops: number;
  /** The size at which that was reached. */
  readonly matmulSize: number;
  /** What a wait on an idle device costs, in milliseconds. */
  readonly waitMs: number;
}

/** Larger than any cache, and as much as every adapter can bind. */
const COPY_BYTES = 128 * 2 ** 20;
const COPIES_PER_WAIT = 16;
const COPY_ROUNDS = 4;
const WORKGROUP = 64;

const COPY_KERNEL = /* wgsl */ `
@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<f32>>;

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * ${WORKGROUP}u + id.x;
  if (i < arrayLength(&target_)) { target_[i] = source[i]; }
}`;

/** Measures the ceilings. */
export async function measureCeilings(device: DeviceInfo): Promise<Ceilings> {
  const waitMs = await measureWait();
  return { copyGBps: await bestCopy(waitMs), ...await bestMatmul(device, waitMs), waitMs };
}

/** Copies on a device of its own, so that nothing of the library stands between. */
async function bestCopy(waitMs: number): Promise<number> {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("The adapter that the library found is gone");
  const device = await adapter.requestDevice();
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const [source, target] = [0, 1].map(() => device.createBuffer({ size: COPY_BYTES, usage })) as [GPUBuffer, GPUBuffer];
  const kernel = copyKernel(device, source, target);
  let bestMs = Infinity;
  for (let round = 0; round < COPY_ROUNDS; round++) {
    for (
      const encode of [
        (encoder: GPUCommandEncoder) => encoder.copyBufferToBuffer(source, 0, target, 0, COPY_BYTES),
        kernel,
      ]
    ) {
      const start = performance.now();
      const encoder = device.createCommandEncoder();
      for (let copy = 0; copy < COPIES_PER_WAIT; copy++) encode(encoder);
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      // The first round pays for page faults and compilation.
      if (round > 0) bestMs = Math.min(bestMs, (performance.now() - start - waitMs) / COPIES_PER_WAIT);
    }
  }
  device.destroy();
  return 2 * COPY_BYTES / bestMs / 1e6;
}

function copyKernel(device: GPUDevice, source: GPUBuffer, target: GPUBuffer): (encoder: GPUCommandEncoder) => void {
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code: COPY_KERNEL }), entryPoint: "main" },
  });
  const bindings = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [source, target].map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const groups = COPY_BYTES / 16 / WORKGROUP;
  const rows = Math.ceil(groups / 32768);
  return (encoder) => {
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindings);
    pass.dispatchWorkgroups(Math.ceil(groups / rows), rows);
    pass.end();
  };
}

async function bestMatmul(
  { software }: DeviceInfo,
  waitMs: number,
): Promise<{ readonly matmulGflops: number; readonly matmulSize: number }> {
  const product = jit((a: Tensor, b: Tensor) => matmul(a, b), { name: "matmul", maxTraces: 16 });
  let [matmulGflops, matmulSize] = [0, 0];
  for (const size of software ? [512, 1024] : [1024, 2048, 4096]) {
    const [a, b] = realize([uniform(key(1), [size, size]), uniform(key(2), [size, size])] as const);
    const work = { flop: 2 * size ** 3, bytes: 12 * size ** 2 };
    const contender = { name: "matmul", work, run: () => product(a, b) };
    const [timing] = await timeInTurns([entrantOf(contender, { waitMs })], { rounds: 3, turnMs: 100 });
    const gflops = work.flop / Math.min(...timing!.callMs) / 1e6;
    if (gflops > matmulGflops) [matmulGflops, matmulSize] = [gflops, size];
    own([a, b])[Symbol.dispose]();
  }
  return { matmulGflops, matmulSize };
}
