/**
 * Times every dispatch of the programs that run while it is installed: with timestamp queries of the device where they can
 * be trusted, else by waiting for each dispatch on the host.
 *
 * llvmpipe has timestamps and they are wrong for compute: it takes one when it next has something to wait for, which is
 * up to several dispatches later (measured; the host's clock agreed with whole calls).
 *
 * @module
 */
import type { Dispatch } from "./dispatch.ts";
import type { Origin } from "./origin.ts";

/** Which clock measures. */
export type ProfileClock = "device" | "host";

/** One dispatch that ran. */
export interface TimedDispatch {
  /** Name of the program. */
  readonly program: string;
  /** The kernel and its grid. */
  readonly dispatch: Dispatch;
  /** Where it comes from. */
  readonly origin: Origin;
  /** Milliseconds from the start of the first dispatch to its start. */
  readonly startMs: number;
  /** Milliseconds it took. */
  readonly ms: number;
}

/** Puts one dispatch where it runs. */
export interface Recorder {
  /** Records a dispatch into a pass. */
  dispatch(pass: GPUComputePassEncoder): void;
  /** Records a copy, if it is one, between passes. */
  copy: ((encoder: GPUCommandEncoder) => void) | null;
}

interface Waiting extends Pick<TimedDispatch, "program" | "dispatch" | "origin"> {
  read(): Promise<readonly [start: number, end: number]>;
}

/** Queries of a set: the most WebGPU allows. */
const PER_SET = 4096;
const QUERY_BYTES = 8;
const NANOSECONDS = 1e-6;

/** A stretch of passes that share a set of queries. */
interface QueryBlock {
  readonly set: GPUQuerySet;
  readonly resolved: GPUBuffer;
  readonly staging: GPUBuffer;
  used: number;
  times: Promise<BigUint64Array> | null;
}

/** Collects the times of dispatches. */
export class DispatchTimer {
  /** The clock in use. */
  readonly clock: ProfileClock;
  readonly #device: GPUDevice;
  readonly #waiting: Waiting[] = [];
  readonly #blocks: QueryBlock[] = [];

  /** @param clock `"device"` wants the feature `timestamp-query`. */
  constructor(device: GPUDevice, clock: ProfileClock) {
    this.#device = device;
    this.clock = clock;
  }

  /**
   * Records one dispatch in a pass of its own.
   *
   * @param encoder Where the program is recorded. The host's clock submits at once instead, and waits.
   */
  record(
    what: Pick<TimedDispatch, "program" | "dispatch" | "origin">,
    encoder: GPUCommandEncoder,
    recorder: Recorder,
  ): void {
    const read = this.clock === "device" ? this.#onDevice(encoder, recorder) : this.#onHost(recorder);
    this.#waiting.push({ ...what, read });
  }

  #onHost(recorder: Recorder): Waiting["read"] {
    const encoder = this.#device.createCommandEncoder();
    if (recorder.copy !== null) recorder.copy(encoder);
    else {
      const pass = encoder.beginComputePass();
      recorder.dispatch(pass);
      pass.end();
    }
    const commands = encoder.finish();
    this.#wait();
    const start = performance.now();
    this.#device.queue.submit([commands]);
    this.#wait();
    const end = performance.now();
    return () => Promise.resolve([start, end]);
  }

  /** In Deno, asking for the end of submitted work blocks until the device is idle. */
  #wait(): void {
    this.#device.queue.onSubmittedWorkDone().catch(() => {});
  }

  #onDevice(encoder: GPUCommandEncoder, recorder: Recorder): Waiting["read"] {
    const block = this.#block();
    const first = block.used;
    block.used += 2;
    const { set: querySet } = block;
    const [begins, ends] = [{ beginningOfPassWriteIndex: first }, { endOfPassWriteIndex: first + 1 }];
    if (recorder.copy !== null) {
      // Only passes take times, so a copy lies between two empty ones.
      encoder.beginComputePass({ timestampWrites: { querySet, ...begins } }).end();
      recorder.copy(encoder);
      encoder.beginComputePass({ timestampWrites: { querySet, ...ends } }).end();
    } else {
      const pass = encoder.beginComputePass({ timestampWrites: { querySet, ...begins, ...ends } });
      recorder.dispatch(pass);
      pass.end();
    }
    return async () => {
      const times = await (block.times ??= this.#resolve(block));
      return [Number(times[first]!) * NANOSECONDS, Number(times[first + 1]!) * NANOSECONDS];
    };
  }

  #block(): QueryBlock {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.used < PER_SET) return last;
    const size = PER_SET * QUERY_BYTES;
    const block: QueryBlock = {
      set: this.#device.createQuerySet({ type: "timestamp", count: PER_SET }),
      resolved: this.#device.createBuffer({
        size,
        usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
      }),
      staging: this.#device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }),
      used: 0,
      times: null,
    };
    this.#blocks.push(block);
    return block;
  }

  async #resolve({ set, resolved, staging, used }: QueryBlock): Promise<BigUint64Array> {
    const encoder = this.#device.createCommandEncoder();
    encoder.resolveQuerySet(set, 0, used, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, used * QUERY_BYTES);
    this.#device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ, 0, used * QUERY_BYTES);
    return new BigUint64Array(staging.getMappedRange(0, used * QUERY_BYTES).slice(0));
  }

  /** Waits for the device, and returns what ran, in order. */
  async finish(): Promise<readonly TimedDispatch[]> {
    const found: TimedDispatch[] = [];
    let origin: number | null = null;
    for (const { read, ...what } of this.#waiting) {
      const [start, end] = await read();
      origin ??= start;
      // A device's clock may be coarse, and where it was reset in between, it says nothing.
      found.push({ ...what, startMs: Math.max(0, start - origin), ms: Math.max(0, end - start) });
    }
    for (const { set, resolved, staging } of this.#blocks) {
      set.destroy();
      resolved.destroy();
      staging.destroy();
    }
    return found;
  }
}
