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
import { bufferOf, bytesOfBuffers, type Dispatch, emitterFor, finish, foldGrid, labelOf } from "./dispatch.ts";
import type { Emitter } from "./emit.ts";
import type { Fusion, Group } from "./fuse.ts";
import { ModuleWriter, wgslType } from "./module.ts";

type Reduce = Extract<Lowering<unknown>, { as: "reduce" }>;

/** How the invocations of a workgroup share rows. */
export interface RowLayout {
  /** Elements loaded together. */
  readonly width: 1 | 4;
  /** Invocations that share one row, a power of two. */
  readonly lanes: number;
  /** Rows of a workgroup; a lone invocation a row is not grouped. */
  readonly rows: number;
  /** Steps of `width` elements each invocation takes. */
  readonly steps: number;
  /** Whether the steps are written out, so that what they load stays in registers, rather than looped over. */
  readonly unrolled: boolean;
}

/** Lanes of a software adapter's vectors: a workgroup of that size runs in step, and its barriers cost nothing. */
const SOFTWARE_LANES = 8;
/** Steps written out at most. More take long to compile, and registers run out. */
const UNROLLED = { software: 16, hardware: 8 };
/** Steps an invocation of a hardware adapter should have before another one shares its row. */
const HARDWARE_STEPS = 4;
/** Rows of a hardware workgroup fill it up to this many invocations. */
const HARDWARE_INVOCATIONS = 64;

/**
 * Chooses how rows of `inner` elements are shared.
 *
 * @param passes How often a body goes over its row: only the second and later ones gain from what the first has loaded.
 */
export function layoutOf(
  { inner, reductions, passes }: { readonly inner: number; readonly reductions: number; readonly passes: number },
  adapter: AdapterTraits,
): RowLayout {
  const width = inner % 4 === 0 ? 4 : 1;
  const all = Math.ceil(inner / width);
  if (adapter.software) {
    const isShared = width === 4 && passes > 1 && all > UNROLLED.software &&
      all <= UNROLLED.software * SOFTWARE_LANES;
    const lanes = isShared ? SOFTWARE_LANES : 1;
    const steps = Math.ceil(all / lanes);
    return { width, lanes, rows: 1, steps, unrolled: passes > 1 && steps <= UNROLLED.software };
  }
  // Each reduction keeps one word for each invocation.
  const most = Math.min(adapter.workgroupInvocations, 256, adapter.workgroupBytes / (4 * Math.max(1, reductions)));
  let lanes = 1;
  while (lanes * HARDWARE_STEPS < all && lanes * 2 <= most) lanes *= 2;
  const steps = Math.ceil(all / lanes);
  const rows = Math.max(1, Math.min(HARDWARE_INVOCATIONS, most) / lanes);
  return { width, lanes, rows: Math.floor(rows), steps, unrolled: steps <= UNROLLED.hardware };
}

/** Lowers a row group. */
export function lowerRow(graph: Graph, fusion: Fusion, group: Group, adapter: AdapterTraits): Dispatch {
  const stages = stagesOf(fusion, group);
  const isFull = (id: ValueId) => sizeOf(graph.avals[id]!.shape) === group.rows * group.inner;
  const full = group.stored.filter(isFull);
  const passes = stages.length + (full.length > 0 ? 1 : 0);
  const layout = layoutOf({ inner: group.inner, reductions: stages.flat().length, passes }, adapter);
  const bytesOf = bytesOfBuffers(graph);
  const module = new ModuleWriter({ written: group.stored.map(bufferOf), adapter, bytesOf });
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
        const real = inside === null ? element : `select(${t}(${lower.identity(dtype)}), ${element}, ${inside})`;
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
  const store = (id: ValueId, index: string, lanes: 1 | 4) => {
    const value = emitter.value(id, at(id, index), lanes);
    return module.store(bufferOf(id), graph.avals[id]!.dtype, index, value, lanes);
  };
  const ofRow = group.stored.filter((id) => !isFull(id)).map((id) => store(id, walk.row, 1));
  if (ofRow.length > 0) walk.once(() => ofRow.forEach((text) => emitter.line(text)));
  if (full.length > 0) {
    walk.overRow((index, inside) => {
      const texts = full.map((id) => store(id, index, width));
      walk.guarded(inside, () => texts.forEach((text) => emitter.line(text)));
    });
  }
  if (layout.lanes === 1) return finish(labelOf(group), module, group.rows, adapter, emitter.text);
  const workgroups = foldGrid(Math.ceil(group.rows / layout.rows));
  const wgsl = module.render([layout.lanes * layout.rows, 1, 1], headOf(group, layout, workgroups), emitter.text);
  return { label: labelOf(group), wgsl, bindings: module.bindings, workgroups };
}

