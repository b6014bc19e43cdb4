/**
 * Running a Program: one encoder, one pass and one submit, with pipelines and bind groups cached.
 *
 * @module
 */
import { type AdapterTraits, COPIED_ELEMENTS } from "../core/kernel.ts";
import type { Executable, Storage } from "../core/runtime.ts";
import { BindGroups, type BoundKernel, type Place, placeNumbers, sizeBuffers } from "./bind.ts";
import type { Dispatch, TextureCopy } from "./dispatch.ts";
import type { DispatchTimer } from "./dispatch_timer.ts";
import type { BufferRef } from "./module.ts";
import type { Pipelines } from "./pipelines.ts";
import { expectCreatable, type GpuStorage, type Pool } from "./pool.ts";
import type { Program, Result } from "./program.ts";
import { sizesIn } from "./share.ts";
import type { TextureSlot } from "./slots.ts";

/** A dispatch of a program, ready to be recorded. */
interface Step extends BoundKernel {
  readonly dispatch: Dispatch;
}

/** Bytes of an element of a texture's operand: they are all f32. */
const ELEMENT_BYTES = 4;
/** Bytes of a texel. */
const TEXEL_BYTES = 16;
/** Bytes from one line of a copy to the next: WebGPU wants multiples of so many. */
const COPIED_BYTES = COPIED_ELEMENTS * ELEMENT_BYTES;

/** What running needs from the runtime. */
export interface RunContext {
  /** What its kernels are written for. */
  readonly adapter: AdapterTraits;
  /** The device. */
  readonly device: GPUDevice;
  /** Its buffers. */
  readonly pool: Pool;
  /** Its pipelines. */
  readonly pipelines: Pipelines;
  /** Times every dispatch, while work is profiled. */
  timer: DispatchTimer | null;
  /** Reports an error found later. */
  fail(error: Error): void;
  /** Throws if the device is lost or an error was found, else notes what is about to run. */
  begin(label: string): void;
  /** Throws if the device is lost or an error was found. */
  expectAlive(): void;
}

