import { assertEquals, assertThrows } from "@std/assert";
import { type DType, roundTo } from "../../src/core/dtype.ts";
import { DTypeError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, cast, concat, flip, matmul, max, mean, mul, ones, slice, sum, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { compile, SOFTWARE } from "./support/compile.ts";
import { dedent } from "./support/messages.ts";

const HALVES: readonly DType[] = ["f16", "bf16"];
/** Ties to even both ways, the largest finite numbers, subnormals and signed zeros among ordinary ones. */
const VALUES = [
  0,
  -0,
  1,
  -1,
  1 / 3,
  -2 / 3,
  3.14159,
  1e-3,
  65504,
  -65504,
  1.00048828125,
  1.00146484375,
  1.00390625,
  1.01171875,
  2 ** -20,
  257,
  259,
  0.1,
];

gpuTest("half precision keeps what it was given, for every length of tail", async () => {
  for (const dtype of HALVES) {
    for (const length of [1, 2, 3, 4, 5, 7, 8, 9, VALUES.length]) {
      const data = VALUES.slice(0, length).map((value) => roundTo(dtype, value));
      const x = tensor(data, { dtype });
      const { same, copied, reversed } = await read({ same: x, copied: concat([x, x]), reversed: flip(x) });
      assertEquals([...same], data, `${dtype}, ${length} elements`);
      assertEquals([...copied], [...data, ...data], `${dtype}, ${length} elements copied`);
      assertEquals([...reversed], data.toReversed(), `${dtype}, ${length} elements reversed`);
    }
  }
});

gpuTest("a value is rounded to half precision to nearest, ties to even, when it is stored", async () => {
  for (const dtype of HALVES) {
    const x = tensor(VALUES);
    const stored = await jit((x: Tensor) => cast(x, dtype))(x).data();
    // Subnormals of half precision may be flushed to zero.
    VALUES.forEach((value, i) => {
      if (Math.abs(value) > 1e-4) assertEquals(stored[i], roundTo(dtype, Math.fround(value)), `${value} as ${dtype}`);
    });
  }
});

gpuTest("writing the tail of an odd tensor leaves the elements before it alone", async () => {
  for (const dtype of HALVES) {
    for (const length of [1, 2, 3, 5, 7, 9, 63, 65]) {
      const x = tensor(Array.from({ length }, (_, i) => i), { dtype });
      const step = jit((x: Tensor) => add(x, 1), { donate: [0] });
      let y = x;
      for (let i = 0; i < 3; i++) y = step(y);
      assertEquals([...await y.data()], Array.from({ length }, (_, i) => i + 3), `${dtype}, ${length} elements`);
    }
  }
});

gpuTest("odd rows and columns of half precision do not run into each other", async () => {
  for (const dtype of HALVES) {
    const x = tensor(Array.from({ length: 35 }, (_, i) => i), { shape: [5, 7], dtype });
    const { rows, columns, corner } = await read({
      rows: max(x, { axis: 1 }),
      columns: max(x, { axis: 0 }),
      corner: slice(x, [{ start: 1, stop: 4 }, { start: 2, stop: 5 }]),
    });
    assertEquals([...rows], [6, 13, 20, 27, 34], dtype);
    assertEquals([...columns], [28, 29, 30, 31, 32, 33, 34], dtype);
    assertEquals([...corner], [9, 10, 11, 16, 17, 18, 23, 24, 25], dtype);
  }
});

gpuTest("sums, means and products of half precision are taken in f32 and rounded once", async () => {
  for (const dtype of HALVES) {
    // In bf16 a running sum would stop at 256, in f16 at 2048.
    assertEquals(await sum(ones([4096], { dtype })).item(), 4096, dtype);
    assertEquals(await sum(tensor(new Float32Array(4096).fill(1), { dtype })).item(), 4096, dtype);
    assertEquals(await mean(tensor(new Float32Array(60_000).fill(8), { dtype })).item(), 8, dtype);
    const row = tensor(new Float32Array(2048).fill(1), { shape: [1, 2048], dtype });
    assertEquals(await matmul(row, row, { transposeB: true }).item(), 2048, dtype);
  }
});

gpuTest("matrix products of half precision store odd rows", async () => {
  for (const dtype of HALVES) {
    const a = tensor([1, 2, 3, 4, 5, 6], { shape: [3, 2], dtype });
    const product = matmul(a, a, { transposeB: true });
    assertEquals(product.dtype, dtype);
    assertEquals([...await product.data()], [5, 11, 17, 11, 25, 39, 17, 39, 61], dtype);
    assertEquals([...await jit((a: Tensor) => mul(matmul(a, a, { transposeB: true }), 2))(a).data()][8], 122, dtype);
  }
});

gpuTest("f32 keeps its digits next to half precision", async () => {
  const exact = 1 + 2 ** -20;
  for (const dtype of HALVES) {
    const mixed = add(tensor([exact]), tensor([1], { dtype }));
    assertEquals([mixed.dtype, (await mixed.data())[0]], ["f32", 2 + 2 ** -20], dtype);
  }
});

Deno.test("f16 on an adapter without it is refused by name", () => {
  const error = assertThrows(
    () =>
      compile((x) => add(x!, 1), [{ shape: [3], dtype: "f16" }], {
        adapter: { ...SOFTWARE, name: "Old GPU", f16: false },
      }),
    DTypeError,
  );
  assertEquals(error.code, "dtype/no-f16");
  assertEquals(
    error.message,
    dedent(`
      Cannot compile test: it has f16[3], and the adapter has no shader-f16
        adapter  Old GPU
      Fix: use bf16, which every adapter stores, or f32`),
  );
});
