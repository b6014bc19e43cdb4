/**
 * GPU buffers: created under a byte budget, given back to a pool and reused. V8 cannot see GPU bytes, so dropped
 * tensors are found by a finalizer and, under pressure, by making the collector run.
 *
 * @module
 */
import { OutOfMemoryError } from "../core/errors.ts";
import type { MemoryPlan, MemoryReport, Storage } from "../core/runtime.ts";
import type { Tensor } from "../core/tensor.ts";
import type { TextureSlot } from "./slots.ts";
import { type TexturePlace, TexturePool } from "./textures.ts";

/** One GPU buffer that a tensor owns. */
export interface GpuStorage extends Storage {
  /** The buffer; at least `bytes` long. */
  readonly buffer: GPUBuffer;
  /** Distinguishes buffers in bind-group keys. */
  readonly id: number;
  /** Whether it went back to the pool. */
  released: boolean;
}

/** Default of `init({ budgetBytes })`. WebGPU does not tell how much memory a device has. */
export const DEFAULT_BUDGET_BYTES: number = 4 * 2 ** 30;
/** Share of the budget from which reads let the collector run. */
const PRESSURE = 0.5;

/** Times that collecting is tried, and what is allocated each time: twice this makes V8 collect all of its heap. */
const COLLECT_TURNS = 4;
const BALLAST_BYTES = 256 * 2 ** 20;

/** Rounds a size up so that nearly equal tensors share a class: steps of at most an eighth. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = Math.max(256, 2 ** Math.floor(Math.log2(bytes) - 3));
  return Math.ceil(bytes / step) * step;
}

/** Prints a number of bytes for people. */
export function formatBytes(bytes: number): string {
  return bytes >= 1e9
    ? `${(bytes / 1e9).toFixed(1)} GB`
    : bytes >= 1e6
    ? `${(bytes / 1e6).toFixed(1)} MB`
    : `${bytes} bytes`;
}

/**
 * Checks that one buffer can hold a value.
 *
 * @param what The value, for the message.
 * @throws {OutOfMemoryError} If it is larger than the device's buffers may be.
 */
export function expectCreatable({ limits }: GPUDevice, what: string, bytes: number): void {
  const limit = limits.maxBufferSize;
  if (bytes <= limit) return;
  throw new OutOfMemoryError("limits/buffer", {
    summary: `Cannot store ${what}: ${Math.ceil(bytes / 2 ** 20)} MiB exceeds maxBufferSize ${
      Math.floor(limit / 2 ** 20)
    } MiB`,
    fix: "use a smaller batch, split the tensor, store f16 or bf16, or init() on an adapter with a higher limit",
    details: { bytes, limit },
  });
}

/** Creates, recycles and counts buffers. */
export class Pool {
  readonly #device: GPUDevice;
  readonly #budgetBytes: number;
  readonly #idle = new Map<number, GPUBuffer[]>();
  readonly #ids = new WeakMap<GPUBuffer, number>();
  readonly #finalizers: FinalizationRegistry<GpuStorage>;
  readonly #textures: TexturePool;
  readonly #slots: { buffer: GPUBuffer; id: number; bytes: number }[] = [];
  readonly #constants = new Map<string, { readonly buffer: GPUBuffer; readonly id: number }>();
  #nextId = 1;
  #liveBytes = 0;
  #liveBuffers = 0;
  #pooledBytes = 0;
  #scratchBytes = 0;
  #allocations = 0;

  /** @param budgetBytes Limit for tensors, idle buffers and scratch together. */
  constructor(device: GPUDevice, budgetBytes: number) {
    this.#device = device;
    this.#budgetBytes = budgetBytes;
    this.#textures = new TexturePool(device);
    // The held value is the storage alone: a reference to the tensor would keep it alive.
    this.#finalizers = new FinalizationRegistry((storage) => this.release(storage));
  }

