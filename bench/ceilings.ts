/**
 * What the adapter can do at most: its best copy, its best matrix product and, on hardware, its arithmetic without any
 * memory, measured in the run they are compared with.
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
  /** GFLOP/s in f32 of multiplications and additions between registers, on hardware adapters: the card's own rate. */
  readonly fmaGflops?: number | undefined;
  /** What a wait on an idle device costs, in milliseconds. */
  readonly waitMs: number;
}

/** Larger than any cache, and as much as every adapter can bind. */
const COPY_BYTES = 128 * 2 ** 20;
const COPIES_PER_WAIT = 16;
const COPY_ROUNDS = 4;

/** A kernel in which each invocation copies 16 bytes. */
function copyText(workgroup: number): string {
  return /* wgsl */ `
@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<f32>>;

@compute @workgroup_size(${workgroup})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * ${workgroup}u + id.x;
  if (i < arrayLength(&target_)) { target_[i] = source[i]; }
}`;
}

/** Sums that an invocation keeps apart, so that none waits for itself; iterations of its loop, and steps of one. */
const FMA = { sums: 8, iterations: 512, steps: 8 };
/** Workgroups of 256: many for each multiprocessor of any card. */
const FMA_WORKGROUPS = 2048;

/** A kernel that multiplies and adds vec4s. What it multiplies by comes from a buffer, so that nothing folds. */
function fmaText(): string {
  const sums = Array.from({ length: FMA.sums }, (_, i) => `s${i}`);
  const step = sums.map((sum) => `${sum} = ${sum} * a + b;`).join(" ");
  return /* wgsl */ `
@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let a = source[0];
  let b = source[1];
  ${sums.map((sum, i) => `var ${sum} = source[id.x % 256u] + ${i}.0;`).join("\n  ")}
  for (var i = 0u; i < ${FMA.iterations}u; i++) {
    ${Array.from({ length: FMA.steps }, () => step).join("\n    ")}
  }
  target_[id.x] = ${sums.join(" + ")};
}`;
}

/** Measures the ceilings. */
export async function measureCeilings(device: DeviceInfo): Promise<Ceilings> {
  const waitMs = await measureWait();
  const copyGBps = await bestCopy(device, waitMs);
  const fmaGflops = device.software ? undefined : await bestArithmetic(waitMs);
  return { copyGBps, ...await bestMatmul(device, waitMs), ...(fmaGflops === undefined ? {} : { fmaGflops }), waitMs };
}

/** A device of its own, so that nothing of the library stands between. */
async function openDevice(): Promise<GPUDevice> {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("The adapter that the library found is gone");
  return await adapter.requestDevice();
}

async function bestCopy({ software }: DeviceInfo, waitMs: number): Promise<number> {
  const device = await openDevice();
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const [source, target] = [0, 1].map(() => device.createBuffer({ size: COPY_BYTES, usage })) as [GPUBuffer, GPUBuffer];
  const kernels = (software ? [64] : [64, 256]).map((workgroup) => {
    const groups = COPY_BYTES / 16 / workgroup;
    const rows = Math.ceil(groups / 32768);
    return kernelOf(device, copyText(workgroup), [source, target], [Math.ceil(groups / rows), rows]);
  });
  let bestMs = Infinity;
  for (let round = 0; round < COPY_ROUNDS; round++) {
    for (
      const encode of [
        (encoder: GPUCommandEncoder) => encoder.copyBufferToBuffer(source, 0, target, 0, COPY_BYTES),
        ...kernels,
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

/** Multiplications and additions between registers. */
async function bestArithmetic(waitMs: number): Promise<number> {
  const device = await openDevice();
  const threads = 256 * FMA_WORKGROUPS;
  const usage = GPUBufferUsage.STORAGE;
  const source = device.createBuffer({ size: 4096, usage, mappedAtCreation: true });
  // Numbers that stay of order 1: a card may run faster on zeros than on anything else.
  new Float32Array(source.getMappedRange()).set(Float32Array.from({ length: 1024 }, (_, i) => 0.3 + (i % 97) / 200));
  source.unmap();
  const buffers = [source, device.createBuffer({ size: 16 * threads, usage })];
  const encode = kernelOf(device, fmaText(), buffers, [FMA_WORKGROUPS, 1]);
  const flop = 2 * 4 * FMA.sums * FMA.steps * FMA.iterations * threads;
  let bestMs = Infinity;
  for (let round = 0; round < COPY_ROUNDS; round++) {
    const start = performance.now();
    const encoder = device.createCommandEncoder();
    for (let run = 0; run < COPIES_PER_WAIT; run++) encode(encoder);
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    if (round > 0) bestMs = Math.min(bestMs, (performance.now() - start - waitMs) / COPIES_PER_WAIT);
  }
  device.destroy();
  return flop / bestMs / 1e6;
}

/** Compiles a kernel that reads the first buffer and writes the second. */
function kernelOf(
  device: GPUDevice,
  code: string,
  buffers: readonly GPUBuffer[],
  [columns, rows]: readonly [number, number],
): (encoder: GPUCommandEncoder) => void {
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code }), entryPoint: "main" },
  });
  const bindings = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return (encoder) => {
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindings);
    pass.dispatchWorkgroups(columns, rows);
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
