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

/** A slot may be up to this much larger than a value it takes in. */
const WASTE = 1.25;

/**
 * Assigns temporaries to slots.
 *
 * @param sizes Bytes of every temporary; buffers not listed (arguments, results) are not planned.
 */
export function planSlots(dispatches: readonly Dispatch[], sizes: ReadonlyMap<BufferRef, number>): SlotPlan {
  const { first, last } = lifetimesOf(dispatches, sizes);
  const slots: { bytes: number; freeFrom: number }[] = [];
  const slotOf = new Map<BufferRef, number>();
  for (const [buffer, start] of [...first].sort((a, b) => a[1] - b[1])) {
    const bytes = sizes.get(buffer)!;
    const end = last.get(buffer)!;
    let best = -1;
    slots.forEach((slot, i) => {
      if (slot.freeFrom > start) return;
      const fits = slot.bytes >= bytes && slot.bytes <= bytes * WASTE;
      if (fits && (best < 0 || slot.bytes < slots[best]!.bytes)) best = i;
    });
    if (best < 0) best = slots.push({ bytes, freeFrom: 0 }) - 1;
    slots[best]!.freeFrom = end + 1;
    slotOf.set(buffer, best);
  }
  // Largest first: all programs share the device's slots by number, so similar sizes should meet.
  const order = slots.map((_, i) => i).sort((a, b) => slots[b]!.bytes - slots[a]!.bytes);
  return {
    slots: order.map((i) => ({ bytes: slots[i]!.bytes })),
    slotOf: new Map([...slotOf].map(([buffer, slot]) => [buffer, order.indexOf(slot)])),
  };
}

/** The first and last dispatch that binds each of some buffers or textures. */
function lifetimesOf(
  dispatches: readonly Dispatch[],
  planned: { has(buffer: BufferRef): boolean },
): { readonly first: ReadonlyMap<BufferRef, number>; readonly last: ReadonlyMap<BufferRef, number> } {
  const first = new Map<BufferRef, number>();
  const last = new Map<BufferRef, number>();
  dispatches.forEach(({ bindings }, time) => {
    for (const { buffer } of bindings) {
      if (!planned.has(buffer)) continue;
      if (!first.has(buffer)) first.set(buffer, time);
      last.set(buffer, time);
    }
  });
  return { first, last };
}

/** Assigns textures to slots of their very size: a driver may compile a kernel again for textures of another kind of size. */
export function planTextures(dispatches: readonly Dispatch[], textures: Textures): TexturePlan {
  const { first, last } = lifetimesOf(dispatches, textures);
  const slots: { width: number; height: number; freeFrom: number }[] = [];
  const slotOf = new Map<BufferRef, number>();
  for (const [name, start] of [...first].sort((a, b) => a[1] - b[1])) {
    const { width, height } = textures.get(name)!;
    let slot = slots.findIndex((other) => other.width === width && other.height === height && other.freeFrom <= start);
    if (slot < 0) slot = slots.push({ width, height, freeFrom: 0 }) - 1;
    slots[slot]!.freeFrom = last.get(name)! + 1;
    slotOf.set(name, slot);
  }
  return { slots: slots.map(({ width, height }) => ({ width, height })), slotOf };
}
