/**
 * Groups to dispatches: the WGSL of each kernel and the buffers it binds. Pure; the device only runs the result.
 *
 * @module
 */
import type { DType } from "../core/dtype.ts";
import type { Graph, ValueId } from "../core/graph.ts";
import type {
  AdapterTraits,
  Code,
  DispatchSpec,
  KernelContext,
  Operand,
  TextureOperand,
  TextureRegion,
} from "../core/kernel.ts";
import type { Shape } from "../core/shape.ts";
import { bytesInBuffer } from "../core/windows.ts";
import { Emitter } from "./emit.ts";
import type { Fusion, Group } from "./fuse.ts";
import {
  bufferOf,
  bytesOfBuffers,
  type Dispatch,
  foldGrid,
  type Scratch,
  threadHead,
  workgroupSizeFor,
} from "./dispatch.ts";
import { lowerMap } from "./lower_map.ts";
import { lowerRow } from "./lower_row.ts";
import { type BufferRef, ModuleWriter, uniformBytesFor, wgslType } from "./module.ts";

export type { Dispatch, Scratch };

/**
 * Bytes up to which hand-written kernels read uniform buffers: biases, and the order of sorted rows. Larger ones are
 * operands whose loads are written out, and loads from uniform buffers take longer to compile.
 */
const MOST_UNIFORM_BYTES = 16_384;

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
      return { dispatches: lowerRow(graph, fusion, group, adapter, textures), scratch: [] };
    case "kernel":
      return lowerKernel(graph, fusion, group, adapter, textures);
  }
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
    const uniformBytes = Math.min(uniformBytesFor(adapter), MOST_UNIFORM_BYTES);
    const module = new ModuleWriter({ written, adapter, bytesOf: bytesOfBuffers(graph, scratch), uniformBytes });
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
  function copyToTexture(
    label: string,
    o: Operand,
    { name }: TextureOperand,
    regions: readonly TextureRegion[],
  ): boolean {
    const id = valueOf.get(o.id);
    const from = id === undefined ? refOf(o) : plainBuffer(id);
    if (o.dtype !== "f32" || from === null) return false;
    const bindings = [{ buffer: from, access: "read" }, { buffer: name, access: "read_write", texture: true }] as const;
    dispatches.push({ label, wgsl: "", bindings, workgroups: [1, 1, 1], copy: { from, to: name, regions } });
    return true;
  }
  /** The buffer that holds a value, element by element, perhaps in another shape; null if there is none. */
  function plainBuffer(id: ValueId): BufferRef | null {
    if (fusion.buffered.has(id)) return bufferOf(id);
    const made = fusion.producer.get(id);
    const isReshape = made?.primitive.lower.as === "view" && made.primitive.lower.linear === true;
    return isReshape ? plainBuffer(made.inputs[0]!) : null;
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
    isRead({ id }) {
      const value = valueOf.get(id)!;
      return graph.outputs.includes(value) || graph.nodes.some((node) => node.inputs.includes(value));
    },
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
    copyToTexture,
    dispatch,
  };
  lower.build(context, head.attrs);
  return { dispatches, scratch };
}
