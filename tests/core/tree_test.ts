import { assertEquals, assertThrows } from "@std/assert";
import { TreeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { Key } from "../../src/core/key.ts";
import { read } from "../../src/core/realize.ts";
import { Tensor } from "../../src/core/tensor.ts";
import { flatten, leavesOf, mapTree, mapTrees } from "../../src/core/tree.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { scalar, tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { oracleTest } from "../support/check_primitive.ts";

/** Is `true` only if two types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;

/** Compiles only for types that are the same. */
function expectSameType<A, B>(_: Same<A, B>): void {}

interface Layer {
  readonly weight: Tensor;
  readonly bias?: Tensor;
}

/** An interface with a tuple, an optional field and statics: what users write. */
interface Model {
  readonly layers: readonly [Layer, Layer];
  readonly scale: number;
  readonly name: string;
}

function model(): Model {
  return { layers: [{ weight: tensor([1, 2]) }, { weight: scalar(3), bias: scalar(4) }], scale: 2, name: "small" };
}

function loss(p: Model, x: Tensor): Tensor {
  const [first, second] = p.layers;
  return mul(sum(add(mul(mul(first.weight, x), second.weight), second.bias ?? 0)), p.scale);
}

oracleTest("transforms keep the types of interfaces, tuples and optional fields", async () => {
  const gradient = grad(loss);
  expectSameType<typeof gradient, (...args: [p: Model, x: Tensor]) => Model>(true);
  const step = jit((p: Model, x: Tensor): Model => mapTrees("step", p, gradient(p, x), (w, g) => add(w, g)));
  const next = step(model(), tensor([1, 10]));
  expectSameType<typeof next, Model>(true);
  expectSameType<typeof next.layers[0], Layer>(true);
  assertEquals([...await next.layers[0].weight.data()], [7, 62]);
  assertEquals(await next.layers[1].bias!.item(), 8);
  assertEquals(["bias" in next.layers[0], next.scale, next.name], [false, 2, "small"]);
});

oracleTest("read() keeps the structure and gives typed arrays", async () => {
  const values = await read({ pair: [scalar(1), "text"] as const, ids: tensor([1, 2], { dtype: "u32" }), none: null });
  assertEquals([...values.pair[0]], [1]);
  assertEquals([values.pair[1], values.none], ["text", null]);
  assertEquals(values.ids, new Uint32Array([1, 2]));
});

Deno.test("flatten() lists leaves depth first with their paths", () => {
  const { paths, leaves, structure } = flatten({ b: [zeros([1]), { c: zeros([2]) }], a: zeros([3]), n: 1 });
  assertEquals(paths, [".b[0]", ".b[1].c", ".a"]);
  assertEquals(leaves.map(({ shape }) => shape), [[1], [2], [3]]);
  assertEquals(structure === flatten({ b: [zeros([4]), { c: zeros([5]) }], a: zeros([]), n: 1 }).structure, true);
  assertEquals(structure === flatten({ b: [zeros([1]), { c: zeros([2]) }], a: zeros([3]), n: 2 }).structure, false);
});

Deno.test("flatten() tells structures apart that print alike", () => {
  const x = zeros([]);
  const structures = [
    { a: 1, b: x },
    { "a: 1 b": x },
    { a: "1", b: x },
    [1, x],
    [[1], x],
    [1, [x]],
    [-0, x],
    [0, x],
    [null, x],
    [undefined, x],
    ["null", x],
    [true, x],
  ].map((tree) => flatten(tree).structure);
  assertEquals(new Set(structures).size, structures.length);
});

Deno.test("mapTree() maps tensors and keys and keeps the rest", () => {
  const tree = { w: zeros([2]), key: new Key(zeros([2])), list: [1, "two", null, true] };
  const mapped = mapTree(
    tree,
    (leaf) => new Tensor({ shape: [...leaf.shape, 1], dtype: leaf.dtype }, { kind: "released" }),
  );
  assertEquals([mapped.w.shape, mapped.key instanceof Key, mapped.list], [[2, 1], true, [1, "two", null, true]]);
  assertEquals(leavesOf(tree).map(([path]) => path), [".w", ".key"]);
});

Deno.test("trees refuse functions, class instances and typed arrays by path", () => {
  const error = assertThrows(() => flatten({ layers: [{ act: () => 1 }] }), TreeError);
  assertEquals(error.message.split("\n").slice(0, 2), [
    "Cannot use a function in a tree",
    "  path  .layers[0].act",
  ]);
  assertThrows(() => flatten({ when: new Date(0) }), TreeError, "Cannot use a Date in a tree");
  assertThrows(() => flatten([new Float32Array(2)]), TreeError, "Cannot use a Float32Array in a tree");
});

Deno.test("mapTrees() lists at most five leaves that do not match, then a count", () => {
  const params = { a: zeros([64]), b: zeros([64, 10]), c: [1, 2, 3, 4, 5].map(() => zeros([1])) };
  const grads = { b: zeros([10, 64]), c: [zeros([1])], extra: zeros([]) };
  const error = assertThrows(
    () => mapTrees<unknown>("update parameters", params, grads, (leaf) => leaf),
    TreeError,
  );
  assertEquals(
    error.message,
    `Cannot update parameters: 7 leaves of grads do not match params
  params.a     f32[64], grads has nothing
  params.b     f32[64, 10], grads has f32[10, 64]
  params.c[1]  f32[1], grads has nothing
  params.c[2]  f32[1], grads has nothing
  params.c[3]  f32[1], grads has nothing
  ...          2 more
Fix: pass the grads made for these params`,
  );
});
