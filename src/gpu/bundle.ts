/**
 * Small dispatches that have nothing to do with each other, as one: the updates of a model's parameters, which differ in
 * length, or the sums of squares of its gradients. Each would cost more than its work.
 *
 * A dispatch joins an earlier one as far forward as what it reads allows. Its work stays what it was, element by element,
 * in a function of its own; which workgroup does which part of it is all that changes. On a software adapter the parts of
 * a dispatch share its workgroups, because it runs both sides of a condition, one of them masked: the more a workgroup has
 * to do, the less that matters. A GPU gives each part workgroups of its own.
 *
 * @module
 */
import type { AdapterTraits } from "../core/kernel.ts";
import { type Dispatch, foldGrid, SOFTWARE_LANES } from "./dispatch.ts";
import type { Binding, BufferRef } from "./module.ts";
import type { Origin } from "./origin.ts";

/** A dispatch with where it comes from. */
export interface Traced {
  /** The dispatch. */
  readonly dispatch: Dispatch;
  /** Its origin. */
  readonly origin: Origin;
}

/** What bundling has to respect. */
export interface BundleOptions {
  /** The adapter. */
  readonly adapter: Pick<AdapterTraits, "software">;
  /** Buffers one kernel may bind. */
  readonly maxBuffers: number;
  /** The memory behind a buffer: the argument's, for a result that takes it over. */
  memoryOf(buffer: BufferRef): BufferRef;
  /** Bytes of a temporary, which would be kept longer if it were made earlier; 0 for what is kept anyway. */
  temporaryBytes(buffer: BufferRef): number;
}

/** Bytes that a dispatch moves at most to be bundled: others are worth a dispatch of their own. */
const SMALL_BYTES = 6 * 2 ** 20;
/** Bytes of a temporary that may be made earlier than it has to be. */
const SMALL_TEMPORARY = 2 ** 16;
/** Dispatches by which one may move forward. */
const REACH = 64;
/** Dispatches of a bundle at most: their texts are compiled as one. */
const MOST_PARTS = 8;
/** Uniform buffers of a kernel at most. */
const MOST_UNIFORMS = 8;
/** Workgroups up to which each part of a bundle has its own on a software adapter. */
const FEW_WORKGROUPS = 32;
/** Invocations of a workgroup on a GPU. */
const HARDWARE_INVOCATIONS = 64;

/** A declared buffer in a kernel's text. */
const DECLARATION = /@group\(0\) @binding\(\d+\) (var<[^>]+>) (b\d+): ([^\n]+);\n/g;
/** A name of a declared buffer. */
const NAME = /\bb\d+\b/g;
/** Where the entry point of a kernel begins. */
const ENTRY = "@compute ";

/** One buffer of a kernel as it is declared. */
interface Declared {
  readonly binding: Binding;
  readonly name: string;
  /** Address space, access and type. */
  readonly kind: string;
}

/** What a dispatch of small work consists of. */
interface Part {
  readonly threads: number;
  readonly body: string;
  readonly declared: readonly Declared[];
  /** Functions and directives. */
  readonly prelude: string;
}

/** A place in the order of dispatches, with what it holds so far. */
interface Place {
  readonly members: Traced[];
  readonly parts: Part[] | null;
  readonly reads: Set<BufferRef>;
  readonly writes: Set<BufferRef>;
}

/** Bundles what may be bundled. The order of dispatches that depend on each other stays. */
export function bundleDispatches(traced: readonly Traced[], options: BundleOptions): readonly Traced[] {
  const places: Place[] = [];
  for (const each of traced) {
    const { bindings } = each.dispatch;
    const memory = (access: Binding["access"]) =>
      bindings.filter((binding) => binding.access === access).map(({ buffer }) => options.memoryOf(buffer));
    const [reads, writes] = [memory("read"), memory("read_write")];
    const part = partOf(each);
    const home = part === null || !isMovable(each.dispatch, options)
      ? undefined
      : places.slice(firstFree(places, reads, writes)).find((place) => fits(place, part, options));
    const place = home ?? { members: [], parts: part === null ? null : [], reads: new Set(), writes: new Set() };
    place.members.push(each);
    if (part !== null) place.parts?.push(part);
    reads.forEach((buffer) => place.reads.add(buffer));
    writes.forEach((buffer) => place.writes.add(buffer));
    if (home === undefined) places.push(place);
  }
  return places.map(({ members, parts }) => members.length === 1 ? members[0]! : joined(members, parts!, options));
}

/** The first place at which something may run that reads and writes some memory. */
function firstFree(places: readonly Place[], reads: readonly BufferRef[], writes: readonly BufferRef[]): number {
  const conflict = places.findLastIndex((place) =>
    reads.some((buffer) => place.writes.has(buffer)) ||
    writes.some((buffer) => place.writes.has(buffer) || place.reads.has(buffer))
  );
  return Math.max(conflict + 1, places.length - REACH);
}

