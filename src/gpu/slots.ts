/**
 * Which buffer holds which value: a value takes a whole slot from its first to its last use, and slots are reused.
 * Two live values never share one, so a dispatch never binds a buffer both for reading and for writing.
 *
 * @module
 */
import type { Dispatch } from "./lower.ts";
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

/** A slot may be up to this much larger than a value it takes in. */
const WASTE = 1.25;

/**
 * Assigns temporaries to slots.
 *
 * @param sizes Bytes of every temporary; buffers not listed (arguments, results) are not planned.
 */
export function planSlots(dispatches: readonly Dispatch[], sizes: ReadonlyMap<BufferRef, number>): SlotPlan {
  const first = new Map<BufferRef, number>();
  const last = new Map<BufferRef, number>();
  dispatches.forEach(({ bindings }, time) => {
    for (const { buffer } of bindings) {
      if (!sizes.has(buffer)) continue;
      if (!first.has(buffer)) first.set(buffer, time);
      last.set(buffer, time);
    }
  });
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
