/**
 * Rows and columns on both classes of adapters: however many invocations share a row, and however a long sum is split, the
 * result is the definition's and repeats bit for bit.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { layoutOf } from "../../src/gpu/row_layout.ts";
import { max, mean, min, softmax, square, sub, sum, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { assertClose, toleranceFor } from "../support/tolerance.ts";
import { ADAPTER_CLASSES, withAdapterClass } from "../support/variants.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "./support/compile.ts";

const WORKGROUPS = 65_535;

/** Numbers that repeat with a period no layout shares, so that an element read from the wrong place shows. */
function sample(rows: number, inner: number): Float32Array {
  return Float32Array.from({ length: rows * inner }, (_, i) => ((i * 37) % 101) / 25 - 2);
}

/** What the kernels below compute, by loops over float64. */
function definition(x: Float32Array, rows: number, inner: number) {
  const soft = new Float64Array(rows * inner);
  const spread = new Float64Array(rows);
  const ends = new Float64Array(rows);
  const columns = new Float64Array(inner);
  for (let row = 0; row < rows; row++) {
    const own = x.subarray(row * inner, (row + 1) * inner);
    const [most, average] = [Math.max(...own), own.reduce((a, b) => a + b, 0) / inner];
    const total = own.reduce((a, b) => a + Math.exp(b - most), 0);
    own.forEach((v, i) => {
      soft[row * inner + i] = Math.exp(v - most) / total;
      columns[i]! += v;
    });
    spread[row] = own.reduce((a, b) => a + (b - average) ** 2, 0);
    ends[row] = most - Math.min(...own);
  }
  return { soft, spread, ends, columns };
}

const kernels = jit((x: Tensor) => ({
  soft: softmax(x),
  spread: sum(square(sub(x, mean(x, { axis: -1, keepDims: true }))), { axis: -1 }),
  ends: sub(max(x, { axis: -1 }), min(x, { axis: -1 })),
  columns: sum(x, { axis: 0 }),
}), { maxTraces: 64 });

/** Tiny rows, shared ones, rows with a last step that only some invocations take, odd ones, long ones, and few. */
const SHAPES = [
  [1000, 1],
  [70, 3],
  [33, 8],
  [130, 64],
  [67, 68],
  [40, 77],
  [35, 500],
  [34, 512],
  [33, 509],
  [64, 1028],
  [3, 4100],
  [1, 16_384],
  [2, 20_000],
  [1, 50_021],
  [40, 17_000],
  [5000, 12],
] as const;

for (const adapterClass of ADAPTER_CLASSES) {
  gpuTest(`rows and columns are the definition's, and repeat, on ${adapterClass} adapters`, async () => {
    await withAdapterClass(adapterClass, async () => {
      for (const [rows, inner] of SHAPES) {
        const data = sample(rows, inner);
        const x = tensor(data, { shape: [rows, inner] });
        const [found, again] = [await read(kernels(x)), await read(kernels(x))];
        const expected = definition(data, rows, inner);
        for (const name of ["soft", "spread", "ends", "columns"] as const) {
          const label = `${name} of ${rows} x ${inner}`;
          assertClose(found[name], expected[name], toleranceFor("f32", name === "columns" ? rows : inner), label);
          assertEquals(again[name], found[name], label);
        }
      }
    });
  });

  gpuTest(`more rows than workgroups in one direction of the grid, on ${adapterClass} adapters`, async () => {
    await withAdapterClass(adapterClass, async () => {
      // Rows that several invocations share, one more than a line of the grid holds.
      const [rows, inner] = [WORKGROUPS + 1, 68];
      const shares = await jit((x: Tensor) => max(softmax(x), { axis: -1 }))(
        tensor(
          Float32Array.from(
            { length: rows * inner },
            (_, i) => i % inner === 0 ? Math.log(Math.floor(i / inner) % 7 + 1) : 0,
          ),
          {
            shape: [rows, inner],
          },
        ),
      ).data();
      const expected = Float64Array.from({ length: rows }, (_, row) => (row % 7 + 1) / (row % 7 + inner));
      assertClose(shares, expected, toleranceFor("f32", inner), "largest share of each row");
    });
  });

  gpuTest(`sums of everything, and over mixed axes, are exact on ${adapterClass} adapters`, async () => {
    await withAdapterClass(adapterClass, async () => {
      for (const shape of [[300_000], [100_003], [64, 4096], [7, 9, 5000], [6000, 5, 3]]) {
        const size = shape.reduce((a, b) => a * b);
        const x = tensor(Int32Array.from({ length: size }, (_, i) => i % 5 - 1), { shape, dtype: "i32" });
        const whole = Array.from({ length: size }, (_, i) => i % 5 - 1).reduce((a, b) => a + b);
        assertEquals(await sum(x).item(), whole, `all of ${shape}`);
        for (const axis of shape.keys()) {
          const parts = Array.from(await sum(x, { axis }).data());
          assertEquals(parts.reduce((a, b) => a + b, 0), whole, `axis ${axis} of ${shape}`);
        }
      }
    });
  });
}

Deno.test("rows are shared by as many invocations as pays on the class of adapter", () => {
  const lanes = (inner: number, adapter: typeof SOFTWARE, passes = 2) => {
    const { lanes, rows, steps, unrolled } = layoutOf({ inner, reductions: 1, passes }, adapter);
    return { lanes, rows, steps, unrolled };
  };
  // A CPU: alone while the row fits in registers, then eight together, then alone again with loops.
  assertEquals(lanes(64, SOFTWARE), { lanes: 1, rows: 1, steps: 16, unrolled: true });
  assertEquals(lanes(512, SOFTWARE), { lanes: 8, rows: 1, steps: 16, unrolled: true });
  assertEquals(lanes(516, SOFTWARE), { lanes: 1, rows: 1, steps: 129, unrolled: false });
  assertEquals(lanes(512, SOFTWARE, 1), { lanes: 1, rows: 1, steps: 128, unrolled: false });
  // A GPU: about four vec4 for each invocation, several short rows in a workgroup.
  assertEquals(lanes(16, HARDWARE), { lanes: 1, rows: 64, steps: 4, unrolled: true });
  assertEquals(lanes(128, HARDWARE), { lanes: 8, rows: 8, steps: 4, unrolled: true });
  assertEquals(lanes(4096, HARDWARE), { lanes: 256, rows: 1, steps: 4, unrolled: true });
  assertEquals(lanes(16_384, HARDWARE), { lanes: 256, rows: 1, steps: 16, unrolled: false });
});

Deno.test("a GPU gets workgroups for a sum of everything and for the columns of a tall matrix", () => {
  const grids = (axis: number | undefined, ...shape: number[]) =>
    compile((x) => sum(x!, axis === undefined ? {} : { axis }), [f32(...shape)], { adapter: HARDWARE }).dispatches
      .map(({ workgroups }) => workgroups.reduce((a, b) => a * b));
  assertEquals(grids(undefined, 4096, 4096), [2048, 1]);
  assertEquals(grids(0, 8192, 128), [64, 1]);
  assertEquals(grids(1, 3, 4096), [3]);
});
