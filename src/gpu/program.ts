/**
 * A Program: the dispatches of a compiled graph, their buffers and the order. It holds no GPU object and prints.
 *
 * @module
 */
import { type Aval, formatAval } from "../core/shape.ts";
import { DTypeError } from "../core/errors.ts";
import type { Graph, ValueId } from "../core/graph.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import type { MemoryPlan } from "../core/runtime.ts";
import { simplify } from "../core/simplify.ts";
import { takesStep } from "./anchors.ts";
import { expectBindable } from "./bindable.ts";
import { bundleDispatches, type Traced } from "./bundle.ts";
import { bytesOf, fuse, type FuseOptions, type Fusion } from "./fuse.ts";
import { type Dispatch, lowerGroup, type Textures } from "./lower.ts";
import type { Binding, BufferRef } from "./module.ts";
import { type Origin, originOf } from "./origin.ts";
import { rollLoops } from "./rolled_loops.ts";
import { planSlots, planTextures, type Slot, textureBytes, type TexturePlan } from "./slots.ts";
import { shareTexts } from "./share.ts";
import { splitReductions } from "./split.ts";
import { widenKernels } from "./widen.ts";

/** Where a result of a program comes from. */
export type Result =
  | { readonly from: "kernel"; readonly buffer: BufferRef; readonly bytes: number; readonly takes: number | null }
  | { readonly from: "argument"; readonly argument: number; readonly bytes: number }
  | { readonly from: "result"; readonly result: number; readonly bytes: number };

/** A compiled graph without any GPU object. */
export interface Program {
  /** Name for people and profiles. */
  readonly label: string;
  /** Kernels in order. */
  readonly dispatches: readonly Dispatch[];
  /** Where each of them comes from. */
  readonly origins: readonly Origin[];
  /** Buffer names of the arguments, captured constants after them. */
  readonly arguments: readonly BufferRef[];
  /** The results. */
  readonly results: readonly Result[];
  /** Temporary buffers. */
  readonly slots: readonly Slot[];
  /** Slot of each temporary. */
  readonly slotOf: ReadonlyMap<BufferRef, number>;
  /** Bytes of each temporary. */
  readonly sizes: ReadonlyMap<BufferRef, number>;
  /** Textures that kernels fill and read. */
  readonly textures: TexturePlan;
  /** Bytes of all slots and textures together. */
  readonly scratchBytes: number;
  /** What it needs, arguments and results included. */
  readonly memory: MemoryPlan;
  /** The largest buffer that its kernels write. */
  readonly largest: { readonly bytes: number; readonly what: string };
  /** Prints kernels, buffers and sizes. */
  toString(): string;
}

/** Options of {@linkcode compileProgram}. */
export interface CompileOptions extends FuseOptions {
  /** The adapter kernels are written for. */
  readonly adapter: AdapterTraits;
  /** Name for people and profiles. */
  readonly label: string;
  /** Arguments whose buffers results may take over. */
  readonly donated?: readonly boolean[];
}

interface Takeover {
  readonly argument: number;
  /** The kernel that writes the result is the one that reads the argument, so it binds one buffer for both. */
  readonly inPlace: boolean;
}

/**
 * Compiles a frozen graph. Pure: nothing is asked of a device.
 *
 * @throws {DTypeError} If it holds f16 and the adapter has none.
 * @throws {OutOfMemoryError} If a kernel would need more bindings than it may have to see values that are larger than one.
 */
