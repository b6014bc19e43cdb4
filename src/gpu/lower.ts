/**
 * Groups to dispatches: the WGSL of each kernel and the buffers it binds. Pure; the device only runs the result.
 *
 * @module
 */
import type { DType } from "../core/dtype.ts";
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import type { AdapterTraits, Code, DispatchSpec, KernelContext, Operand, TextureOperand } from "../core/kernel.ts";
import type { Shape } from "../core/shape.ts";
import { bytesInBuffer } from "../core/windows.ts";
import { Emitter } from "./emit.ts";
import type { Fusion, Group } from "./fuse.ts";
import {
  bufferOf,
  bytesOfBuffers,
  type Dispatch,
  emitterFor,
  finish,
  foldGrid,
  labelOf,
  type Scratch,
  threadHead,
  workgroupSizeFor,
} from "./dispatch.ts";
import { lowerRow } from "./lower_row.ts";
import { type BufferRef, ModuleWriter, wgslType } from "./module.ts";
import { partHead, partsOf } from "./parts.ts";

export type { Dispatch, Scratch };

/** What a group became. */
export interface Lowered {
  /** Dispatches in order. */
  readonly dispatches: readonly Dispatch[];
  /** Temporary buffers they use. */
  readonly scratch: readonly Scratch[];
}

/** Textures of a program by name. Kernels add those they fill, and read those that a kernel before them filled. */
export type Textures = Map<BufferRef, TextureOperand>;

/**
 * Lowers one group.
 *
 * @param inPlace Arguments whose buffer a result takes over in the very kernel that reads them: argument to result.
 * @param textures What groups before this one have filled; this one's are added.
 */
export function lowerGroup(
  graph: Graph,
  fusion: Fusion,
  group: Group,
  adapter: AdapterTraits,
  inPlace: ReadonlyMap<BufferRef, BufferRef>,
  textures: Textures,
): Lowered {
  // A group without elements has nothing to run; its buffers exist and are never read.
  if (group.kind !== "kernel" && group.rows * group.inner === 0 && group.rows === 0) {
    return { dispatches: [], scratch: [] };
  }
  switch (group.kind) {
    case "map":
      return { dispatches: lowerMap(graph, fusion, group, adapter, inPlace), scratch: [] };
    case "row":
      return { dispatches: [lowerRow(graph, fusion, group, adapter)], scratch: [] };
    case "kernel":
      return lowerKernel(graph, fusion, group, adapter, textures);
  }
}

function isReduceOfColumns(graph: Graph, node: GraphNode): boolean {
  const { lower } = node.primitive;
  if (lower.as !== "reduce") return false;
  const { shape } = graph.avals[node.inputs[0]!]!;
  const last = shape.length - 1;
  return !lower.axes(node.attrs).includes(last) && shape[last]! % 4 === 0 && !(lower.parts?.(node.attrs));
}

/**
 * One invocation for four elements, or for one if the group holds a reduction whose results do not lie together; one
 * dispatch for each part.
 */
function lowerMap(
  graph: Graph,
  fusion: Fusion,
  group: Group,
  adapter: AdapterTraits,
  inPlace: ReadonlyMap<BufferRef, BufferRef>,
): readonly Dispatch[] {
  const written = new Set(group.stored.map(bufferOf));
  const wide = group.members.every((node) => node.primitive.lower.as !== "reduce" || isReduceOfColumns(graph, node));
  const packed = group.stored.some((id) => graph.avals[id]!.dtype === "bf16");
  const lanes = packed || (wide && group.rows > 1) ? 4 : 1;
  const shared = new Map([...inPlace].filter(([, result]) => written.has(result)));
  const bytesOf = bytesOfBuffers(graph);
  const parts = partsOf(graph, group, adapter);
  return parts.map((part, number) => {
    const module = new ModuleWriter({ written, adapter, bytesOf, inPlace: shared, width: lanes, part });
    const emitter = emitterFor(graph, fusion, group, module);
    const index = part?.index.whole ?? (lanes === 4 ? emitter.bind("id * 4u") : group.rows === 1 ? "0u" : "id");
    // All loads come before the first store: a result may lie in the buffer of an argument.
    const values = group.stored.map((id) => emitter.value(id, emitter.linear(graph.avals[id]!.shape, index), lanes));
    group.stored.forEach((id, i) =>
      emitter.line(module.store(bufferOf(id), graph.avals[id]!.dtype, index, values[i]!, lanes))
    );
    const threads = Math.ceil((part?.count ?? group.rows) / lanes);
    if (part === undefined) return finish(labelOf(group), module, threads, adapter, emitter.text);
    const label = `${labelOf(group)} ${number + 1}/${parts.length}`;
    return finish(label, module, threads, adapter, `${partHead(part, lanes, emitter.text)}\n${emitter.text}`);
  });
}

