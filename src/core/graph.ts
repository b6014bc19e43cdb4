/**
 * A Graph: a traced computation, frozen, canonically numbered and free of tensors except captured constants.
 * It is what the compiler compiles and the oracle evaluates.
 *
 * @module
 */
import { callSite, TraceError } from "./errors.ts";
import type { AdapterTraits } from "./kernel.ts";
import type { Attrs, Primitive } from "./primitive.ts";
import { type Aval, formatAval } from "./shape.ts";
import { atSite, expectUsable, type OpNode, sourceOf, type Tensor } from "./tensor.ts";
import { nodesBehind } from "./walk.ts";
import { bytesInBuffer, windowsOf } from "./windows.ts";

/** Number of a value in a graph. */
export type ValueId = number;

/** One op of a graph. */
export interface GraphNode {
  /** What it computes. */
  readonly primitive: Primitive;
  /** Its static parameters. */
  readonly attrs: Attrs;
  /** Values it reads. */
  readonly inputs: readonly ValueId[];
  /** Values it makes. */
  readonly outputs: readonly ValueId[];
  /** The user's line, if sites were recorded. */
  readonly site?: string;
}

/** A frozen computation. */
export interface Graph {
  /** Type and shape of every value, by number. */
  readonly avals: readonly Aval[];
  /** Arguments. */
  readonly inputs: readonly ValueId[];
  /** Captured tensors, passed after the arguments. */
  readonly constants: readonly { readonly value: ValueId; readonly tensor: Tensor }[];
  /** Ops in execution order. */
  readonly nodes: readonly GraphNode[];
  /** Results. */
  readonly outputs: readonly ValueId[];
}

/** Which composites stay whole: those with a kernel that accepts them on an adapter. With null all are expanded. */
export type Target = AdapterTraits | null;

/** Temporary buffers a hand-written kernel may bind in one dispatch beside its operands. */
const SCRATCH_BUFFERS = 2;

function staysWhole({ primitive, attrs, inputs, outputs }: OpNode, target: Target): boolean {
  if (primitive.kind !== "composite") return true;
  if (target === null || primitive.lower.as !== "kernel") return false;
  const bindings = [...inputs, ...outputs].reduce((sum, value) => sum + windowsOf(bytesInBuffer(value), target), 0);
  if (bindings + SCRATCH_BUFFERS > target.storageBuffers) return false;
  return primitive.lower.accepts?.(inputs, attrs, target) ?? true;
}

/**
 * Freezes the DAG behind some tensors. Composites without a kernel are replaced by their expansion in place, so that
 * the order of nodes stays the order of creation.
 *
 * @param inputs Placeholders that become arguments.
 * @throws {TraceError} If a tensor depends on a placeholder of another trace.
 */
export function freeze(inputs: readonly Tensor[], outputs: readonly Tensor[], target: Target): Graph {
  const avals: Aval[] = [];
  const ids = new Map<Tensor, ValueId>();
  const constants: { value: ValueId; tensor: Tensor }[] = [];
  const nodes: GraphNode[] = [];
  function number(aval: Aval): ValueId {
    avals.push({ shape: aval.shape, dtype: aval.dtype });
    return avals.length - 1;
  }
  const inputIds = inputs.map((input) => {
    const id = number(input);
    ids.set(input, id);
    return id;
  });
  function idOf(tensor: Tensor): ValueId {
    const known = ids.get(tensor);
    if (known !== undefined) return known;
    const source = expectUsable(tensor, "compute with");
    if (source.kind === "placeholder" || source.kind === "op") throw escaped(tensor, source);
    const id = number(tensor);
    ids.set(tensor, id);
    constants.push({ value: id, tensor });
    return id;
  }
  function emit(roots: readonly Tensor[], known: { has(tensor: Tensor): boolean }): void {
    for (const node of nodesBehind(roots, known)) {
      if (node.outputs.every((output) => ids.has(output))) continue;
      if (staysWhole(node, target)) {
        nodes.push({
          primitive: node.primitive,
          attrs: node.attrs,
          inputs: node.inputs.map(idOf),
          outputs: node.outputs.map((output) => {
            const id = number(output);
            ids.set(output, id);
            return id;
          }),
          ...(node.site === undefined ? {} : { site: node.site }),
        });
      } else expandInPlace(node);
    }
  }
  function expandInPlace(node: OpNode): void {
    const { primitive } = node;
    if (primitive.kind !== "composite") throw new Error("unreachable: only composites expand");
    const expanded = atSite(node.site, () => primitive.expand(node.inputs, node.attrs));
    emit(expanded, ids);
    node.outputs.forEach((output, i) => ids.set(output, idOf(expanded[i]!)));
  }
  emit(outputs, new Set(inputs));
  return { avals, inputs: inputIds, constants, nodes, outputs: outputs.map(idOf) };
}

function escaped(tensor: Tensor, source: { kind: string; label?: string }): TraceError {
  return new TraceError("trace/escaped", {
    summary: `Cannot compute ${formatAval(tensor)}: it depends on an argument of a function that was traced`,
    facts: [...(source.label ? [["argument", source.label] as const] : []), ["at", callSite()]],
    fix: "return every value you need from the traced function",
  });
}

/** Text that is equal for graphs that compile to the same program; constants count by shape only. */
export function graphKey(graph: Graph): string {
  const nodes = graph.nodes.map(({ primitive, attrs, inputs, outputs }) =>
    `${outputs.map((id) => `${id}:${formatAval(graph.avals[id]!)}`).join()}=${primitive.name}(${inputs.join()})${
      attrsText(attrs)
    }`
  );
  const inputs = [...graph.inputs, ...graph.constants.map(({ value }) => value)];
  return `${inputs.map((id) => `${id}:${formatAval(graph.avals[id]!)}`).join()}|${
    nodes.join(";")
  }|${graph.outputs.join()}`;
}

/** Static parameters as text, for keys. JSON alone would turn infinities and NaN into null. */
export function attrsText(attrs: Attrs): string {
  if (attrs === null) return "";
  return JSON.stringify(attrs, (_, value) => {
    if (typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0))) return value;
    return `#${Object.is(value, -0) ? "-0" : value}`;
  });
}

/** Whether a tensor's value is on the device or the host already. */
export function isRealized(tensor: Tensor): boolean {
  const { kind } = sourceOf(tensor);
  return kind === "device" || kind === "host";
}
