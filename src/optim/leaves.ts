/**
 * How transforms walk trees: float leaves are trained, by name and in f32; everything else passes through.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { TreeError } from "../core/errors.ts";
import { formatAval } from "../core/shape.ts";
import { isDifferentiable, type Tensor } from "../core/tensor.ts";
import { expectSameTree, flatten } from "../core/tree.ts";

/**
 * Tensors by the path of the parameter they belong to, such as `layers[0].weight`. It is how optimizers keep moments: a
 * parameter without a moment (a table of integers, a frozen leaf) is simply absent, and a checkpoint's names are those
 * of a nested tree.
 */
export type LeafMap = Readonly<Record<string, Tensor>>;

/** Name of a leaf in a {@linkcode LeafMap}: its path without the leading dot, which is also the name of a renamed map's leaf. */
function leafName(path: string): string {
  return path.startsWith(".") ? path.slice(1) : path;
}

/** The path of a named leaf, as the rest of the library prints it. */
export function leafPath(name: string): string {
  return name === "" || name.startsWith("[") ? name : `.${name}`;
}

/** The float leaves of a tree by name, in its order and their own type. */
export function floatLeaves(tree: unknown): LeafMap {
  const { leaves, paths } = flatten(tree);
  return Object.fromEntries(
    leaves.flatMap((leaf, i) => isDifferentiable(leaf) ? [[leafName(paths[i]!), leaf] as const] : []),
  );
}

/** Applies a function to the float leaves of a tree in f32, whatever their own type; the others pass through. */
export function mapFloats<P>(tree: P, f: (leaf: Tensor, name: string) => Tensor): P {
  const { leaves, paths, rebuild } = flatten(tree);
  return rebuild(
    leaves.map((leaf, i) => isDifferentiable(leaf) ? f(castTo(leaf, "f32"), leafName(paths[i]!)) : leaf),
  ) as P;
}

/** Applies a function to each tensor of a map and keeps the names. */
export function mapLeaves(map: LeafMap, f: (leaf: Tensor, name: string) => Tensor): LeafMap {
  return Object.fromEntries(Object.entries(map).map(([name, leaf]) => [name, f(leaf, name)]));
}

/** Keeps the leaves that a function chooses. */
export function filterLeaves(map: LeafMap, keep: (name: string, leaf: Tensor) => boolean): LeafMap {
  return Object.fromEntries(Object.entries(map).filter(([name, leaf]) => keep(name, leaf)));
}

/**
 * The leaf of a map that belongs to a parameter.
 *
 * @param owner Whose map it is, for the message.
 * @throws {TreeError} If the map was made for other parameters.
 */
export function leafOf(map: LeafMap, name: string, like: Tensor, owner: string): Tensor {
  const leaf = map[name];
  if (leaf !== undefined) return leaf;
  throw new TreeError("tree/state", {
    summary: `Cannot update parameters: the state of ${owner} has nothing for ${leafPath(name) || "the parameter"}`,
    facts: [[`params${leafPath(name)}`, formatAval(like)], [
      "state",
      Object.keys(map).map(leafPath).join(", ") || "(empty)",
    ]],
    fix: "pass the state that init(params) returned for these params",
    details: { name, owner },
  });
}

/**
 * Checks that gradients or updates belong to parameters.
 *
 * @throws {TreeError} Listing the leaves that differ.
 */
export function expectUpdatesFor(params: unknown, updates: unknown, name: "grads" | "updates" = "grads"): void {
  expectSameTree("update parameters", flatten(params), flatten(updates), ["params", name]);
}