/** Whether nothing large would be kept for longer if a dispatch ran earlier. */
function isMovable({ bindings }: Dispatch, { temporaryBytes }: BundleOptions): boolean {
  return bindings.every(({ access, buffer }) => access === "read" || temporaryBytes(buffer) <= SMALL_TEMPORARY);
}

/** A dispatch as a part of a larger one, or null if it cannot or should not be. */
function partOf({ dispatch: { items, wgsl, bindings }, origin }: Traced): Part | null {
  if (items === undefined || origin.bytes > SMALL_BYTES) return null;
  if (bindings.some(({ texture, window, uniform }) => texture || (window !== undefined && !uniform))) return null;
  const head = wgsl.slice(0, wgsl.indexOf(ENTRY));
  const found = [...head.matchAll(DECLARATION)];
  const declared = found.map(([, space, name, type], i) => ({
    binding: bindings[i]!,
    name: name!,
    kind: `${space}|${type}`,
  }));
  return { ...items, declared, prelude: head.replace(DECLARATION, "").trim() };
}

function fits({ parts }: Place, part: Part, { maxBuffers }: BundleOptions): boolean {
  if (parts === null || parts.length === 0 || parts.length >= MOST_PARTS) return false;
  const all = [...parts, part];
  const preludes = new Set(all.map(({ prelude }) => prelude).filter((text) => text !== ""));
  const declared = [...declarations(all).values()];
  const uniforms = declared.filter(({ binding }) => binding.uniform).length;
  return preludes.size <= 1 && uniforms <= MOST_UNIFORMS && declared.length <= maxBuffers;
}

/** What the parts declare, each once. */
function declarations(parts: readonly Part[]): ReadonlyMap<string, Declared> {
  return new Map(parts.flatMap(({ declared }) => declared).map((each) => [keyOf(each), each]));
}

function keyOf({ binding, kind }: Declared): string {
  return `${binding.buffer}|${kind}`;
}

function joined(members: readonly Traced[], parts: readonly Part[], { adapter }: BundleOptions): Traced {
  const declared = [...declarations(parts)];
  const names = new Map(declared.map(([key], i) => [key, `b${i}`]));
  const text = declared.map(([, { kind }], i) => {
    const [space, type] = kind.split("|");
    return `@group(0) @binding(${i}) ${space} b${i}: ${type};\n`;
  });
  const functions = parts.map(({ body, threads, declared }, i) => {
    const named = new Map(declared.map((each) => [each.name, names.get(keyOf(each))!]));
    const renamed = body.replace(NAME, (name) => named.get(name) ?? name);
    return `fn part_${i}(id: u32) {\nif (id >= ${threads}u) { return; }\n${renamed}\n}\n`;
  });
  const size = adapter.software ? SOFTWARE_LANES : HARDWARE_INVOCATIONS;
  const { groups, calls } = placed(parts.map(({ threads }) => Math.ceil(threads / size)), size, adapter);
  const workgroups = foldGrid(groups);
  const prelude = parts.find(({ prelude }) => prelude !== "")?.prelude ?? "";
  const wgsl = `${prelude}\n${text.join("")}${functions.join("")}${ENTRY}@workgroup_size(${size}, 1, 1)
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_id) lid: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
let group = wg.y * ${workgroups[0]}u + wg.x;
${calls}}
`;
  const bindings = declared.map(([, { binding }]) => binding);
  return {
    dispatch: { label: labelOf(members), wgsl, bindings, workgroups },
    origin: {
      ops: members.flatMap(({ origin }) => origin.ops),
      sites: [...new Set(members.flatMap(({ origin }) => origin.sites))],
      bytes: members.reduce((sum, { origin }) => sum + origin.bytes, 0),
      flop: null,
    },
  };
}

/** Which workgroups do which part, given the number that each part takes. */
function placed(
  counts: readonly number[],
  size: number,
  { software }: Pick<AdapterTraits, "software">,
): { readonly groups: number; readonly calls: string } {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const isShared = software && total > FEW_WORKGROUPS;
  const groups = isShared ? Math.max(...counts) : total;
  let start = 0;
  const calls = counts.map((count, i) => {
    const first = start;
    start += count;
    const call = (unit: string) => `part_${i}(${unit} * ${size}u + lane);`;
    if (!isShared) {
      return `if (group >= ${first}u && group < ${first + count}u) { ${call(`(group - ${first}u)`)} }\n`;
    }
    // Spread evenly: a driver gives each core one stretch of the workgroups.
    const apart = Math.floor(groups / count);
    return apart === 1
      ? `${call("group")}\n`
      : `if (group % ${apart}u == ${i % apart}u) { ${call(`group / ${apart}u`)} }\n`;
  });
  return { groups, calls: calls.join("") };
}

/** The labels of the parts, equal ones once with their number. */
function labelOf(members: readonly Traced[]): string {
  const labels = Map.groupBy(members.map(({ dispatch }) => dispatch.label), (label) => label);
  const texts = [...labels].map(([label, { length }]) => length === 1 ? label : `${length} x ${label}`);
  return texts.length <= 3 ? texts.join(" | ") : `${texts.slice(0, 2).join(" | ")} | ${texts.length - 2} more`;
}
