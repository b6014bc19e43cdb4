/**
 * Map groups to dispatches: elementwise work, and reductions over leading axes by a loop in each invocation.
 *
 * @module
 */
import type { Graph, GraphNode } from "../core/graph.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import { bufferOf, bytesOfBuffers, type Dispatch, emitterFor, finish, labelOf, SOFTWARE_LANES } from "./dispatch.ts";
import type { Fusion, Group } from "./fuse.ts";
import { type BufferRef, ModuleWriter, uniformBytesFor } from "./module.ts";
import { partHead, partsOf } from "./parts.ts";
import { isReduce } from "./reads.ts";

/** Steps of a software adapter's invocation at most. */
const MOST_STEPS = 16;
/** Vectors of invocations that are left for the cores to share, however many steps each takes. */
const ENOUGH_VECTORS = 32;
/** Invocations of a workgroup that take several steps, where enough of such workgroups are left. */
const LARGE_WORKGROUP = 64;

/**
 * Lowers a map group: one invocation for four elements (for one if the group holds a reduction whose results do not lie
 * together), or for several times four on software adapters; one dispatch for each part.
 *
 * @param inPlace Arguments whose buffer a result takes over in the very kernel that reads them: argument to result.
 */
export function lowerMap(
  graph: Graph,
  fusion: Fusion,
  group: Group,
  adapter: AdapterTraits,
  inPlace: ReadonlyMap<BufferRef, BufferRef>,
): readonly Dispatch[] {
  const written = new Set(group.stored.map(bufferOf));
  const wide = group.members.every((node) => !isReduce(node) || isReduceOfColumns(graph, node));
  const packed = group.stored.some((id) => graph.avals[id]!.dtype === "bf16");
  const lanes = packed || (wide && group.rows > 1) ? 4 : 1;
  const shared = new Map([...inPlace].filter(([, result]) => written.has(result)));
  const bytesOf = bytesOfBuffers(graph);
  const parts = partsOf(graph, group, adapter);
  const uniformBytes = uniformBytesFor(adapter);
  return parts.map((part, number) => {
    const module = new ModuleWriter({ written, adapter, bytesOf, inPlace: shared, width: lanes, part, uniformBytes });
    const emitter = emitterFor(graph, fusion, group, module);
    const emit = (index: string) => {
      // All loads come before the first store: a result may lie in the buffer of an argument.
      const values = group.stored.map((id) => emitter.value(id, emitter.linear(graph.avals[id]!.shape, index), lanes));
      group.stored.forEach((id, i) =>
        emitter.line(module.store(bufferOf(id), graph.avals[id]!.dtype, index, values[i]!, lanes))
      );
    };
    const threads = Math.ceil((part?.count ?? group.rows) / lanes);
    const steps = part === undefined && lanes === 4 ? stepsFor(group, threads, adapter) : 1;
    if (steps > 1) {
      const stride = SOFTWARE_LANES * lanes;
      const start = emitter.bind(`id / ${SOFTWARE_LANES}u * ${stride * steps}u + id % ${SOFTWARE_LANES}u * ${lanes}u`);
      const end = emitter.bind(`min(${start} + ${stride * steps}u, ${group.rows}u)`);
      emitter.loop(start, end, stride, emit);
      const vectors = Math.ceil(threads / (SOFTWARE_LANES * steps));
      const isMany = vectors * SOFTWARE_LANES >= ENOUGH_VECTORS * LARGE_WORKGROUP;
      const size = isMany ? LARGE_WORKGROUP : SOFTWARE_LANES;
      return finish(labelOf(group), module, vectors * SOFTWARE_LANES, adapter, emitter.text, size);
    }
    emit(part?.index.whole ?? (lanes === 4 ? emitter.bind("id * 4u") : group.rows === 1 ? "0u" : "id"));
    if (part === undefined) return finish(labelOf(group), module, threads, adapter, emitter.text);
    const label = `${labelOf(group)} ${number + 1}/${parts.length}`;
    return finish(label, module, threads, adapter, `${partHead(part, lanes, emitter.text)}\n${emitter.text}`);
  });
}

/**
 * Vec4s that an invocation takes one after another. A software adapter starts eight invocations in the time of half a
 * load and a store, so they should do more than one of each. A loop costs no compile time, unlike steps written out.
 */
function stepsFor(group: Group, threads: number, adapter: AdapterTraits): number {
  // Reductions are loops of their own, and the adapter counts the iterations of all loops together.
  if (!adapter.software || group.members.some(isReduce)) return 1;
  return Math.max(1, Math.min(MOST_STEPS, Math.floor(threads / SOFTWARE_LANES / ENOUGH_VECTORS)));
}

/** Whether four results of a reduction lie together, and so do what they are made of. */
function isReduceOfColumns(graph: Graph, node: GraphNode): boolean {
  const { lower } = node.primitive;
  if (lower.as !== "reduce") return false;
  const { shape } = graph.avals[node.inputs[0]!]!;
  const last = shape.length - 1;
  return !lower.axes(node.attrs).includes(last) && shape[last]! % 4 === 0 && !(lower.parts?.(node.attrs));
}