/** A hand-written kernel: its dispatches, with pulled inputs and the epilogue as module functions. */
function lowerKernel(
  graph: Graph,
  fusion: Fusion,
  group: Group,
  adapter: AdapterTraits,
  textures: Textures,
): Lowered {
  const head = group.members[0]!;
  const lower = head.primitive.lower;
  if (lower.as !== "kernel") throw new Error("unreachable: a kernel group starts with its kernel");
  const dispatches: Dispatch[] = [];
  const scratch: Scratch[] = [];
  const operand = (id: ValueId, number: number): Operand => ({ ...graph.avals[id]!, id: number });
  const inputs = head.inputs.map(operand);
  const outputs = head.outputs.map((id, i) => operand(id, inputs.length + i));
  const valueOf = new Map<number, ValueId>();
  inputs.forEach(({ id }, i) => valueOf.set(id, head.inputs[i]!));
  outputs.forEach(({ id }, i) => valueOf.set(id, head.outputs[i]!));
  const refOf = ({ id }: Operand): BufferRef =>
    valueOf.has(id) ? bufferOf(valueOf.get(id)!) : `${bufferOf(head.outputs[0]!)}.${id}`;
  const hasEpilogue = group.members.length > 1;
  let operands = inputs.length + outputs.length;

  function dispatch(spec: DispatchSpec): void {
    const writesOutput = spec.writes.some(({ id }) => id === outputs[0]!.id);
    const written = [
      ...spec.writes.filter((o) => !(hasEpilogue && o.id === outputs[0]!.id)).map(refOf),
      ...(hasEpilogue && writesOutput ? group.stored.map(bufferOf) : []),
    ];
    const module = new ModuleWriter({ written, adapter, bytesOf: bytesOfBuffers(graph, scratch) });
    const code = codeFor(module);
    const body = spec.body(code);
    const prelude = spec.prelude?.(code);
    if (prelude) module.prelude(`${spec.label} prelude`, prelude);
    const size = spec.workgroupSize ?? [defaultSize(spec), 1, 1];
    const perGroup = size[0] * size[1] * size[2];
    const threads = "threads" in spec.grid ? spec.grid.threads : null;
    const workgroups = "threads" in spec.grid
      ? foldGrid(Math.ceil(spec.grid.threads / perGroup))
      : spec.grid.workgroups;
    if (workgroups.some((n) => n === 0)) return;
    const header = threads === null ? "" : threadHead(threads, perGroup, workgroups[0]);
    dispatches.push({
      label: hasEpilogue && writesOutput ? `${spec.label}+${group.members.length - 1} fused` : spec.label,
      wgsl: module.render(size, header, body),
      bindings: module.bindings,
      workgroups: [...workgroups],
    });
  }
  function defaultSize(spec: DispatchSpec): number {
    return "threads" in spec.grid ? workgroupSizeFor(spec.grid.threads, adapter) : 64;
  }

  function codeFor(module: ModuleWriter): Code {
    return {
      load(o, index, lanes = 1) {
        const id = valueOf.get(o.id);
        if (id === undefined || fusion.buffered.has(id) || outputs.some((output) => output.id === o.id)) {
          return module.load(refOf(o), o.dtype, index, lanes);
        }
        return `${pulledFunction(module, id, o.id, lanes)}(${index})`;
      },
      store(o, index, value, lanes = 1) {
        if (hasEpilogue && o.id === outputs[0]!.id) return `${epilogueFunction(module, lanes)}(${index}, ${value});`;
        return module.store(refOf(o), o.dtype, index, value, lanes);
      },
      texel: ({ name }, x, y) => `textureLoad(${module.texture(name, "read")}, vec2<u32>(${x}, ${y}))`,
      setTexel: ({ name }, x, y, value) =>
        `textureStore(${module.texture(name, "write")}, vec2<u32>(${x}, ${y}), ${value});`,
    };
  }

  /**
   * A module function that evaluates a pulled input. Named by the operand, not the value: layers of one shape then share
   * one text, which is compiled once.
   */
  function pulledFunction(module: ModuleWriter, id: ValueId, operand: number, lanes: 1 | 4): string {
    const name = `pull_${operand}_${lanes}`;
    const emitter = new Emitter(
      graph,
      fusion.producer,
      module,
      (value) => fusion.buffered.has(value),
      `p${operand}_${lanes}_`,
    );
    const { shape, dtype } = graph.avals[id]!;
    const value = emitter.value(id, emitter.linear(shape, "at"), lanes);
    module.prelude(name, `fn ${name}(at: u32) -> ${wgslType(dtype, lanes)} {\n${emitter.text}\nreturn ${value};\n}`);
    return name;
  }

  /** A module function that takes a result of the kernel through its elementwise consumers and stores what is needed. */
  function epilogueFunction(module: ModuleWriter, lanes: 1 | 4): string {
    const name = `finish_${lanes}`;
    const own = new Set(group.members.flatMap((node) => node.outputs));
    const emitter = new Emitter(
      graph,
      fusion.producer,
      module,
      (id) => fusion.buffered.has(id) && !own.has(id),
      `e${lanes}_`,
    );
    const result = head.outputs[0]!;
    emitter.know(result, "at", lanes, "result");
    if (lanes === 4) {
      ["x", "y", "z", "w"].forEach((c, k) =>
        emitter.know(result, k === 0 ? "at" : emitter.bind(`at + ${k}u`), 1, `result.${c}`)
      );
    }
    for (const id of group.stored) {
      const { shape, dtype } = graph.avals[id]!;
      emitter.line(
        module.store(bufferOf(id), dtype, "at", emitter.value(id, emitter.linear(shape, "at"), lanes), lanes),
      );
    }
    const t = wgslType(graph.avals[result]!.dtype, lanes);
    module.prelude(name, `fn ${name}(at: u32, result: ${t}) {\n${emitter.text}\n}`);
    return name;
  }

  const context: KernelContext = {
    adapter,
    inputs,
    outputs,
    hasEpilogue,
    scratch(shape: Shape, dtype: DType): Operand {
      const made: Operand = { shape, dtype, id: operands++ };
      scratch.push({ buffer: refOf(made), bytes: bytesInBuffer(made) });
      return made;
    },
    texture(o, layout, size) {
      const name = `${refOf(o)}:${layout}`;
      const known = textures.get(name);
      if (known) return { texture: known, isNew: false };
      const texture: TextureOperand = { ...size, name };
      textures.set(name, texture);
      return { texture, isNew: true };
    },
    dispatch,
  };
  lower.build(context, head.attrs);
  return { dispatches, scratch };
}
