/**
 * Running a Program: one encoder, one pass and one submit, with pipelines and bind groups cached.
 *
 * @module
 */
import type { AdapterTraits } from "../core/kernel.ts";
import type { Executable, Storage } from "../core/runtime.ts";
import { windowBytes } from "../core/windows.ts";
import type { DispatchTimer } from "./dispatch_timer.ts";
import type { Binding, BufferRef } from "./module.ts";
import type { Pipelines } from "./pipelines.ts";
import { expectCreatable, type GpuStorage, type Pool } from "./pool.ts";
import type { Program, Result } from "./program.ts";
import type { TextureSlot } from "./slots.ts";

interface Place {
  readonly resource: GPUBindingResource;
  readonly id: number;
}

/** Bind groups kept for each dispatch. Buffers alternate between few places in a steady state. */
const BIND_GROUPS_KEPT = 8;

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
  const mostBytes = windowBytes(adapter);
  const sources = program.dispatches.map(({ label, wgsl, bindings }) => ({
    label,
    wgsl,
    bindings: bindings.map(({ buffer }) => textureOf(program, buffer)),
  }));
  const compiled = pipelines.getAll(sources, context.fail);
  const steps = program.dispatches.map((dispatch, i) => ({
    dispatch,
    pipeline: compiled[i]!,
    groups: new Map<string, GPUBindGroup>(),
  }));

  function bindGroupFor(step: (typeof steps)[number], places: readonly Place[]): GPUBindGroup {
    const key = places.map(({ id }) => id).join();
    const known = step.groups.get(key);
    if (known) return known;
    if (step.groups.size >= BIND_GROUPS_KEPT) step.groups.delete(step.groups.keys().next().value!);
    const group = device.createBindGroup({
      layout: step.pipeline.getBindGroupLayout(0),
      entries: places.map(({ resource }, binding) => ({
        binding,
        resource: windowOf(resource, step.dispatch.bindings[binding]!, mostBytes),
      })),
    });
    step.groups.set(key, group);
    return group;
  }

  function run(inputs: readonly Storage[], donated: readonly boolean[]): readonly Storage[] {
    context.begin(program.label);
    pool.expectFits(program.label, program.memory);
    const args = inputs as readonly GpuStorage[];
    const places = new Map<BufferRef, Place>();
    program.arguments.forEach((buffer, i) => places.set(buffer, placeOfStorage(args[i]!)));
    program.slots.forEach(({ bytes }, i) => pool.slot(i, bytes));
    for (const [buffer, index] of program.slotOf) {
      places.set(buffer, placeOfStorage(pool.slot(index, program.slots[index]!.bytes)));
    }
    const textures = pool.textures(program.textures.slots);
    for (const [name, index] of program.textures.slotOf) places.set(name, textures[index]!);
    const owners = ownersOf(program.results, donated);
    const taken = new Set(owners);
    const isFresh = (_: unknown, i: number) => owners[i] === null;
    const fresh = pool.acquireAll(program.results.filter(isFresh).map(({ bytes }) => bytes), program.label).values();
    const outputs = owners.map((owner) => owner === null ? fresh.next().value! : pool.takeOver(args[owner]!));
    const copies: { from: GPUBuffer; to: GPUBuffer; bytes: number }[] = [];
    program.results.forEach((result, i) => {
      const output = outputs[i]!;
      if (result.from === "kernel") places.set(result.buffer, placeOfStorage(output));
      else if (owners[i] === null) {
        const { buffer } = result.from === "argument" ? args[result.argument]! : outputs[result.result]!;
        copies.push({ from: buffer, to: output.buffer, bytes: result.bytes });
      }
    });
    function record(pass: GPUComputePassEncoder, step: (typeof steps)[number]): void {
      pass.setPipeline(step.pipeline);
      pass.setBindGroup(0, bindGroupFor(step, step.dispatch.bindings.map(({ buffer }) => placeOf(places, buffer))));
      pass.dispatchWorkgroups(...step.dispatch.workgroups);
    }
    const encoder = device.createCommandEncoder({ label: program.label });
    if (context.timer !== null) recordTimed(context.timer, encoder, record);
    else if (steps.length > 0) {
      const pass = encoder.beginComputePass({ label: program.label });
      for (const step of steps) record(pass, step);
      pass.end();
    }
    for (const { from, to, bytes } of copies) encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
    device.queue.submit([encoder.finish()]);
    // Donated buffers that no result took over are free once the submitted work has read them, which the queue sees to.
    args.forEach((storage, i) => {
      if (donated[i] && !taken.has(i)) pool.release(storage);
    });
    return outputs;
  }

  /** Records each dispatch by itself, timed, after the driver was given all of them to compile. */
  function recordTimed(
    timer: DispatchTimer,
    encoder: GPUCommandEncoder,
    record: (pass: GPUComputePassEncoder, step: (typeof steps)[number]) => void,
  ): void {
    pipelines.warmUp(sources.map(({ bindings }, i) => ({ pipeline: compiled[i]!, bindings })));
    steps.forEach((step, i) => {
      const what = { program: program.label, dispatch: step.dispatch, origin: program.origins[i]! };
      timer.record(what, encoder, (pass) => record(pass, step));
    });
  }
  return { memory: program.memory, run, toString: () => program.toString() };
}

/** The size of a texture that a program fills, or null for a buffer. */
function textureOf({ textures }: Program, name: BufferRef): TextureSlot | null {
  const slot = textures.slotOf.get(name);
  return slot === undefined ? null : textures.slots[slot]!;
}

function placeOfStorage({ buffer, id }: Pick<GpuStorage, "buffer" | "id">): Place {
  return { resource: { buffer }, id };
}

/** What a dispatch binds of a place. A slot may be larger than the value in it, and than a binding may be. */
function windowOf(resource: GPUBindingResource, { window }: Binding, mostBytes: number): GPUBindingResource {
  if (!("buffer" in resource)) return resource;
  if (window !== undefined) return { buffer: resource.buffer, ...window };
  return resource.buffer.size > mostBytes ? { buffer: resource.buffer, size: mostBytes } : resource;
}

/** For each result the donated argument whose buffer it takes over, or null. */
function ownersOf(results: readonly Result[], donated: readonly boolean[]): readonly (number | null)[] {
  return results.map((result) => {
    const argument = result.from === "kernel" ? result.takes : result.from === "argument" ? result.argument : null;
    return argument !== null && donated[argument] ? argument : null;
  });
}

function placeOf(places: ReadonlyMap<BufferRef, Place>, buffer: BufferRef): Place {
  const place = places.get(buffer);
  if (!place) throw new Error(`unreachable: no buffer for ${buffer}`);
  return place;
}