/** Makes a program executable. */
export function executableOf(program: Program, context: RunContext): Executable {
  const { adapter, device, pool, pipelines } = context;
  expectCreatable(device, `${program.largest.what} in ${program.label}`, program.largest.bytes);
  const kernels = program.dispatches.filter(({ copy }) => copy === undefined).map(({ label, wgsl, bindings }) => ({
    label,
    wgsl,
    bindings: bindings.map(({ buffer }) => textureOf(program, buffer)),
  }));
  const compiled = pipelines.getAll(kernels, context.fail);
  const remaining = compiled.values();
  const numbers = placeNumbers(program);
  const steps = program.dispatches.map((dispatch): Step => ({
    dispatch,
    bindings: dispatch.bindings,
    places: dispatch.bindings.map(({ buffer }) => numberOf(numbers, buffer)),
    pipeline: dispatch.copy === undefined ? remaining.next().value! : null,
  }));
  const sizes = sizeBuffers(program).map((name) => pool.constants(sizesIn(name)!));
  const bindGroups = new BindGroups(device, steps, adapter.bindingBytes);

  function run(inputs: readonly Storage[], donated: readonly boolean[]): readonly Storage[] {
    context.begin(program.label);
    pool.expectFits(program.label, program.memory);
    const args = inputs as readonly GpuStorage[];
    const places: Place[] = program.arguments.map((_, i) => args[i]!);
    program.slots.forEach(({ bytes }, i) => places.push(pool.slot(i, bytes)));
    places.push(...pool.textures(program.textures.slots), ...sizes);
    const owners = ownersOf(program.results, donated);
    const taken = new Set(owners);
    const isFresh = (_: unknown, i: number) => owners[i] === null;
    const fresh = pool.acquireAll(program.results.filter(isFresh).map(({ bytes }) => bytes), program.label).values();
    const outputs = owners.map((owner) => owner === null ? fresh.next().value! : pool.takeOver(args[owner]!));
    const copies: { from: GPUBuffer; to: GPUBuffer; bytes: number }[] = [];
    program.results.forEach((result, i) => {
      const output = outputs[i]!;
      if (result.from === "kernel") places.push(output);
      else if (owners[i] === null) {
        const { buffer } = result.from === "argument" ? args[result.argument]! : outputs[result.result]!;
        copies.push({ from: buffer, to: output.buffer, bytes: result.bytes });
      }
    });
    const encoder = device.createCommandEncoder({ label: program.label });
    record(encoder, places);
    for (const { from, to, bytes } of copies) encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
    device.queue.submit([encoder.finish()]);
    // Donated buffers that no result took over are free once the submitted work has read them, which the queue sees to.
    args.forEach((storage, i) => {
      if (donated[i] && !taken.has(i)) pool.release(storage);
    });
    return outputs;
  }

  function record(encoder: GPUCommandEncoder, places: readonly Place[]): void {
    const groups = bindGroups.forCall(places);
    if (context.timer !== null) return recordTimed(context.timer, encoder, places, groups);
    let pass: GPUComputePassEncoder | null = null;
    steps.forEach((step, i) => {
      if (step.dispatch.copy === undefined) {
        pass ??= encoder.beginComputePass({ label: program.label });
        recordDispatch(pass, step, groups[i]!);
      } else {
        pass?.end();
        pass = null;
        recordCopy(encoder, step.dispatch.copy, step, places);
      }
    });
    (pass as GPUComputePassEncoder | null)?.end();
  }

  /** Records each dispatch by itself, timed, after the driver was given all of them to compile. */
  function recordTimed(
    timer: DispatchTimer,
    encoder: GPUCommandEncoder,
    places: readonly Place[],
    groups: readonly (GPUBindGroup | null)[],
  ): void {
    pipelines.warmUp(kernels.map(({ bindings }, i) => ({ pipeline: compiled[i]!, bindings })));
    steps.forEach((step, i) => {
      const { copy } = step.dispatch;
      timer.record({ program: program.label, dispatch: step.dispatch, origin: program.origins[i]! }, encoder, {
        dispatch: (pass) => recordDispatch(pass, step, groups[i]!),
        copy: copy === undefined ? null : (encoder) => recordCopy(encoder, copy, step, places),
      });
    });
  }
  return { memory: program.memory, run, toString: () => program.toString() };
}

function recordDispatch(pass: GPUComputePassEncoder, { pipeline, dispatch }: Step, group: GPUBindGroup): void {
  pass.setPipeline(pipeline!);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(...dispatch.workgroups);
}

function recordCopy(
  encoder: GPUCommandEncoder,
  { regions }: TextureCopy,
  { places: [from, to] }: Step,
  places: readonly Place[],
): void {
  const [source, target] = [places[from!]!, places[to!]!];
  if (!("buffer" in source) || !("texture" in target)) throw new Error("unreachable: copies go to textures");
  for (const { start, x, y = 0, width, height } of regions) {
    encoder.copyBufferToTexture(
      {
        buffer: source.buffer,
        offset: start * ELEMENT_BYTES,
        // A line by itself may be of any length.
        bytesPerRow: Math.ceil(width * TEXEL_BYTES / COPIED_BYTES) * COPIED_BYTES,
        rowsPerImage: height,
      },
      { texture: target.texture, origin: [x, y] },
      [width, height],
    );
  }
}

/** The size of a texture that a program fills, or null for a buffer. */
function textureOf({ textures }: Program, name: BufferRef): TextureSlot | null {
  const slot = textures.slotOf.get(name);
  return slot === undefined ? null : textures.slots[slot]!;
}

/** For each result the donated argument whose buffer it takes over, or null. */
function ownersOf(results: readonly Result[], donated: readonly boolean[]): readonly (number | null)[] {
  return results.map((result) => {
    const argument = result.from === "kernel" ? result.takes : result.from === "argument" ? result.argument : null;
    return argument !== null && donated[argument] ? argument : null;
  });
}

function numberOf(numbers: ReadonlyMap<BufferRef, number>, buffer: BufferRef): number {
  const number = numbers.get(buffer);
  if (number === undefined) throw new Error(`unreachable: no buffer for ${buffer}`);
  return number;
}