  /** Makes sure that bytes fit into the budget, giving up what is idle if they do not. */
  #makeRoom(bytes: number, what: string): void {
    if (this.#heldBytes + this.#pooledBytes + bytes > this.#budgetBytes) this.trim();
    if (this.#heldBytes + bytes > this.#budgetBytes) throw this.#exceeded(bytes, what);
  }

  get #heldBytes(): number {
    return this.#liveBytes + this.#scratchBytes + this.#textures.bytes;
  }

  #create(bytes: number, what: string): GPUBuffer {
    this.#makeRoom(bytes, what);
    this.#allocations++;
    const buffer = this.#device.createBuffer({
      size: bytes,
      // Small ones are bound as uniform buffers, see module.ts.
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    this.#ids.set(buffer, this.#nextId++);
    return buffer;
  }

  /**
   * Checks that a program alone does not need more than there may be.
   *
   * @throws {OutOfMemoryError} Saying what needs how much.
   */
  expectFits(label: string, { argumentBytes, resultBytes, scratchBytes, peakBytes }: MemoryPlan): void {
    if (peakBytes <= this.#budgetBytes) return;
    throw new OutOfMemoryError("memory/planned", {
      summary: `Cannot run ${label}: it needs ${formatBytes(peakBytes)}, the budget is ${
        formatBytes(this.#budgetBytes)
      }`,
      facts: [
        ["arguments", formatBytes(argumentBytes)],
        ["results", `${formatBytes(resultBytes)} beside those that take over donated arguments`],
        ["scratch", formatBytes(scratchBytes)],
      ],
      fix: "use a smaller batch, trainStep({ microBatches }), checkpoint() around each block, or init({ budgetBytes })",
      details: { argumentBytes, resultBytes, scratchBytes, peakBytes, budgetBytes: this.#budgetBytes },
    });
  }

  #exceeded(bytes: number, what: string): OutOfMemoryError {
    return new OutOfMemoryError("memory/budget", {
      summary: `Cannot allocate ${formatBytes(bytes)} for ${what}: the budget is ${formatBytes(this.#budgetBytes)}`,
      facts: [["live now", `${formatBytes(this.#liveBytes)} in ${this.#liveBuffers} tensors`], [
        "scratch",
        formatBytes(this.#scratchBytes + this.#textures.bytes),
      ]],
      fix: "use a smaller batch, dispose tensors or await a read now and then, or init({ budgetBytes })",
      details: { bytes, liveBytes: this.#liveBytes, budgetBytes: this.#budgetBytes },
    });
  }

  /** Bytes to allocate: the size class, unless only the exact size can be bound. */
  #sizeFor(bytes: number): number {
    const most = Math.floor(this.#device.limits.maxStorageBufferBindingSize / 256) * 256;
    return Math.max(bytes, Math.min(sizeClass(bytes), most));
  }

  /** A buffer for a tensor, recycled if one of its size class is idle. */
  acquire(bytes: number, what: string): GpuStorage {
    const size = this.#sizeFor(bytes);
    const idle = this.#idle.get(size)?.pop();
    if (idle) this.#pooledBytes -= size;
    const buffer = idle ?? this.#create(size, what);
    this.#liveBytes += size;
    this.#liveBuffers++;
    return { bytes: size, buffer, id: this.#ids.get(buffer)!, released: false };
  }

  /** Buffers for several tensors: all of them, or none and an error. */
  acquireAll(sizes: readonly number[], what: string): readonly GpuStorage[] {
    const acquired: GpuStorage[] = [];
    try {
      for (const bytes of sizes) acquired.push(this.acquire(bytes, what));
      return acquired;
    } catch (error) {
      for (const storage of acquired) this.release(storage);
      throw error;
    }
  }

  /** A fresh owner for the buffer of a storage that was taken over. */
  takeOver(storage: GpuStorage): GpuStorage {
    storage.released = true;
    return { bytes: storage.bytes, buffer: storage.buffer, id: storage.id, released: false };
  }

  /** Takes a buffer back. The queue's order protects work already submitted. */
  release(storage: GpuStorage): void {
    if (storage.released) return;
    storage.released = true;
    this.#liveBytes -= storage.bytes;
    this.#liveBuffers--;
    this.#pooledBytes += storage.bytes;
    const list = this.#idle.get(storage.bytes);
    if (list) list.push(storage.buffer);
    else this.#idle.set(storage.bytes, [storage.buffer]);
  }

  /** Ties a storage to a tensor's lifetime. */
  adopt(tensor: Tensor, storage: GpuStorage): void {
    this.#finalizers.register(tensor, storage);
  }

  /** Scratch slot `index`, shared by all programs, which run one after another; grows as needed. */
  slot(index: number, bytes: number): { readonly buffer: GPUBuffer; readonly id: number } {
    const known = this.#slots[index];
    if (known && known.bytes >= bytes) return known;
    const size = this.#sizeFor(bytes);
    const buffer = this.#create(size, "a program's scratch");
    if (known) {
      known.buffer.destroy();
      this.#scratchBytes -= known.bytes;
    }
    this.#scratchBytes += size;
    const slot = { buffer, id: this.#ids.get(buffer)!, bytes: size };
    this.#slots[index] = slot;
    return slot;
  }

  /** A uniform buffer of words that never change, made once for all programs. */
  constants(words: Uint32Array<ArrayBuffer>): { readonly buffer: GPUBuffer; readonly id: number } {
    const key = words.join();
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const buffer = this.#create(words.byteLength, "the sizes of a kernel");
    this.#device.queue.writeBuffer(buffer, 0, words);
    const made = { buffer, id: this.#ids.get(buffer)! };
    this.#constants.set(key, made);
    return made;
  }

  /** Textures of these sizes, all different ones. Shared by all programs. */
  textures(sizes: readonly TextureSlot[]): readonly TexturePlace[] {
    const missing = this.#textures.missingBytes(sizes);
    if (missing > 0) {
      // Textures of other sizes belong to programs that are not running.
      if (this.#heldBytes + missing > this.#budgetBytes) this.#textures.trim();
      this.#makeRoom(this.#textures.missingBytes(sizes), "a program's textures");
    }
    return this.#textures.acquire(sizes);
  }

  /** Destroys idle buffers. */
  trim(): void {
    for (const list of this.#idle.values()) for (const buffer of list) buffer.destroy();
    this.#idle.clear();
    this.#pooledBytes = 0;
  }

  /** Whether so much is live that dropped tensors should be looked for. */
  get underPressure(): boolean {
    return this.#liveBytes > this.#budgetBytes * PRESSURE;
  }

  /**
   * Lets finalizers run: memory that V8 can see makes it collect, one macrotask turn delivers the callbacks.
   * Without pressure of its own a heap of small handles is never collected, however many GPU bytes hang on it.
   */
  async collect(): Promise<void> {
    // Held until the end: buffers dropped at once only make V8 sweep its youngest objects. Their pages are never touched.
    const ballast: ArrayBuffer[] = [];
    for (let turn = 0; turn < COLLECT_TURNS && this.underPressure; turn++) {
      try {
        ballast.push(new ArrayBuffer(BALLAST_BYTES), new ArrayBuffer(BALLAST_BYTES));
      } catch (error) {
        // Where there is no room for it, V8 has collected all it could before it gave up.
        if (!(error instanceof RangeError)) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }

  /** How many buffers tensors own. */
  get liveBuffers(): number {
    return this.#liveBuffers;
  }

  /** Counters. */
  report(): MemoryReport {
    return {
      liveBytes: this.#liveBytes,
      pooledBytes: this.#pooledBytes,
      scratchBytes: this.#scratchBytes + this.#textures.bytes,
      allocations: this.#allocations + this.#textures.created,
      budgetBytes: this.#budgetBytes,
    };
  }
}