export function compileProgram(frozen: Graph, options: CompileOptions): Program {
  expectTypes(frozen, options);
  const graph = splitReductions(widenKernels(simplify(frozen)), options.adapter);
  const fusion = fuse(graph, options);
  const traced: Traced[] = [];
  const sizes = new Map<BufferRef, number>();
  const argumentIds = [...graph.inputs, ...graph.constants.map(({ value }) => value)];
  const takeovers = planTakeovers(graph, fusion, argumentIds, options.donated ?? []);
  const inPlace = new Map<BufferRef, BufferRef>();
  const filled: Textures = new Map();
  for (const [id, { argument, inPlace: same }] of takeovers) {
    if (same) inPlace.set(`%${argumentIds[argument]}`, `%${id}`);
  }
  for (const group of fusion.groups) {
    const lowered = lowerGroup(graph, fusion, group, options.adapter, inPlace, filled);
    expectBindable(lowered.dispatches, options, (buffer) => typeOf(graph.avals, buffer) ?? "scratch");
    traced.push(...lowered.dispatches.map((dispatch) => ({ dispatch, origin: originOf(graph, group, dispatch) })));
    for (const { buffer, bytes } of lowered.scratch) sizes.set(buffer, bytes);
    for (const id of group.stored) sizes.set(`%${id}`, bytesOf(graph, id));
  }
  const [largest = ["", 0] as const] = [...sizes].sort((a, b) => b[1] - a[1]);
  const results = resultsOf(graph, argumentIds, takeovers);
  for (const result of results) if (result.from === "kernel") sizes.delete(result.buffer);
  const memory = new Map([...takeovers].map(([id, { argument }]) => [`%${id}`, `%${argumentIds[argument]}`]));
  const bundled = !takesStep("bundles", options.fusion) ? traced : bundleDispatches(traced, {
    ...options,
    memoryOf: (buffer) => memory.get(buffer) ?? buffer,
    temporaryBytes: (buffer) => sizes.get(buffer) ?? 0,
  });
  const dispatches = bundled.map(({ dispatch }) => dispatch);
  const shared = rollLoops(shareTexts(dispatches, options.adapter), options.adapter);
  const { slots, slotOf } = planSlots(dispatches, sizes);
  const textures = planTextures(dispatches, filled);
  const scratchBytes = slots.reduce((total, { bytes }) => total + bytes, 0) +
    textures.slots.reduce((total, slot) => total + textureBytes(slot), 0);
  const program = {
    label: options.label,
    dispatches: shared,
    origins: bundled.map(({ origin }) => origin),
    arguments: argumentIds.map((id): BufferRef => `%${id}`),
    results,
    slots,
    slotOf,
    sizes,
    textures,
    scratchBytes,
    memory: memoryOf(argumentIds.map((id) => bytesOf(graph, id)), results, scratchBytes),
    largest: { what: typeOf(graph.avals, largest[0]) ?? "scratch", bytes: largest[1] },
  };
  return printable(program, graph.avals);
}

function memoryOf(argumentSizes: readonly number[], results: readonly Result[], scratchBytes: number): MemoryPlan {
  const argumentBytes = argumentSizes.reduce((sum, bytes) => sum + bytes, 0);
  const resultBytes = results.reduce((sum, result) => {
    return sum + (result.from === "kernel" && result.takes !== null ? 0 : result.bytes);
  }, 0);
  return { argumentBytes, resultBytes, scratchBytes, peakBytes: argumentBytes + resultBytes + scratchBytes };
}

/** Refuses f16 where the adapter cannot load it. */
function expectTypes(graph: Graph, { adapter, label }: CompileOptions): void {
  const half = adapter.f16 ? undefined : graph.avals.find(({ dtype }) => dtype === "f16");
  if (half === undefined) return;
  throw new DTypeError("dtype/no-f16", {
    summary: `Cannot compile ${label}: it has ${formatAval(half)}, and the adapter has no shader-f16`,
    facts: [["adapter", adapter.name]],
    fix: "use bf16, which every adapter stores, or f32",
  });
}

/** Adds the printer, which must not hold on to the graph: its constants are tensors, and programs are kept for long. */
function printable(program: Omit<Program, "toString">, avals: readonly Aval[]): Program {
  return { ...program, toString: () => print(program, avals) };
}

/**
 * Which donated argument's buffer each result takes over. The sizes must agree, and either no group reads the argument
 * from the result's group on, or only that group does and only at the element it writes: then it works in place.
 */
