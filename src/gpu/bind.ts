/**
 * What the dispatches of a program bind: buffers and textures by number, and bind groups kept from call to call.
 *
 * @module
 */
import { windowBytes } from "../core/windows.ts";
import type { Binding, BufferRef } from "./module.ts";
import type { Program } from "./program.ts";
import { sizesIn } from "./share.ts";
import type { TexturePlace } from "./textures.ts";

/** A buffer or a texture that a call works on. The number tells it from all others of the device. */
export type Place = { readonly buffer: GPUBuffer; readonly id: number } | TexturePlace;

/** Bind groups kept: buffers alternate between few places in a steady state. */
const CALLS_KEPT = 8;

/** Names of the uniform buffers of sizes that kernels of a program bind. */
export function sizeBuffers({ dispatches }: Program): readonly BufferRef[] {
  const names = dispatches.flatMap(({ bindings }) => bindings.map(({ buffer }) => buffer));
  return [...new Set(names)].filter((name) => sizesIn(name) !== null);
}

/**
 * Numbers the places of a program: its arguments, slots, textures, sizes, and the results that kernels write, in this order.
 */
export function placeNumbers(program: Program): ReadonlyMap<BufferRef, number> {
  const { slots, slotOf, textures, results } = program;
  const firstSlot = program.arguments.length, firstTexture = firstSlot + slots.length;
  const sizes = sizeBuffers(program);
  const firstSize = firstTexture + textures.slots.length;
  const firstResult = firstSize + sizes.length;
  return new Map([
    ...program.arguments.map((buffer, i) => [buffer, i] as const),
    ...[...slotOf].map(([buffer, slot]) => [buffer, firstSlot + slot] as const),
    ...[...textures.slotOf].map(([name, slot]) => [name, firstTexture + slot] as const),
    ...sizes.map((name, i) => [name, firstSize + i] as const),
    ...results.filter(({ from }) => from === "kernel").map((result, i) =>
      [(result as Extract<typeof result, { from: "kernel" }>).buffer, firstResult + i] as const
    ),
  ]);
}

/** A kernel of a program and the places it binds. */
export interface BoundKernel {
  /** Its bindings. */
  readonly bindings: readonly Binding[];
  /** Number of the place behind each. */
  readonly places: readonly number[];
  /** Its pipeline; null for a copy, which binds nothing. */
  readonly pipeline: GPUComputePipeline | null;
}

/** Makes bind groups for calls of a program and keeps them. */
export class BindGroups {
  readonly #device: GPUDevice;
  readonly #kernels: readonly BoundKernel[];
  readonly #mostBytes: number;
  /** Groups of whole calls by the numbers of all their places. */
  readonly #calls = new Map<string, readonly (GPUBindGroup | null)[]>();
  /** Groups of each kernel by the numbers of what it binds: calls that differ in one place share the others. */
  readonly #groups: readonly Map<string, GPUBindGroup>[];

  /** @param bindingBytes The most that one binding may show; absent for no limit. */
  constructor(device: GPUDevice, kernels: readonly BoundKernel[], bindingBytes: number | undefined) {
    this.#device = device;
    this.#kernels = kernels;
    this.#mostBytes = windowBytes(bindingBytes === undefined ? {} : { bindingBytes });
    this.#groups = kernels.map(() => new Map());
  }

  /** The bind group of every kernel, null for copies. */
  forCall(places: readonly Place[]): readonly (GPUBindGroup | null)[] {
    return kept(this.#calls, places, () => this.#kernels.map((kernel, i) => this.#forKernel(kernel, i, places)));
  }

  #forKernel(kernel: BoundKernel, number: number, places: readonly Place[]): GPUBindGroup | null {
    const { pipeline, bindings } = kernel;
    if (pipeline === null) return null;
    const bound = kernel.places.map((place) => places[place]!);
    return kept(this.#groups[number]!, bound, () =>
      this.#device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: bound.map((place, binding) => ({ binding, resource: this.#resource(place, bindings[binding]!) })),
      }));
  }

  /** What a dispatch binds of a place. A slot may be larger than the value in it, and than a binding may be. */
  #resource(place: Place, { window }: Binding): GPUBindingResource {
    if ("texture" in place) return place.view;
    const { buffer } = place;
    if (window !== undefined) return { buffer, ...window };
    return buffer.size > this.#mostBytes ? { buffer, size: this.#mostBytes } : { buffer };
  }
}

/** What was made for these places, or makes it; the oldest is forgotten. */
function kept<T>(known: Map<string, T>, places: readonly Place[], make: () => T): T {
  let key = "";
  for (const { id } of places) key += `${id},`;
  const found = known.get(key);
  if (found !== undefined) return found;
  if (known.size >= CALLS_KEPT) known.delete(known.keys().next().value!);
  const made = make();
  known.set(key, made);
  return made;
}
