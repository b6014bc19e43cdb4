/**
 * Batching: replays the nodes that depend on mapped arguments with one more leading axis.
 *
 * @module
 */
import { expandTo, reshapeTo, transposeTo } from "./arithmetic.ts";
import { ShapeError, TreeError } from "./errors.ts";
import { formatAval, type Shape } from "./shape.ts";
import { applyAll, atSite, type OpNode, placeholder, type Tensor, tracing } from "./tensor.ts";
import { expectNoPromise } from "./trace.ts";
import { flatten } from "./tree.ts";
import { dependentsOf } from "./walk.ts";

/** Gives a tensor a new leading axis of a size by repetition. */
export function spread(x: Tensor, size: number): Tensor {
  return expandTo(reshapeTo(x, [1, ...x.shape]), [size, ...x.shape]);
}

/** Replays the nodes between `inputs` and `outputs` with `replacements` that have a new axis 0; what does not depend on them stays. */
function replay(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  replacements: readonly Tensor[],
  batchSize: number,
): { readonly tensors: readonly Tensor[]; readonly mapped: readonly boolean[] } {
  const batched = new Map(inputs.map((input, i) => [input, replacements[i]!]));
  for (const node of dependentsOf(outputs, inputs, "any").nodes) {
    const mapped = node.inputs.map((input) => batched.has(input));
    const operands = node.inputs.map((input) => batched.get(input) ?? input);
    const results = atSite(node.site, () => batchNode(node, operands, mapped, batchSize));
    node.outputs.forEach((output, i) => batched.set(output, results[i]!));
  }
  return {
    tensors: outputs.map((output) => batched.get(output) ?? output),
    mapped: outputs.map((output) => batched.has(output)),
  };
}

function batchNode(
  { primitive, inputs, attrs }: OpNode,
  operands: readonly Tensor[],
  mapped: readonly boolean[],
  batchSize: number,
): readonly Tensor[] {
  if (primitive.batch) return primitive.batch(operands, mapped, attrs, batchSize);
  if (primitive.kind === "composite") {
    const own = inputs.map((input) => placeholder(input, "batched"));
    const expanded = primitive.expand(own, attrs);
    // Unmapped operands take part as they are: every operand gets a batched stand-in only if it has the axis.
    const all = operands.map((operand, i) => mapped[i] ? operand : spread(operand, batchSize));
    const { tensors, mapped: live } = replay(expanded, own, all, batchSize);
    return tensors.map((tensor, i) => live[i] ? tensor : spread(tensor, batchSize));
  }
  return applyAll(
    primitive,
    operands.map((operand, i) => mapped[i] ? operand : spread(operand, batchSize)),
    attrs,
  );
}

/** Which leaves of an argument are mapped: null for none, 0 for all on axis 0, an object or array by branch. */
export type InAxes = null | number | readonly InAxes[] | { readonly [key: string]: InAxes };

function axisOfLeaf(axes: InAxes, path: string): number | null {
  let at: InAxes | undefined = axes;
  for (const [, index, key] of path.matchAll(/\[(\d+)\]|\.([^.[]+)/g)) {
    if (at === null || typeof at === "number") return at;
    at = (at as Record<string, InAxes>)[key ?? index!];
    if (at === undefined) {
      throw new TreeError("tree/axes", {
        summary: `Cannot map an argument: inAxes says nothing about ${path}`,
        fix: "give null (shared) or an axis for every branch",
      });
    }
  }
  if (at !== null && typeof at !== "number") {
    throw new TreeError("tree/axes", {
      summary: `Cannot map an argument: inAxes is deeper than the tree at ${path || "(root)"}`,
      fix: "give null (shared) or an axis for every branch",
    });
  }
  return at;
}

/**
 * Turns a function of single examples into one of batches.
 *
 * @param f Function of trees; it sees every mapped argument without its mapped axis.
 * @param inAxes One entry for each argument: null shares it, a number maps all its leaves on that axis (negative counts
 * from the end), an object or array decides by branch. Default: 0 for every argument.
 * @returns A function whose results have the batch as axis 0.
 * @throws {ShapeError} If mapped sizes differ, or nothing is mapped.
 *
 * @example Squared norms of the rows of a matrix
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, square, sum, type Tensor, tensor, vmap } from "@switchyard/switchyard";
 *
 * await init();
 * const norms = vmap((row: Tensor) => sum(square(row)))(tensor([[1, 2], [3, 4]]));
 * assertEquals([...await norms.data()], [5, 25]);
 * ```
 */
export function vmap<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  inAxes?: { readonly [K in keyof A]: InAxes },
): (...args: A) => R {
  return function vmapped(...args: A): R {
    const flat = flatten(args);
    const axes = flat.leaves.map((leaf, i) => {
      const path = flat.paths[i]!;
      const [, argument, rest] = path.match(/^\[(\d+)\](.*)$/)!;
      const axis = inAxes === undefined ? 0 : axisOfLeaf(inAxes[Number(argument)] ?? null, rest!);
      if (axis === null) return null;
      const at = axis < 0 ? axis + leaf.shape.length : axis;
      if (at >= 0 && at < leaf.shape.length) return at;
      throw new ShapeError("shape/vmap", {
        summary: `Cannot map axis ${axis} of ${formatAval(leaf)}`,
        facts: [["argument", path]],
        fix: "share the argument with null, or map an axis it has",
      });
    });
    const sizes = axes.flatMap((axis, i) => axis === null ? [] : [flat.leaves[i]!.shape[axis]!]);
    const batchSize = sizes[0];
    if (batchSize === undefined || sizes.some((size) => size !== batchSize)) {
      throw new ShapeError("shape/vmap", {
        summary: batchSize === undefined
          ? "Cannot vmap: no argument is mapped"
          : `Cannot vmap: mapped axes have different sizes, ${[...new Set(sizes)].join(" and ")}`,
        facts: flat.leaves.map((leaf, i) => [flat.paths[i]!, `${formatAval(leaf)} axis ${axes[i]}`] as const),
        fix: "map axes of one size; share an argument with null in inAxes",
      });
    }
    const own: Tensor[] = [];
    const actual: Tensor[] = [];
    const leaves = flat.leaves.map((leaf, i) => {
      const axis = axes[i]!;
      if (axes[i] === null) return leaf;
      const shape: Shape = leaf.shape.filter((_, k) => k !== axis);
      own.push(placeholder({ shape, dtype: leaf.dtype }, `vmap ${flat.paths[i]}`));
      actual.push(transposeTo(leaf, [axis, ...leaf.shape.map((_, k) => k).filter((k) => k !== axis)]));
      return own.at(-1)!;
    });
    const outputs = flatten(tracing("vmap", () => expectNoPromise("vmap", f(...flat.rebuild(leaves) as A))));
    const { tensors, mapped } = replay(outputs.leaves, own, actual, batchSize);
    return outputs.rebuild(tensors.map((t, i) => mapped[i] ? t : spread(t, batchSize))) as R;
  };
}
