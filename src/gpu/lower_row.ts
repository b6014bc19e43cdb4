/**
 * Row groups to dispatches: reductions over whole rows, what follows from them, and elementwise work on the rows.
 *
 * How many invocations share a row depends on the adapter and the row (`layoutOf`). Sharing keeps neighbors on
 * neighboring elements and a row's values in registers from one reduction to the next, so a row is loaded once; the
 * shares are joined through workgroup memory, always in the same order.
 *
 * @module
 */
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import type { AdapterTraits, Index, Lowering } from "../core/kernel.ts";
import { sizeOf } from "../core/shape.ts";
import { windowBytes } from "../core/windows.ts";
import {
  bufferOf,
  bytesOfBuffers,
  type Dispatch,
  emitterFor,
  finish,
  foldGrid,
  labelOf,
  SOFTWARE_LANES,
} from "./dispatch.ts";
import type { Emitter } from "./emit.ts";
import type { Fusion, Group } from "./fuse.ts";
import type { Textures } from "./lower.ts";
import { type BufferRef, LANES, ModuleWriter, uniformBytesFor, wgslType } from "./module.ts";
import { headOf, layoutOf, type RowLayout } from "./row_layout.ts";
import { copiesFor, type RowTexture, rowTextures } from "./row_textures.ts";
import { walkOf } from "./row_walk.ts";

type Reduce = Extract<Lowering<unknown>, { as: "reduce" }>;

/**
 * Lowers a row group: its kernel, after copies of what it reads through textures.
 *
 * @param textures What kernels of the program have filled; this one's are added.
 */
export function lowerRow(
  graph: Graph,
  fusion: Fusion,
  group: Group,
  adapter: AdapterTraits,
  textures: Textures,
): readonly Dispatch[] {
  const stages = stagesOf(fusion, group);
  const isFull = (id: ValueId) => sizeOf(graph.avals[id]!.shape) === group.rows * group.inner;
  const full = group.stored.filter(isFull);
  const passes = stages.length + (full.length > 0 ? 1 : 0);
  const bytesOf = bytesOfBuffers(graph);
  const apart = full.some((id) => bytesOf(bufferOf(id)) > windowBytes(adapter));
  const layout = layoutOf({ inner: group.inner, reductions: stages.flat().length, passes, apart }, adapter);
  const written = group.stored.map(bufferOf);
  const texels: ReadonlyMap<BufferRef, RowTexture> = layout.width === 4
    ? rowTextures(graph, group, { adapter, textures, loads: layout.unrolled || passes === 1 ? "once" : "often" })
    : new Map();
  const module = new ModuleWriter({ written, adapter, bytesOf, uniformBytes: uniformBytesFor(adapter), texels });
  const emitter = emitterFor(graph, fusion, group, module);
  const walk = walkOf(group, layout, emitter);
  const { width } = layout;
  function at(id: ValueId, index: string): Index {
    return emitter.linear(graph.avals[id]!.shape, index);
  }
  let shares = 0;
  for (const stage of stages) {
    const sums = stage.map((node) => {
      const lower = node.primitive.lower as Reduce;
      const { dtype } = graph.avals[node.outputs[0]!]!;
      const t = wgslType(dtype, width);
      return { node, lower, dtype, t, name: emitter.variable(t, lower.identity(dtype)) };
    });
    walk.overRow((index, inside) => {
      for (const { node, lower, dtype, t, name } of sums) {
        const element = emitter.value(node.inputs[0]!, at(node.inputs[0]!, index), width);
        const real = inside === null
          ? element
          : `select(${t}(${lower.identity(dtype)}), ${element}, ${inside.condition})`;
        emitter.line(`${name} = ${lower.combine(name, real, t)};`);
      }
    });
    const totals = sums.map(({ lower, dtype, name }) =>
      width === 4 ? emitter.bind(emitter.fold(lower, name, dtype)) : name
    );
    const joined = sums.map(({ lower, dtype }, i) => ({ lower, type: wgslType(dtype, 1), share: totals[i]! }));
    joinLanes(joined, layout, emitter, module, shares).forEach((total, i) =>
      emitter.know(sums[i]!.node.outputs[0]!, walk.row, 1, total)
    );
    shares += sums.length;
  }
  const valueAt = (id: ValueId, index: string, lanes: 1 | 4) => emitter.value(id, at(id, index), lanes);
  const store = (id: ValueId, index: string, value: string, lanes: 1 | 4) =>
    module.store(bufferOf(id), graph.avals[id]!.dtype, index, value, lanes);
  const ofRow = group.stored.filter((id) => !isFull(id)).map((id) => store(id, walk.row, valueAt(id, walk.row, 1), 1));
  if (ofRow.length > 0) walk.once(() => ofRow.forEach((text) => emitter.line(text)));
  if (full.length > 0) {
    walk.overRow((index, inside) => {
      const values = full.map((id) => ({ id, value: valueAt(id, index, width) }));
      if (!inside?.each) {
        walk.guarded(inside, () => values.forEach(({ id, value }) => emitter.line(store(id, index, value, width))));
        return;
      }
      for (const lane of LANES) {
        walk.guarded(
          { condition: `${inside.condition}.${lane}`, each: false },
          () =>
            values.forEach(({ id, value }) =>
              emitter.line(module.storeLane(bufferOf(id), graph.avals[id]!.dtype, index, value, lane))
            ),
        );
      }
    });
  }
  const copies = copiesFor(module.bindings, texels, textures);
  if (layout.lanes === 1) return [...copies, finish(labelOf(group), module, group.rows, adapter, emitter.text)];
  const workgroups = foldGrid(Math.ceil(group.rows / layout.rows));
  const wgsl = module.render([layout.lanes * layout.rows, 1, 1], headOf(group, layout, workgroups), emitter.text);
  return [...copies, { label: labelOf(group), wgsl, bindings: module.bindings, workgroups }];
}

