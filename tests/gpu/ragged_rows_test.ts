/**
 * Rows whose length is no multiple of four, which begin and end inside a group of four elements of the buffer: what lies
 * outside a row must not be seen in its sums and must not be overwritten.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { layoutOf } from "../../src/gpu/row_layout.ts";
import {
  add,
  all,
  cast,
  flip,
  greater,
  layerNorm,
  logSoftmax,
  logSumExp,
  max,
  mean,
  mul,
  pad,
  reshape,
  sliceAxis,
  softmax,
  sub,
  sum,
  tensor,
  variance,
} from "../../src/ops/mod.ts";
import { gpuTest, withOracle } from "../support/runtimes.ts";
import { assertClose, EXACT, toleranceFor } from "../support/tolerance.ts";
import { SOFTWARE } from "./support/compile.ts";

interface Operands {
  /** [rows, inner]. */
  readonly x: Tensor;
  /** [rows, inner]. */
  readonly cotangent: Tensor;
  /** [inner]. */
  readonly scale: Tensor;
  /** [rows, 1]. */
  readonly weight: Tensor;
}

/** Row kernels that read rows whole and in pieces, broadcast in both directions, and store every type. */
function kernels({ x, cotangent, scale, weight }: Operands) {
  const last = { axis: -1, keepDims: true } as const;
  const inner = x.shape.at(-1)!;
  const shifted = pad(sliceAxis(x, 1, { start: 1 }), [[0, 0], [0, 1]]);
  return {
    soft: softmax(x),
    logs: logSoftmax(mul(x, weight)),
    normed: layerNorm(x, { scale, bias: scale }),
    normGradient: grad((x: Tensor) => sum(mul(layerNorm(x, { scale }), cotangent)))(x),
    softGradient: grad((x: Tensor) => sum(mul(softmax(x), cotangent)))(x),
    reversed: sub(flip(x, { axis: 1 }), max(mul(x, scale), last)),
    shifted: add(shifted, mean(shifted, last)),
    large: greater(x, sub(max(x, last), 1.01)),
    allSmall: all(greater(5, x), { axis: -1 }),
    whole: sum(cast(mul(x, 8), "i32"), { axis: -1 }),
    spread: variance(x, { axis: -1 }),
    logSum: logSumExp(x, { axis: -1 }),
    ofSquares: reshape(softmax(reshape(x, [-1, 1, inner])), x.shape),
  };
}

/** Compiled once for every shape. */
const compiled = jit(kernels, { maxTraces: 64 });

/** Numbers that repeat with a period no layout shares, about a mean. */
function sample(size: number, step: number, middle = 0): Float32Array {
  return Float32Array.from({ length: size }, (_, i) => middle + ((i * step) % 101) / 25 - 2);
}

function operands(rows: number, inner: number, x = sample(rows * inner, 37)): Operands {
  return {
    x: tensor(x, { shape: [rows, inner] }),
    cotangent: tensor(sample(rows * inner, 41), { shape: [rows, inner] }),
    scale: tensor(sample(inner, 43), { shape: [inner] }),
    weight: tensor(sample(rows, 47), { shape: [rows, 1] }),
  };
}

/** Both sides of every choice: alone and written out, shared by eight, alone with loops; one row, and few. */
const SHAPES = [
  [33, 17],
  [5, 18],
  [32, 19],
  [40, 61],
  [70, 62],
  [33, 65],
  [37, 67],
  [34, 77],
  [33, 507],
  [35, 509],
  [34, 510],
  [32, 511],
  [33, 513],
  [36, 1027],
  [1, 509],
  [2, 50_021],
] as const;

gpuTest("ragged rows are what the oracle says, and repeat bit for bit", async () => {
  for (const [rows, inner] of SHAPES) {
    const [found, again] = [
      await read(compiled(operands(rows, inner))),
      await read(compiled(operands(rows, inner))),
    ];
    const expected = await withOracle(() => read(kernels(operands(rows, inner))));
    for (const name of Object.keys(expected) as (keyof typeof expected)[]) {
      const exact = name === "large" || name === "allSmall" || name === "whole";
      assertClose(
        found[name] as Float32Array,
        expected[name] as Float32Array,
        exact ? EXACT : toleranceFor("f32", inner),
        `${name} of ${rows} x ${inner}`,
      );
      assertEquals(again[name], found[name], `${name} of ${rows} x ${inner}`);
    }
  }
});

