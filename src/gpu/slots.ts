/**
 * Which buffer or texture holds which value: a value takes a whole slot from its first to its last use, and slots are
 * reused. Two live values never share one, so a dispatch never binds a buffer both for reading and for writing.
 *
 * @module
 */
import type { Dispatch, Textures } from "./lower.ts";
import type { BufferRef } from "./module.ts";

/** A reusable buffer. */
export interface Slot {
  /** Its size: the largest value it ever holds. */
  readonly bytes: number;
}

/** The result of planning. */
export interface SlotPlan {
  /** All slots. */
  readonly slots: readonly Slot[];
  /** Slot of each temporary. */
  readonly slotOf: ReadonlyMap<BufferRef, number>;
}

/** A reusable texture. */
export interface TextureSlot {
  /** Texels in a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
}

/** The result of planning textures. */
export interface TexturePlan {
  /** All slots. */
  readonly slots: readonly TextureSlot[];
  /** Slot of each texture. */
  readonly slotOf: ReadonlyMap<BufferRef, number>;
}

/** Bytes of a texel of four f32. */
const TEXEL_BYTES = 16;

/** Bytes of a texture. */
export function textureBytes({ width, height }: TextureSlot): number {
  return width * height * TEXEL_BYTES;
}

/** A slot while values are assigned to it. */
interface OpenSlot {
  readonly bytes: number;
  readonly taken: Lifetime[];
}

/**
 * Assigns temporaries to slots, the largest first, each to the smallest slot that is free all its life. So a slot never
 * grows, and what is left of the large ones goes to smaller values: a slot for two sizes costs no more than the larger one.
 *
 * @param sizes Bytes of every temporary; buffers not listed (arguments, results) are not planned.
 *
 * Source: "greedy by size for shared objects" of Pisarchyk and Lee 2020, arXiv 2001.03288.
 */
export function planSlots(dispatches: readonly Dispatch[], sizes: ReadonlyMap<BufferRef, number>): SlotPlan {
  const lifetimes = [...lifetimesOf(dispatches, sizes)].sort(([a], [b]) => sizes.get(b)! - sizes.get(a)!);
  const slots: OpenSlot[] = [];
  const slotOf = new Map<BufferRef, number>();
  for (const [buffer, life] of lifetimes) {
    // Slots are in the order of their sizes too, so the last one that is free is the smallest.
    let slot = slots.findLastIndex(({ taken }) => taken.every((other) => areApart(life, other)));
    if (slot < 0) slot = slots.push({ bytes: sizes.get(buffer)!, taken: [] }) - 1;
    slots[slot]!.taken.push(life);
    slotOf.set(buffer, slot);
  }
  return { slots: slots.map(({ bytes }) => ({ bytes })), slotOf };
}

/** From the first dispatch that binds a buffer or texture to the last. */
interface Lifetime {
  readonly first: number;
  readonly last: number;
}

function areApart(a: Lifetime, b: Lifetime): boolean {
  return a.last < b.first || b.last < a.first;
}

/** The lifetimes of some buffers or textures, by their beginning. */
function lifetimesOf(
  dispatches: readonly Dispatch[],
  planned: { has(buffer: BufferRef): boolean },
): ReadonlyMap<BufferRef, Lifetime> {
  const found = new Map<BufferRef, Lifetime>();
  dispatches.forEach(({ bindings }, time) => {
    for (const { buffer } of bindings) {
      if (planned.has(buffer)) found.set(buffer, { first: found.get(buffer)?.first ?? time, last: time });
    }
  });
  return found;
}

/** Assigns textures to slots of their very size: a driver may compile a kernel again for textures of another kind of size. */
export function planTextures(dispatches: readonly Dispatch[], textures: Textures): TexturePlan {
  const slots: { width: number; height: number; freeFrom: number }[] = [];
  const slotOf = new Map<BufferRef, number>();
  for (const [name, { first, last }] of lifetimesOf(dispatches, textures)) {
    const { width, height } = textures.get(name)!;
    let slot = slots.findIndex((other) => other.width === width && other.height === height && other.freeFrom <= first);
    if (slot < 0) slot = slots.push({ width, height, freeFrom: 0 }) - 1;
    slots[slot]!.freeFrom = last + 1;
    slotOf.set(name, slot);
  }
  return { slots: slots.map(({ width, height }) => ({ width, height })), slotOf };
}
