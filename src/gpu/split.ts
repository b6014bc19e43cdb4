/**
 * Splits long reductions in two: parts first, then the parts. One invocation must not loop too long (the software
 * adapter silently stops at 65,535 iterations), and few results over many elements would leave the device idle.
 *
 * On a software adapter an invocation takes a part. On hardware the parts become an axis of their own where the length
 * has a divisor that suits: a row kernel then reduces each with a workgroup, and columns stay next to each other.
 *
 * @module
 */
import { reshapePrimitive } from "../core/arithmetic.ts";
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import type { AdapterTraits, Lowering } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, type Shape, sizeOf } from "../core/shape.ts";

/** Elements one invocation reduces at most; a quarter of the software adapter's limit, since fused loops add up. */
const MAX_LENGTH = 16_384;
/** Elements of one part. Short enough to spread a single sum over the device, long enough to pay for a thread. */
const PART_LENGTH = 512;
/** Results from which a reduction keeps the device busy without being split. */
const ENOUGH_RESULTS = 64;

/** Elements a workgroup of a hardware adapter reduces at most, and those of a part that is worth one. */
const WORKGROUP_LENGTH = { most: 16_384, part: 8192, least: 512 };
/** Columns from which a hardware adapter is busy, the length from which they are split, and the least length of a part. */
const COLUMNS = { enough: 32_768, long: 256, least: 16 };

type Reduce = Extract<Lowering<unknown>, { as: "reduce" }>;

/** The first half of a split reduction: reduces each part, and puts the parts on a new last axis. */
function partialOf(reduce: Reduce, name: string): Primitive {
  return definePrimitive<{ inner: unknown; parts: number; made: Aval }>({
    name: `${name}Part`,
    kind: "discrete",
    shape: (_, { made }) => [made],
    lower: { ...reduce, axes: ({ inner }) => reduce.axes(inner), parts: ({ parts }) => parts },
  });
}

/** The second half: reduces the last axis. */
function finalOf(reduce: Reduce, name: string): Primitive {
  return definePrimitive<{ made: Aval; axis: number }>({
    name: `${name}Final`,
    kind: "discrete",
    shape: (_, { made }) => [made],
    lower: { as: "reduce", axes: ({ axis }) => [axis], identity: reduce.identity, combine: reduce.combine },
  });
}

/** Number of parts a reduction is split into, 1 for none. */
function partsFor(length: number, results: number): number {
  if (length <= MAX_LENGTH && (results >= ENOUGH_RESULTS || length <= 4 * PART_LENGTH)) return 1;
  const wanted = results >= ENOUGH_RESULTS ? Math.ceil(length / MAX_LENGTH) : Math.ceil(length / PART_LENGTH);
  // The second half must itself be short enough for one invocation.
  return Math.min(wanted, MAX_LENGTH);
}

/** A divisor of a length that makes parts of a size, by preference whole vec4s; null if it has none. */
function divisorFor(length: number, { least, most }: { readonly least: number; readonly most: number }): number | null {
  for (const step of [4, 1]) {
    for (let part = Math.floor(most / step) * step; part >= least; part -= step) {
      if (length % part === 0) return length / part;
    }
  }
  return null;
}

/** Where the reduced axes of a shape are, seen as one: behind all others, before them, or neither. */
function placeOf(shape: Shape, axes: readonly number[]): "last" | "first" | null {
  const reduced = shape.map((n, axis) => ({ n, isReduced: axes.includes(axis) })).filter(({ n }) => n !== 1)
    .map(({ isReduced }) => isReduced);
  const turns = reduced.filter((now, i) => i > 0 && now !== reduced[i - 1]).length;
  if (turns > 1 || reduced.length === 0) return null;
  return reduced.at(-1) ? "last" : "first";
}

/** Parts in which a hardware adapter should reduce, and on which side of the length; null where none suit. */
function hardwareParts(
  shape: Shape,
  axes: readonly number[],
  length: number,
  results: number,
): { readonly place: "last" | "first"; readonly parts: number } | null {
  const place = placeOf(shape, axes);
  if (place === "last") {
    if (length <= WORKGROUP_LENGTH.most) return { place, parts: 1 };
    const parts = divisorFor(length, { least: WORKGROUP_LENGTH.least, most: WORKGROUP_LENGTH.part });
    return parts === null || parts > WORKGROUP_LENGTH.most ? null : { place, parts };
  }
  if (place === null || results >= COLUMNS.enough || length < COLUMNS.long) return null;
  // Both halves about as long, unless that is more than keeps the device busy.
  const most = Math.max(COLUMNS.least, Math.ceil(length * results / COLUMNS.enough), Math.floor(Math.sqrt(length)));
  const parts = most > MAX_LENGTH ? null : divisorFor(length, { least: COLUMNS.least, most });
  return parts === null || parts === 1 ? null : { place, parts };
}

/** Rewrites long reductions of a graph. */
export function splitReductions(graph: Graph, adapter: Pick<AdapterTraits, "software"> = { software: true }): Graph {
  const avals = [...graph.avals];
  const nodes: GraphNode[] = [];
  const add = (primitive: Primitive, attrs: GraphNode["attrs"], input: ValueId, made: Aval): ValueId => {
    const output = avals.push(made) - 1;
    nodes.push({ primitive, attrs, inputs: [input], outputs: [output] });
    return output;
  };
  for (const node of graph.nodes) {
    const { lower } = node.primitive;
    if (lower.as !== "reduce") {
      nodes.push(node);
      continue;
    }
    const output = avals[node.outputs[0]!]!;
    const input = avals[node.inputs[0]!]!;
    const results = sizeOf(output.shape);
    const length = results === 0 ? 0 : sizeOf(input.shape) / results;
    const finish = (parts: ValueId, axis: number) =>
      nodes.push({
        primitive: finalOf(lower, node.primitive.name),
        attrs: { made: output, axis },
        inputs: [parts],
        outputs: node.outputs,
      });
    const hardware = adapter.software ? null : hardwareParts(input.shape, lower.axes(node.attrs), length, results);
    if (hardware !== null && hardware.parts > 1) {
      const { place, parts } = hardware;
      const [apart, joined, axis] = place === "last"
        ? [[...output.shape, parts, length / parts], [...output.shape, parts], output.shape.length]
        : [[parts, length / parts, ...output.shape], [parts, ...output.shape], 0];
      const spread = add(reshapePrimitive, { shape: apart }, node.inputs[0]!, { shape: apart, dtype: input.dtype });
      const made: Aval = { shape: joined, dtype: output.dtype };
      finish(add(finalOf(lower, node.primitive.name), { made, axis: axis + 1 }, spread, made), axis);
      continue;
    }
    const parts = hardware?.parts ?? partsFor(length, results);
    if (parts === 1) {
      nodes.push(node);
      continue;
    }
    const made: Aval = { shape: [...output.shape, parts], dtype: output.dtype };
    const attrs = { inner: node.attrs, parts, made };
    finish(add(partialOf(lower, node.primitive.name), attrs, node.inputs[0]!, made), output.shape.length);
  }
  return { ...graph, avals, nodes };
}
