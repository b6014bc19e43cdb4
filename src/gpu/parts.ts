/**
 * Parts: a map kernel over values that are larger than one binding may be runs once for each stretch of elements, and
 * binds only that stretch of what it reads and writes in step. Other values it reads are bound as windows.
 *
 * @module
 */
import type { Graph } from "../core/graph.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import { windowBytes } from "../core/windows.ts";
import { bufferOf } from "./dispatch.ts";
import { bytesOf, type Group } from "./fuse.ts";
import type { Part } from "./views.ts";

/** Bytes of the widest element. Parts are of one length whatever a value's type, so that they are the same elements. */
const WIDEST = 4;
/** Parts begin at multiples of so many elements, at which a window of any type may start. */
const STEP = 128;

/** The parts of a map group's domain in order, or undefined alone if one dispatch can bind all it needs. */
export function partsOf(
  graph: Graph,
  group: Group,
  adapter: Pick<AdapterTraits, "bindingBytes">,
): readonly (Part | undefined)[] {
  const inStep = [...group.stored, ...[...group.reads].flatMap(([id, at]) => at === "same" ? [id] : [])];
  const most = windowBytes(adapter);
  if (inStep.every((id) => bytesOf(graph, id) <= most)) return [undefined];
  const length = Math.floor(most / WIDEST / STEP) * STEP;
  const buffers = new Set(inStep.map(bufferOf));
  return Array.from({ length: Math.ceil(group.rows / length) }, (_, i) => ({
    start: i * length,
    count: Math.min(length, group.rows - i * length),
    buffers,
    index: { whole: "at", own: "here" },
  }));
}

/**
 * Declares the indices of a part. The one that counts from the beginning of the values is left out where the body does
 * not name it: parts of one length then share one text, which is compiled once.
 */
export function partHead({ start, index: { whole, own } }: Part, lanes: 1 | 4, body: string): string {
  const declared = `let ${own} = id${lanes === 4 ? " * 4u" : ""};`;
  return new RegExp(`\\b${whole}\\b`).test(body) ? `${declared}\nlet ${whole} = ${own} + ${start}u;` : declared;
}