gpuTest("rows far from 0 keep their variance", async () => {
  const [rows, inner] = [34, 509];
  const make = () => {
    const { x, scale } = operands(rows, inner, sample(rows * inner, 37, 4096));
    return { normed: layerNorm(x, { scale, bias: scale }), soft: softmax(x) };
  };
  const [found, expected] = [await read(make()), await withOracle(() => read(make()))];
  // The mean itself is rounded to 2^-11 of a standard deviation here.
  assertClose(found.normed, expected.normed, { relative: 1e-3, absolute: 1e-3 }, "layer norm");
  assertClose(found.soft, expected.soft, toleranceFor("f32", inner), "softmax");
});

gpuTest("NaN and infinities stay in their row", async () => {
  for (const [rows, inner] of [[33, 19], [34, 77], [40, 509], [32, 514], [33, 1027]] as const) {
    const x = sample(rows * inner, 37);
    x[3 * inner] = NaN;
    x[5 * inner - 1] = NaN;
    x.fill(-Infinity, 7 * inner, 8 * inner);
    x.fill(-Infinity, 9 * inner, 10 * inner - 1);
    x[12 * inner + 1] = Infinity;
    const make = () => {
      const operand = tensor(x, { shape: [rows, inner] });
      return { soft: softmax(operand), most: max(operand, { axis: -1 }), total: sum(operand, { axis: -1 }) };
    };
    const [found, expected] = [await read(make()), await withOracle(() => read(make()))];
    for (const name of ["soft", "most", "total"] as const) {
      assertClose(found[name], expected[name], toleranceFor("f32", inner), `${name} of ${rows} x ${inner}`);
    }
    const isWrong = (v: number, i: number) => Number.isNaN(v) && ![3, 4, 12].includes(Math.floor(i / inner));
    assert(!found.soft.some(isWrong), `NaN in another row of ${inner}`);
    assertEquals(found.soft[10 * inner - 1], 1);
  }
});

gpuTest("half precision and reductions over several axes", async () => {
  const data = sample(6 * 9 * 7 * 11, 37);
  const make = () => {
    const x = cast(tensor(data, { shape: [6, 9, 7, 11] }), "bf16");
    const axis = [2, 3];
    const centered = sub(x, mean(x, { axis, keepDims: true }));
    return {
      centered: cast(centered, "f32"),
      planes: sub(cast(x, "f32"), max(cast(x, "f32"), { axis, keepDims: true })),
    };
  };
  const [found, expected] = [await read(make()), await withOracle(() => read(make()))];
  assertClose(found.centered, expected.centered, toleranceFor("bf16"), "centered");
  assertClose(found.planes, expected.planes, toleranceFor("f32"), "planes");
});

Deno.test("odd rows are loaded by fours where they are long enough", () => {
  const layout = (inner: number, passes = 2, apart = false) => {
    const { width, ragged, lanes, steps, unrolled } = layoutOf({ inner, reductions: 1, passes, apart }, SOFTWARE);
    return { width, ragged, lanes, steps, unrolled };
  };
  assertEquals(layout(11), { width: 1, ragged: false, lanes: 1, steps: 11, unrolled: true });
  assertEquals(layout(19), { width: 4, ragged: true, lanes: 1, steps: 6, unrolled: true });
  assertEquals(layout(509), { width: 4, ragged: true, lanes: 8, steps: 16, unrolled: true });
  assertEquals(layout(510), { width: 4, ragged: true, lanes: 8, steps: 16, unrolled: true });
  assertEquals(layout(511), { width: 4, ragged: true, lanes: 1, steps: 129, unrolled: false });
  assertEquals(layout(509, 2, true), { width: 1, ragged: false, lanes: 1, steps: 509, unrolled: false });
});
