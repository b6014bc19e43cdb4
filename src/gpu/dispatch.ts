/**
 * What every kind of kernel needs on its way to a dispatch: names, grids and the text around a body.
 *
 * @module
 */
import type { Graph, ValueId } from "../core/graph.ts";
import type { AdapterTraits, TextureRegion } from "../core/kernel.ts";
import { Emitter } from "./emit.ts";
import { bytesOf, type Fusion, type Group } from "./fuse.ts";
import type { Binding, BufferRef, ModuleWriter } from "./module.ts";

/** A copy from a buffer to a texture, which the driver does between two passes. */
export interface TextureCopy {
  /** The buffer. */
  readonly from: BufferRef;
  /** The texture. */
  readonly to: BufferRef;
  /** What is copied. */
  readonly regions: readonly TextureRegion[];
}

/** One dispatch of a program. */
export interface Dispatch {
  /** Name for people and profiles. */
  readonly label: string;
  /** The whole module; also the key of the pipeline cache. Empty for a copy. */
  readonly wgsl: string;
  /** What to copy, if it is no dispatch but a copy. */
  readonly copy?: TextureCopy;
  /** Buffers by binding number. */
  readonly bindings: readonly Binding[];
  /** Grid. */
  readonly workgroups: readonly [number, number, number];
  /** What it does for each of some items by itself, so that it can be bundled with others; see bundle.ts. */
  readonly items?: DispatchItems;
}

/** Work on items that do not need each other. */
export interface DispatchItems {
  /** Number of items. */
  readonly threads: number;
  /** Statements for one item, whose number is `id`. */
  readonly body: string;
}

/** A temporary buffer of one hand-written kernel. */
export interface Scratch {
  /** Its name among the program's buffers. */
  readonly buffer: BufferRef;
  /** Its size. */
  readonly bytes: number;
}

const MAX_WORKGROUPS = 65_535;

/** Lanes of a software adapter's vectors: a workgroup of that size runs in step, and its barriers cost nothing. */
export const SOFTWARE_LANES = 8;

/** Name of a group: the ops it computes. */
export function labelOf(group: Group): string {
  const names = group.members.map((node) => node.primitive.name);
  return names.length <= 4 ? names.join("+") : `${names.slice(0, 3).join("+")}+${names.length - 3} more`;
}

/** Invocations from which a GPU is full of them, and starting fewer, larger workgroups takes less. */
const MANY_THREADS = 2 ** 18;

/**
 * Invocations of a workgroup. On a CPU a workgroup is a task: small ones spread few invocations over the cores. A GPU
 * spreads few invocations better in small ones too.
 */
export function workgroupSizeFor(threads: number, adapter: AdapterTraits): number {
  if (adapter.software) return threads < 8192 ? 8 : 64;
  return threads >= MANY_THREADS ? 256 : 64;
}

/** Folds a number of workgroups onto two axes, each within the limit. There may be a few more of them then. */
export function foldGrid(groups: number): [number, number, number] {
  if (groups <= MAX_WORKGROUPS) return [groups, 1, 1];
  const columns = Math.ceil(Math.sqrt(groups));
  return [columns, Math.ceil(groups / columns), 1];
}

/** Declares `id`, the number of the invocation in a folded grid, and ends those past the last. */
export function threadHead(threads: number, size: number, columns: number): string {
  return `let id = (wg.y * ${columns}u + wg.x) * ${size}u + lane;\nif (id >= ${threads}u) { return; }`;
}

/** An emitter for a group's own members: what others made is loaded. */
export function emitterFor(graph: Graph, fusion: Fusion, group: Group, module: ModuleWriter): Emitter {
  const own = new Set(group.members.flatMap((node) => node.outputs));
  return new Emitter(graph, fusion.producer, module, (id) => fusion.buffered.has(id) && !own.has(id));
}

/** Name of the buffer that holds a value. */
export function bufferOf(id: ValueId): BufferRef {
  return `%${id}`;
}

/**
 * Tells the bytes of a program's buffers by name.
 *
 * @param scratch Temporary buffers of a hand-written kernel, which are no values of the graph.
 */
export function bytesOfBuffers(graph: Graph, scratch: readonly Scratch[] = []): (buffer: BufferRef) => number {
  return (buffer) => scratch.find((own) => own.buffer === buffer)?.bytes ?? bytesOf(graph, Number(buffer.slice(1)));
}

/**
 * The dispatch of a body for one invocation each, `id`.
 *
 * @param size Invocations of a workgroup.
 */
export function finish(
  label: string,
  module: ModuleWriter,
  threads: number,
  adapter: AdapterTraits,
  body: string,
  size: number = workgroupSizeFor(threads, adapter),
): Dispatch {
  const workgroups = foldGrid(Math.ceil(threads / size));
  const wgsl = module.render([size, 1, 1], threadHead(threads, size, workgroups[0]), body);
  return { label, wgsl, bindings: module.bindings, workgroups, items: { threads, body } };
}
