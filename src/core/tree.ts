/**
 * Trees: plain objects, arrays and tuples whose leaves are tensors and keys. Everything else in them is static.
 *
 * @module
 */
import { callSite, TreeError } from "./errors.ts";
import { Key } from "./key.ts";
import { formatAval, sameShape } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** The same structure with every tensor or key replaced by `L`. */
export type MapLeaves<T, L> = T extends Tensor | Key ? L
  : T extends readonly unknown[] | Readonly<Record<string, unknown>> ? { [K in keyof T]: MapLeaves<T[K], L> }
  : T extends object ? { [K in keyof T]: MapLeaves<T[K], L> }
  : T;

/** A tree taken apart. */
export interface FlatTree {
  /** The tensors (keys give theirs), depth first, in property order. */
  readonly leaves: readonly Tensor[];
  /** Path of each leaf, such as `.layers[2].weight`. */
  readonly paths: readonly string[];
  /** Structure and static values as text: equal text means equal structure. */
  readonly structure: string;
  /** Puts leaves back. Keys take the new tensor; statics are kept. */
  rebuild(leaves: readonly Tensor[]): unknown;
}

type Shape = { kind: "leaf" | "key"; index: number } | { kind: "array"; items: Shape[] } | {
  kind: "object";
  entries: [string, Shape][];
} | { kind: "static"; value: unknown };

function printStatic(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : Object.is(value, -0) ? "-0" : String(value);
}

/**
 * Takes a tree apart.
 *
 * @throws {TreeError} If it holds a function, a class instance or a typed array.
 */
export function flatten(tree: unknown, name = ""): FlatTree {
  const leaves: Tensor[] = [];
  const paths: string[] = [];
  const text: string[] = [];
  function visit(value: unknown, path: string): Shape {
    if (value instanceof Tensor || value instanceof Key) {
      const isKey = value instanceof Key;
      leaves.push(isKey ? value.tensor : value);
      paths.push(path);
      text.push(isKey ? "key" : "*");
      return { kind: isKey ? "key" : "leaf", index: leaves.length - 1 };
    }
    if (Array.isArray(value)) {
      text.push("[");
      const items = value.map((item, i) => visit(item, `${path}[${i}]`));
      text.push("]");
      return { kind: "array", items };
    }
    if (typeof value === "object" && value !== null) {
      const proto = Object.getPrototypeOf(value);
      if (proto !== Object.prototype && proto !== null) {
        throw badLeaf(path || name, proto?.constructor?.name ?? "object");
      }
      text.push("{");
      const entries = Object.entries(value).map(([key, item]): [string, Shape] => {
        text.push(`${JSON.stringify(key)}:`);
        return [key, visit(item, `${path}.${key}`)];
      });
      text.push("}");
      return { kind: "object", entries };
    }
    if (typeof value === "function" || typeof value === "symbol") throw badLeaf(path || name, typeof value);
    text.push(printStatic(value));
    return { kind: "static", value };
  }
  const shape = visit(tree, name);
  function build(shape: Shape, values: readonly Tensor[]): unknown {
    switch (shape.kind) {
      case "leaf":
        return values[shape.index];
      case "key":
        return new Key(values[shape.index]!);
      case "array":
        return shape.items.map((item) => build(item, values));
      case "object":
        return Object.fromEntries(shape.entries.map(([key, item]) => [key, build(item, values)]));
      case "static":
        return shape.value;
    }
  }
  return { leaves, paths, structure: text.join(" "), rebuild: (values) => build(shape, values) };
}

function badLeaf(path: string, found: string): TreeError {
  return new TreeError("tree/leaf", {
    summary: `Cannot use a ${found} in a tree`,
    facts: [["path", path || "(root)"], ["at", callSite()]],
    fix: "trees hold tensors, keys, plain objects, arrays, numbers, strings, booleans and null",
  });
}

/**
 * Applies a function to every leaf and keeps the structure.
 *
 * @example Doubling every parameter
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, mapTree, mul, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const doubled = mapTree({ w: tensor([1, 2]), b: tensor(3) }, (leaf) => mul(leaf, 2));
 * assertEquals([...await doubled.w.data()], [2, 4]);
 * ```
 */
export function mapTree<T>(tree: T, f: (leaf: Tensor, path: string) => Tensor): T {
  const flat = flatten(tree);
  return flat.rebuild(flat.leaves.map((leaf, i) => f(leaf, flat.paths[i]!))) as T;
}

/**
 * Applies a function to corresponding leaves of two trees.
 *
 * @throws {TreeError} If the structures or the leaves' shapes differ.
 */
export function mapTrees<T>(what: string, a: T, b: T, f: (a: Tensor, b: Tensor, path: string) => Tensor): T {
  const [left, right] = [flatten(a), flatten(b)];
  expectSameTree(what, left, right);
  return left.rebuild(left.leaves.map((leaf, i) => f(leaf, right.leaves[i]!, left.paths[i]!))) as T;
}

/** The leaves of a tree with their paths. */
export function leavesOf(tree: unknown): readonly (readonly [path: string, leaf: Tensor])[] {
  const flat = flatten(tree);
  return flat.leaves.map((leaf, i) => [flat.paths[i]!, leaf] as const);
}

/**
 * Checks that two trees have the same leaves at the same paths.
 *
 * @param what What cannot be done otherwise, such as "update parameters".
 * @throws {TreeError} Listing at most five differences, then a count.
 */
export function expectSameTree(
  what: string,
  a: FlatTree,
  b: FlatTree,
  names: readonly [string, string] = ["params", "grads"],
): void {
  const left = new Map(a.paths.map((path, i) => [path, a.leaves[i]!]));
  const right = new Map(b.paths.map((path, i) => [path, b.leaves[i]!]));
  const problems: [string, string][] = [];
  for (const [path, leaf] of left) {
    const other = right.get(path);
    if (other === undefined) problems.push([names[0] + path, `${formatAval(leaf)}, ${names[1]} has nothing`]);
    else if (!sameShape(leaf.shape, other.shape)) {
      problems.push([names[0] + path, `${formatAval(leaf)}, ${names[1]} has ${formatAval(other)}`]);
    }
  }
  for (const [path, leaf] of right) {
    if (!left.has(path)) problems.push([names[1] + path, `${formatAval(leaf)}, ${names[0]} has nothing`]);
  }
  if (problems.length === 0) return;
  const shown = problems.slice(0, 5);
  if (problems.length > 5) shown.push(["...", `${problems.length - 5} more`]);
  throw new TreeError("tree/structure", {
    summary: `Cannot ${what}: ${problems.length} ${problems.length === 1 ? "leaf" : "leaves"} of ${names[1]} ${
      problems.length === 1 ? "does" : "do"
    } not match ${names[0]}`,
    facts: shown,
    fix: `pass the ${names[1]} made for these ${names[0]}`,
    details: { problems },
  });
}
