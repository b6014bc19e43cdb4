/**
 * Pipelines: compiled once for each WGSL text, and side by side where that helps.
 *
 * @module
 */
import { CompileError } from "../core/errors.ts";
import { type Compiled, DryRuns, type KernelSource, type SideCompiler } from "./side_compiler.ts";

/** New kernels of one program from which it pays to look whether the driver has to compile them. */
const WORTH_A_LOOK = 8;
/** Milliseconds of a dry run above which the driver compiled the kernel. One from its cache takes a fraction of one. */
const COMPILED_MS = 6;

/** Compiles WGSL to pipelines, once for each text. */
export class Pipelines {
  readonly #device: GPUDevice;
  readonly #side: SideCompiler | null;
  readonly #dryRuns: DryRuns;
  readonly #byText = new Map<string, GPUComputePipeline>();

  /**
   * @param device Where pipelines live.
   * @param side Compiles kernels beside it, on software adapters.
   */
  constructor(device: GPUDevice, side: SideCompiler | null = null) {
    this.#device = device;
    this.#side = side;
    this.#dryRuns = new DryRuns(device);
  }

  /** The pipeline of every kernel of a program. A module that does not compile is reported by `onError`. */
  getAll(kernels: readonly KernelSource[], onError: (error: CompileError) => void): readonly GPUComputePipeline[] {
    const fresh = new Map(kernels.filter(({ wgsl }) => !this.#byText.has(wgsl)).map((kernel) => [kernel.wgsl, kernel]));
    if (this.#side?.isClosed === false && fresh.size >= WORTH_A_LOOK) {
      this.#compileBeside(this.#side, [...fresh.values()], onError);
    }
    return kernels.map((kernel) => this.#get(kernel, onError));
  }

  /** If the driver has to compile the shortest of some kernels, has all of them compiled on both devices. */
  #compileBeside(side: SideCompiler, fresh: readonly KernelSource[], onError: (error: CompileError) => void): void {
    const compile = (kernel: KernelSource) => ({ ...kernel, pipeline: this.#get(kernel, onError) });
    const probe = fresh.reduce((shortest, kernel) => kernel.wgsl.length < shortest.wgsl.length ? kernel : shortest);
    const probeMs = this.#dryRuns.time(compile(probe));
    if (probeMs < COMPILED_MS) return;
    // Making pipelines takes a while too, so the driver gets some of them at once. What is submitted next waits for it.
    const others = fresh.filter((kernel) => kernel !== probe);
    const begun = beginningOf(others);
    this.#dryRuns.submit(others.slice(0, begun).map(compile));
    side.start(probe, probeMs, others);
    this.#dryRuns.submit(others.slice(begun).map(compile));
  }

  /** Has the driver compile pipelines now, rather than when they first run. */
  warmUp(kernels: readonly Compiled[]): void {
    this.#dryRuns.submit(kernels);
  }

  #get({ label, wgsl }: KernelSource, onError: (error: CompileError) => void): GPUComputePipeline {
    const known = this.#byText.get(wgsl);
    if (known) return known;
    this.#device.pushErrorScope("validation");
    const module = this.#device.createShaderModule({ label, code: wgsl });
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    this.#device.popErrorScope().then((error) => {
      if (error) onError(compileError(label, wgsl, error.message));
    });
    this.#byText.set(wgsl, pipeline);
    return pipeline;
  }

  /** Number of distinct pipelines. */
  get size(): number {
    return this.#byText.size;
  }
}

/** How many kernels are the first quarter of all text, which tells roughly how long they compile. */
function beginningOf(kernels: readonly KernelSource[]): number {
  const all = kernels.reduce((sum, { wgsl }) => sum + wgsl.length, 0);
  let sum = 0;
  return kernels.findIndex(({ wgsl }) => (sum += wgsl.length) >= all / 4) + 1;
}

function compileError(label: string, wgsl: string, message: string): CompileError {
  const numbered = wgsl.split("\n").map((line, i) => `${String(i + 1).padStart(4)}  ${line}`).join("\n");
  return new CompileError("compile/wgsl", {
    summary: `Cannot compile kernel ${label}: this is a bug of Switchyard`,
    facts: [["message", message.split("\n").join("\n           ")]],
    fix: "report it with the kernel text below\n" + numbered,
    details: { label, wgsl, message },
  });
}
