/**
 * Compiling kernels side by side on software adapters.
 *
 * llvmpipe hands a kernel to LLVM when it first runs, one after another on the one thread of a device's queue, so a model's
 * first step can wait many seconds while the other cores idle. A second device has a thread of its own, and the driver's
 * disk cache gives what it compiles to the first. So where kernels turn out not to be cached, a second device compiles them
 * from the last to the first while the program itself starts with the first, and they meet in the middle.
 *
 * Nothing depends on it: without a cache on disk, or with a warm one, it finds that out on one kernel and stays out of the
 * way. `createComputePipelineAsync` does not help: Deno creates the pipeline within the call, and LLVM runs later still.
 *
 * @module
 */
import type { TextureSlot } from "./slots.ts";

/** A kernel to compile: what a dispatch says of it. */
export interface KernelSource {
  /** Name for people and profiles. */
  readonly label: string;
  /** The whole module. */
  readonly wgsl: string;
  /** For each binding the size of its texture, or null for a buffer. */
  readonly bindings: readonly (TextureSlot | null)[];
}

/** Bytes of a stand-in buffer: as many as the largest uniform buffer that a kernel may declare. */
const STAND_IN_BYTES = 65_536;

/** A pipeline, and what it binds. */
export interface Compiled {
  /** The pipeline. */
  readonly pipeline: GPUComputePipeline;
  /** For each binding the size of its texture, or null for a buffer. */
  readonly bindings: readonly (TextureSlot | null)[];
}

/** Makes a driver compile pipelines by running no workgroups of them, on stand-ins for their buffers. */
export class DryRuns {
  readonly #device: GPUDevice;
  readonly #buffers: GPUBuffer[] = [];
  readonly #textures = new Map<string, GPUTextureView>();

  /** @param device Where the pipelines are. */
  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Submits a dispatch of nothing for each, all at once: a second submission would wait for the first. */
  submit(kernels: readonly Compiled[]): void {
    const encoder = this.#device.createCommandEncoder({ label: "dry run" });
    const pass = encoder.beginComputePass();
    for (const { pipeline, bindings } of kernels) {
      const entries = bindings.map((texture, binding): GPUBindGroupEntry => ({
        binding,
        resource: texture ? this.#texture(binding, texture) : { buffer: this.#buffer(binding) },
      }));
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, this.#device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
      pass.dispatchWorkgroups(0);
    }
    pass.end();
    this.#device.queue.submit([encoder.finish()]);
  }

  /** Milliseconds one dry run takes, where the runtime waits within the call, as Deno does; about 0 elsewhere. */
  time(kernel: Compiled): number {
    waitWithin(this.#device);
    const start = performance.now();
    this.submit([kernel]);
    waitWithin(this.#device);
    return performance.now() - start;
  }

  /** One for each binding: no two bindings of a dispatch may share one. */
  #buffer(binding: number): GPUBuffer {
    return this.#buffers[binding] ??= this.#device.createBuffer({
      size: STAND_IN_BYTES,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM,
    });
  }

  /** Of a size of the same kind: llvmpipe compiles a kernel anew for textures whose sides are powers of two. */
  #texture(binding: number, { width, height }: TextureSlot): GPUTextureView {
    const size = [width, height].map((side) => Number.isInteger(Math.log2(side)) ? 1 : 3);
    const key = `${binding}: ${size.join(" x ")}`;
    const known = this.#textures.get(key);
    if (known) return known;
    const usage = GPUTextureUsage.STORAGE_BINDING;
    const view = this.#device.createTexture({ size, format: "rgba32float", usage }).createView();
    this.#textures.set(key, view);
    return view;
  }
}

/** In Deno, asking for the end of submitted work blocks until the device is idle. */
function waitWithin(device: GPUDevice): void {
  device.queue.onSubmittedWorkDone().catch(() => {});
}

/** A second device that fills the driver's disk cache. */
export class SideCompiler {
  readonly #device: GPUDevice;
  readonly #dryRuns: DryRuns;
  #closed = false;

  /** @param device A second device of the same adapter, with the same features and limits. */
  constructor(device: GPUDevice) {
    this.#device = device;
    this.#dryRuns = new DryRuns(device);
  }

  /** Whether it is of no use: given up, or the driver shares no cache. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /**
   * Begins to compile kernels, and does not wait for them.
   *
   * @param probe A kernel that the first device has just compiled; if it takes as long here, the devices share no cache.
   * @param probeMs What it took on the first device.
   * @param kernels In the order in which the first device compiles them.
   */
  start(probe: KernelSource, probeMs: number, kernels: readonly KernelSource[]): void {
    if (this.#closed) return;
    if (this.#dryRuns.time(this.#compile(probe)) > probeMs / 2) return this.close();
    this.#dryRuns.submit(kernels.toReversed().map((kernel) => this.#compile(kernel)));
  }

  #compile({ label, wgsl, bindings }: KernelSource): Compiled {
    const module = this.#device.createShaderModule({ label, code: wgsl });
    const compute = { module, entryPoint: "main" };
    return { bindings, pipeline: this.#device.createComputePipeline({ label, layout: "auto", compute }) };
  }

  /** Gives the second device up. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // A driver that is still compiling while the process ends can crash it.
    waitWithin(this.#device);
    this.#device.destroy();
  }
}
