import { assert, assertEquals } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, cos, matmul, mul, sin, tensor } from "../../src/ops/mod.ts";
import { forEachRow } from "../../src/ops/tile_store.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, withOracle } from "../support/runtimes.ts";

/** A product with work behind it that needs the row and the column right. */
function fused(x: Tensor, w: Tensor, residual: Tensor, bias: Tensor): Tensor {
  return add(mul(sin(add(matmul(x, w), bias)), residual), cos(residual));
}

gpuTest("work fused behind a product lands on the right element at every shape of tile and edge", async () => {
  const random = randomSource(7);
  const values = (rows: number, columns: number) => {
    const data = Float32Array.from({ length: rows * columns }, () => random.uniform(-1, 1));
    return () => tensor(data.slice(), { shape: [rows, columns] });
  };
  for (const [m, k, n] of [[1, 3, 5], [5, 7, 9], [33, 16, 30], [64, 16, 64], [130, 40, 72], [256, 24, 128]] as const) {
    const f = jit(fused);
    const args = [values(m, k), values(k, n), values(m, n), values(1, n)] as const;
    const made = () => args.map((make) => make()) as [Tensor, Tensor, Tensor, Tensor];
    const exact = await withOracle(() => fused(...made()).data());
    const found = await f(...made()).data();
    assertEquals(found.length, exact.length);
    const worst = Float64Array.from(found).reduce((most, value, i) => Math.max(most, Math.abs(value - exact[i]!)), 0);
    assert(worst < 1e-4, `[${m}, ${k}] x [${k}, ${n}]: off by ${worst}`);
  }
});

Deno.test("forEachRow() writes a store once, however many rows there are, unless it is told not to", () => {
  const tile = { name: "c", rows: 16, columns: 2 };
  const store = (row: string, [first, second]: readonly string[]) => `put(${row}, ${first}, ${second});\n`;
  const puts = (unrolled: boolean) => forEachRow({ ...tile, unrolled }, store).split("put(").length - 1;
  assertEquals([puts(false), puts(true)], [1, 16]);
  assertEquals(forEachRow({ name: "c", rows: 1, columns: 2, unrolled: false }, store), "put(0u, c_0_0, c_0_1);\n");
});