/** One reduction of a stage: what an invocation found, to be joined with what the others of its row did. */
interface Share {
  readonly lower: Reduce;
  readonly type: string;
  readonly share: string;
}

/**
 * Joins the shares of a row's invocations; every one of them gets the totals.
 *
 * With subgroups (not in Deno's WGSL yet) this is the place to use them: rows of up to a subgroup's lanes need no
 * workgroup memory then, and longer ones one word for each subgroup.
 *
 * @param first Number of the first reduction: each has its own words, so that one barrier is enough.
 */
function joinLanes(
  shares: readonly Share[],
  { lanes, rows }: RowLayout,
  emitter: Emitter,
  module: ModuleWriter,
  first: number,
): readonly string[] {
  if (lanes === 1) return shares.map(({ share }) => share);
  const names = shares.map(({ type, share }, i) => {
    const name = `shares_${first + i}`;
    module.prelude(name, `var<workgroup> ${name}: array<${type}, ${lanes * rows}>;`);
    emitter.line(`${name}[lane] = ${share};`);
    return name;
  });
  emitter.line("workgroupBarrier();");
  // Few shares are joined by everyone; many by halves.
  for (let half = lanes / 2; half >= SOFTWARE_LANES; half /= 2) {
    emitter.when(`share < ${half}u`, () =>
      shares.forEach(({ lower, type }, i) => {
        const mine = `${names[i]}[lane]`;
        emitter.line(`${mine} = ${lower.combine(mine, `${names[i]}[lane + ${half}u]`, type)};`);
      }));
    emitter.line("workgroupBarrier();");
  }
  const left = Math.min(lanes, SOFTWARE_LANES);
  return shares.map(({ lower, type, share }, i) => {
    const start = rows === 1 ? 0 : emitter.bind("lane - share");
    let parts = Array.from(
      { length: left },
      (_, k) => emitter.variable(type, `${names[i]}[${start === 0 ? `${k}u` : k === 0 ? start : `${start} + ${k}u`}]`),
    );
    // The first share is read back as it was, but in the invocation that has it: a share that is used behind the barrier
    // too is computed once. LLVM would else move all of a sum into the loop that stores its lanes one by one.
    if (lanes <= SOFTWARE_LANES) parts[0] = emitter.bind(`select(${parts[0]}, ${share}, share == 0u)`);
    while (parts.length > 1) {
      const half = parts.length / 2;
      parts = parts.slice(0, half).map((part, k) => emitter.bind(lower.combine(part, parts[k + half]!, type)));
    }
    return parts[0]!;
  });
}

/** Reductions of a row group by the number of loops that must have run before. */
function stagesOf(fusion: Fusion, group: Group): GraphNode[][] {
  const members = new Set(group.members);
  const depth = new Map<GraphNode, number>();
  function depthOf(node: GraphNode): number {
    const known = depth.get(node);
    if (known !== undefined) return known;
    let deepest = 0;
    for (const id of node.inputs) {
      const made = fusion.producer.get(id);
      if (made === undefined || (fusion.buffered.has(id) && !members.has(made))) continue;
      deepest = Math.max(deepest, depthOf(made));
    }
    const own = deepest + (members.has(node) && node.primitive.lower.as === "reduce" ? 1 : 0);
    depth.set(node, own);
    return own;
  }
  const stages: GraphNode[][] = [];
  for (const node of group.members) {
    if (node.primitive.lower.as !== "reduce") continue;
    (stages[depthOf(node) - 1] ??= []).push(node);
  }
  return stages;
}