function planTakeovers(
  graph: Graph,
  fusion: Fusion,
  argumentIds: readonly ValueId[],
  donated: readonly boolean[],
): ReadonlyMap<ValueId, Takeover> {
  const lastRead = new Map<ValueId, number>();
  const madeIn = new Map<ValueId, number>();
  fusion.groups.forEach((group, time) => {
    for (const id of group.reads.keys()) lastRead.set(id, time);
    for (const id of group.stored) madeIn.set(id, time);
  });
  const free = argumentIds.map((id, argument) => ({ id, argument }))
    .filter(({ id, argument }) => donated[argument] && !graph.outputs.includes(id));
  const taken = new Map<ValueId, Takeover>();
  // First those in place: fusion counts on them to stay within the buffers a kernel may bind.
  for (const inPlace of [true, false]) {
    for (const id of new Set(graph.outputs)) {
      const time = madeIn.get(id);
      if (time === undefined || taken.has(id)) continue;
      const group = fusion.groups[time]!;
      const place = free.findIndex((other) => {
        if (bytesOf(graph, other.id) !== bytesOf(graph, id)) return false;
        const last = lastRead.get(other.id) ?? -1;
        if (!inPlace) return last < time;
        return last === time && group.kind === "map" && group.reads.get(other.id) === "same" &&
          graph.avals[other.id]!.dtype === graph.avals[id]!.dtype;
      });
      if (place < 0) continue;
      const [{ argument }] = free.splice(place, 1) as [{ id: ValueId; argument: number }];
      taken.set(id, { argument, inPlace });
    }
  }
  return taken;
}

function resultsOf(
  graph: Graph,
  argumentIds: readonly ValueId[],
  takeovers: ReadonlyMap<ValueId, Takeover>,
): Result[] {
  const seen = new Map<ValueId, number>();
  return graph.outputs.map((id, number): Result => {
    const bytes = bytesOf(graph, id);
    const twin = seen.get(id);
    if (twin !== undefined) return { from: "result", result: twin, bytes };
    seen.set(id, number);
    const argument = argumentIds.indexOf(id);
    if (argument >= 0) return { from: "argument", argument, bytes };
    return { from: "kernel", buffer: `%${id}`, bytes, takes: takeovers.get(id)?.argument ?? null };
  });
}

/** Type and shape of a buffer that holds a value; undefined for a kernel's own scratch. */
function typeOf(avals: readonly Aval[], buffer: BufferRef): string | undefined {
  const id = /^%(\d+)$/.exec(buffer)?.[1];
  return id === undefined ? undefined : formatAval(avals[Number(id)]!);
}

function print(
  { label, dispatches, results, slots, slotOf, textures, scratchBytes }: Omit<Program, "toString">,
  avals: readonly Aval[],
): string {
  const nameOf = (buffer: BufferRef) => {
    const texture = textures.slotOf.get(buffer);
    if (texture !== undefined) {
      const { width, height } = textures.slots[texture]!;
      return `${buffer} ${width} x ${height} texels in texture ${texture}`;
    }
    const slot = slotOf.get(buffer);
    const name = [buffer, typeOf(avals, buffer) ?? []].flat().join(" ");
    return slot === undefined ? name : `${name} in slot ${slot}`;
  };
  /** Windows of one buffer as one name. */
  const namesOf = (bindings: readonly Binding[]) =>
    bindings.flatMap(({ buffer, window }, i) => {
      if (window === undefined) return [nameOf(buffer)];
      const windows = bindings.filter((other) => other.buffer === buffer);
      if (windows.length === 1) return [nameOf(buffer)];
      return windows[0] === bindings[i] ? [`${nameOf(buffer)} in ${windows.length} windows`] : [];
    });
  const lines = dispatches.map(({ label: kernel, bindings, workgroups, copy }, i) => {
    const reads = namesOf(bindings.filter(({ access }) => access === "read"));
    const writes = namesOf(bindings.filter(({ access }) => access !== "read"));
    const grid = copy === undefined ? workgroups.join(" x ") : "copy";
    return `  ${String(i).padStart(3)}  ${kernel}  [${grid}]  (${reads.join(", ")}) -> ${writes.join(", ")}`;
  });
  const takeovers = results.filter((result) => result.from === "kernel" && result.takes !== null).length;
  return [
    `program ${label}: ${dispatches.length} dispatches, ${slots.length} slots, ${
      textures.slots.length > 0 ? `${textures.slots.length} textures, ` : ""
    }${scratchBytes} bytes of scratch, ${takeovers} buffers taken over`,
    ...lines,
  ].join("\n");
}
