/**
 * Graph to smaller graph: constants folded, neutral operations dropped, views merged, common subexpressions shared,
 * dead nodes removed. Derivatives rely on it: they multiply by ones and add zeros freely.
 *
 * @module
 */
import type { DType } from "./dtype.ts";
import { attrsText, type Graph, type GraphNode, type ValueId } from "./graph.ts";
import type { Attrs, Primitive } from "./primitive.ts";
import { fullPrimitive, reshapePrimitive, transposePrimitive } from "./arithmetic.ts";
import { type Aval, formatAval, sameShape, type Shape } from "./shape.ts";

/** Returns an equivalent graph with the same inputs, constants and outputs. */
export function simplify(graph: Graph): Graph {
  const avals: Aval[] = [];
  const nodes: GraphNode[] = [];
  const producer = new Map<ValueId, GraphNode>();
  const known = new Map<string, readonly ValueId[]>();
  const renamed = new Map<ValueId, ValueId>();

  function number(aval: Aval): ValueId {
    avals.push(aval);
    return avals.length - 1;
  }
  const carry = (id: ValueId): ValueId => {
    const fresh = number(graph.avals[id]!);
    renamed.set(id, fresh);
    return fresh;
  };
  const inputs = graph.inputs.map(carry);
  const constants = graph.constants.map(({ value, tensor }) => ({ value: carry(value), tensor }));

  /** Appends a node, or finds the one that computes the same. */
  function emit(
    primitive: Primitive,
    operands: readonly ValueId[],
    attrs: Attrs,
    made: readonly Aval[],
    site?: string,
  ) {
    const key = `${primitive.name}(${operands.join()})${attrsText(attrs)}:${made.map(formatAval).join()}`;
    const twin = known.get(key);
    if (twin !== undefined) return twin;
    const outputs = made.map(number);
    const node: GraphNode = { primitive, attrs, inputs: operands, outputs, ...(site === undefined ? {} : { site }) };
    nodes.push(node);
    known.set(key, outputs);
    for (const output of outputs) producer.set(output, node);
    return outputs;
  }
  function emitFull(aval: Aval, value: number): ValueId {
    return emit(fullPrimitive, [], { shape: aval.shape, dtype: aval.dtype, value }, [aval])[0]!;
  }
  function constantOf(id: ValueId): number | null {
    const node = producer.get(id);
    return node?.primitive === fullPrimitive ? node.attrs.value as number : null;
  }
  function viewOf(id: ValueId, primitive: Primitive): GraphNode | null {
    const node = producer.get(id);
    return node?.primitive === primitive ? node : null;
  }

  /** The value a node can be replaced by, or null. Operands are renamed already. */
  function shortcut(node: GraphNode, operands: readonly ValueId[]): ValueId | null {
    const { primitive, attrs } = node;
    const aval = graph.avals[node.outputs[0]!]!;
    const [x, y] = operands;
    const source = x === undefined ? null : avals[x]!;
    const { lower } = primitive;
    if (lower.as === "reduce" && lower.axes(attrs).every((axis) => source!.shape[axis] === 1)) {
      return source!.dtype === aval.dtype ? reshape(x!, aval) : null;
    }
    switch (primitive.name) {
      case "alias":
      case "stopGradient":
        return x!;
      case "add":
        if (constantOf(x!) === 0) return y!;
        if (constantOf(y!) === 0) return x!;
        break;
      case "sub":
        if (constantOf(y!) === 0) return x!;
        break;
      case "mul":
        if (constantOf(x!) === 1) return y!;
        if (constantOf(y!) === 1) return x!;
        if (constantOf(x!) === 0 || constantOf(y!) === 0) return emitFull(aval, 0);
        break;
      case "div":
        if (constantOf(y!) === 1) return x!;
        break;
      case "cast":
        if (source!.dtype === (attrs.dtype as DType)) return x!;
        break;
      case "reshape": {
        if (sameShape(source!.shape, aval.shape)) return x!;
        const inner = viewOf(x!, reshapePrimitive);
        if (inner) return reshape(inner.inputs[0]!, aval);
        break;
      }
      case "expand":
        if (sameShape(source!.shape, aval.shape)) return x!;
        break;
      case "transpose":
        return transpose(x!, attrs.order, aval);
    }
    return fold(node, operands, aval);
  }
  function reshape(x: ValueId, aval: Aval): ValueId {
    if (sameShape(avals[x]!.shape, aval.shape)) return x;
    return emit(reshapePrimitive, [x], { shape: aval.shape }, [aval])[0]!;
  }
  function transpose(x: ValueId, order: readonly number[], aval: Aval): ValueId | null {
    const inner = viewOf(x, transposePrimitive);
    if (inner) {
      const joined = order.map((axis) => inner.attrs.order[axis] as number);
      return transpose(inner.inputs[0]!, joined, aval) ??
        emit(transposePrimitive, [inner.inputs[0]!], { order: joined }, [aval])[0]!;
    }
    // Moving axes of size 1 moves no element.
    const shape: Shape = avals[x]!.shape;
    const moved = order.filter((axis) => shape[axis] !== 1);
    return moved.every((axis, i) => i === 0 || axis > moved[i - 1]!) ? reshape(x, aval) : null;
  }
  /** Evaluates views and elementwise ops of constants. */
  function fold({ primitive, attrs, outputs }: GraphNode, operands: readonly ValueId[], aval: Aval): ValueId | null {
    const { lower } = primitive;
    if (operands.length === 0 || outputs.length !== 1 || !primitive.host) return null;
    const values = operands.map(constantOf);
    if (values.some((value) => value === null)) return null;
    if (["reshape", "transpose", "expand"].includes(primitive.name)) return emitFull(aval, values[0]!);
    if (lower.as !== "expr") return null;
    const scalars = operands.map((id, i) => ({
      shape: [],
      dtype: avals[id]!.dtype,
      data: Float64Array.of(values[i]!),
    }));
    return emitFull(aval, primitive.host(scalars, attrs)[0]!.data[0]!);
  }

  for (const node of graph.nodes) {
    const operands = node.inputs.map((id) => renamed.get(id)!);
    const replaced = node.outputs.length === 1 ? shortcut(node, operands) : null;
    const results = replaced !== null
      ? [replaced]
      : emit(node.primitive, operands, node.attrs, node.outputs.map((id) => graph.avals[id]!), node.site);
    node.outputs.forEach((id, i) => renamed.set(id, results[i]!));
  }
  const outputs = graph.outputs.map((id) => renamed.get(id)!);
  return { avals, inputs, constants, nodes: live(nodes, outputs), outputs };
}

function live(nodes: readonly GraphNode[], outputs: readonly ValueId[]): GraphNode[] {
  const needed = new Set(outputs);
  const kept: GraphNode[] = [];
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((id) => needed.has(id))) continue;
    for (const id of node.inputs) needed.add(id);
    kept.push(node);
  }
  return kept.reverse();
}
