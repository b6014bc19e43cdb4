import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Shape } from "../../src/core/shape.ts";
import { arange, tensor, zeros } from "../../src/ops/creation.ts";
import { einsum } from "../../src/ops/einsum.ts";
import { checkGolden } from "../support/check_golden.ts";
import { checkOp, oracleTest } from "../support/check_primitive.ts";

checkGolden("einsum", (inputs, { equation }) => einsum(equation, ...Object.values(inputs)));

const EQUATIONS: readonly (readonly [equation: string, ...shapes: Shape[]])[] = [
  ["ij,jk", [2, 3], [3, 4]],
  ["ij,kj->ik", [2, 3], [4, 3]],
  ["ji,jk->ki", [3, 2], [3, 4]],
  ["i,i->", [5], [5]],
  ["i,j->ji", [3], [2]],
  ["ij->", [2, 3]],
  ["ba", [2, 3]],
  ["iij->ji", [3, 3, 2]],
  ["iii->i", [2, 2, 2]],
  ["ijij->ij", [2, 3, 2, 3]],
  ["bhqd,bhkd->bhqk", [2, 2, 3, 4], [2, 2, 5, 4]],
  ["bqhd,bkhd->bhqk", [2, 3, 2, 4], [2, 5, 2, 4]],
  ["tek,ekd->td", [3, 2, 4], [2, 4, 5]],
  ["...ij,...jk->...ik", [2, 1, 3, 2], [4, 2, 3]],
  ["...i->...", [2, 3]],
  ["i...,i", [3, 2], [3]],
  ["ij,jk,kl,lm->im", [2, 3], [3, 4], [4, 2], [2, 3]],
  ["i,ij,j", [2], [2, 3], [3]],
  ["ab,ab,ab->ab", [2, 3], [2, 3], [2, 3]],
  ["abc,c,b->a", [2, 3, 4], [4], [3]],
];

for (const [equation, ...shapes] of EQUATIONS) {
  checkOp({
    name: `einsum "${equation}"`,
    fn: (...operands) => einsum(equation, ...operands),
    samples: [{ inputs: shapes.map((shape) => ({ shape })) }],
  });
}

/** Sums over all labels by definition, without ellipses. */
function direct(equation: string, shapes: readonly Shape[], data: readonly ArrayLike<number>[]): number[] {
  const [left, right] = equation.split("->") as [string, string];
  const terms = left.split(",");
  const sizes = new Map(
    terms.flatMap((term, i) => [...term].map((label, axis) => [label, shapes[i]![axis]!] as const)),
  );
  const labels = [...right, ...[...sizes.keys()].filter((label) => !right.includes(label))];
  const result = new Array<number>([...right].reduce((n, label) => n * sizes.get(label)!, 1)).fill(0);
  const at = new Map<string, number>();
  function place(term: string): number {
    return [...term].reduce((index, label) => index * sizes.get(label)! + at.get(label)!, 0);
  }
  function visit(depth: number): void {
    if (depth === labels.length) {
      result[place(right)]! += terms.reduce((product, term, i) => product * data[i]![place(term)]!, 1);
      return;
    }
    for (let i = 0; i < sizes.get(labels[depth]!)!; i++) {
      at.set(labels[depth]!, i);
      visit(depth + 1);
    }
  }
  visit(0);
  return result;
}

oracleTest("einsum() agrees with its definition as nested loops", async () => {
  for (const [equation, ...shapes] of EQUATIONS) {
    if (!equation.includes("->") || equation.includes(".")) continue;
    const data = shapes.map((shape, k) =>
      Float64Array.from({ length: shape.reduce((n, size) => n * size, 1) }, (_, i) => ((i * 7 + k * 3) % 11) - 5)
    );
    const value = einsum(equation, ...data.map((values, i) => tensor(values, { shape: shapes[i]! })));
    const [found] = await read([value] as const);
    assertEquals([...found].map((x) => x + 0), direct(equation, shapes, data).map((x) => x + 0), equation);
  }
});

Deno.test("einsum() orders an implicit result alphabetically, after the axes under an ellipsis", () => {
  assertEquals(einsum("zab,zc", zeros([5, 2, 3]), zeros([5, 4])).shape, [2, 3, 4]);
  assertEquals(einsum("i...j,k...->", zeros([2, 3]), zeros([4])).shape, []);
  assertEquals(einsum("b...a", zeros([2, 7, 3])).shape, [7, 3, 2]);
});

oracleTest("einsum() multiplies integers where no matrix product is needed", async () => {
  const outer = einsum("i,j->ij", arange(2), arange(3));
  assertEquals(outer.dtype, "u32");
  assertEquals([...await outer.data()], [0, 0, 0, 0, 1, 2]);
  assertThrows(() => einsum("i,i->", arange(2), arange(2)), DTypeError);
});

Deno.test("einsum() quotes the equation and the shapes when they do not fit", () => {
  const error = assertThrows(() => einsum("ij,jk->ik", zeros([2, 3]), zeros([4, 5])), ShapeError);
  assertEquals(
    error.message,
    [
      'Cannot evaluate einsum "ij,jk->ik": "j" has sizes 3 and 4',
      "  operand 0  f32[2, 3]",
      "  operand 1  f32[4, 5]",
      "Fix: give one label one size everywhere",
    ].join("\n"),
  );
});

Deno.test("einsum() names what is wrong with an equation", () => {
  const cases: readonly (readonly [equation: string, message: string])[] = [
    ["ij->i->j", "more than one arrow"],
    ["ij,jk->ik", "2 terms for 1 operands"],
    ["i1->i", '"i1" is not a term'],
    ["i......->i", "is not a term"],
    ["ijk->i", '"ijk" names 3 axes, but operand 0 has 2'],
    ["ijk...->i", "names 3 axes"],
    ["ij->ii", 'the result repeats "i"'],
    ["ij->ik", 'the result has "k", which no operand has'],
    ["i...->i", "leaves out the ..."],
    ["ij->i!", '"i!" is not a term'],
  ];
  for (const [equation, message] of cases) {
    assertThrows(() => einsum(equation, zeros([2, 2])), ShapeError, message);
  }
});