/** How a body goes over its row. */
interface Walk {
  /** Number of the row. */
  readonly row: string;
  /** Visits each step of this invocation: the linear index, and the condition under which the step exists if not all do. */
  overRow(visit: (index: string, inside: string | null) => void): void;
  /** Runs statements in one invocation of the row. */
  once(emit: () => void): void;
  /** Runs statements where a step exists. */
  guarded(inside: string | null, emit: () => void): void;
}

function walkOf({ rows, inner }: Group, layout: RowLayout, emitter: Emitter): Walk {
  const { width, lanes, steps, unrolled } = layout;
  const row = rows === 1 ? "0u" : lanes === 1 ? "id" : "row";
  const isPartial = lanes > 1 && hasSpareRows(rows, layout);
  function place(step: number): string {
    const from = step * lanes * width;
    // By name, not as a literal: WGSL refuses constants that wrap around, as places before a view's start do.
    if (lanes === 1) return emitter.bind(`u32(${from})`);
    const scaled = width === 1 ? "share" : emitter.bind(`share * ${width}u`);
    return from === 0 ? scaled : emitter.bind(`${scaled} + ${from}u`);
  }
  const guarded = (inside: string | null, emit: () => void) => {
    const conditions = [inside, isPartial ? "live" : null].filter((condition) => condition !== null);
    if (conditions.length === 0) emit();
    else emitter.when(conditions.join(" && "), emit);
  };
  return {
    row,
    overRow(visit) {
      if (!unrolled) {
        const start = lanes === 1 ? "0u" : place(0);
        emitter.loop(start, `${inner}u`, lanes * width, (at) => visit(emitter.enterRow(row, at, inner), null));
        return;
      }
      for (let step = 0; step < steps; step++) {
        const at = place(step);
        if ((step + 1) * lanes * width <= inner) {
          visit(emitter.enterRow(row, at, inner), null);
          continue;
        }
        // Past the end of the row: some element of it, which is left out of sums and not stored.
        const inside = emitter.bind(`${at} < ${inner}u`);
        visit(emitter.enterRow(row, emitter.bind(`min(${at}, ${inner - width}u)`), inner), inside);
      }
    },
    once: (emit) => guarded(lanes === 1 ? null : "share == 0u", emit),
    guarded,
  };
}

/** Whether the grid has room for rows that do not exist. */
function hasSpareRows(rows: number, layout: RowLayout): boolean {
  const [columns, lines] = foldGrid(Math.ceil(rows / layout.rows));
  return columns * lines * layout.rows !== rows;
}

/**
 * Declares `row` and `share`, the invocation's number in it. No invocation may leave before the barriers: where the grid
 * has spare rows, they repeat the last one and are not `live`.
 */
function headOf({ rows }: Group, layout: RowLayout, [columns]: readonly [number, number, number]): string {
  const { lanes } = layout;
  const group = `(wg.y * ${columns}u + wg.x)`;
  const wanted = layout.rows === 1 ? group : `(${group} * ${layout.rows}u + lane / ${lanes}u)`;
  const share = `let share = ${layout.rows === 1 ? "lane" : `lane % ${lanes}u`};`;
  if (!hasSpareRows(rows, layout)) return `let row = ${wanted};\n${share}`;
  return `let wanted = ${wanted};\nlet live = wanted < ${rows}u;\nlet row = min(wanted, ${rows - 1}u);\n${share}`;
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
  return shares.map(({ lower, type }, i) => {
    const start = rows === 1 ? 0 : emitter.bind("lane - share");
    let parts = Array.from(
      { length: left },
      (_, k) => emitter.variable(type, `${names[i]}[${start === 0 ? `${k}u` : k === 0 ? start : `${start} + ${k}u`}]`),
    );
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
