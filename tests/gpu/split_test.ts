import { assertEquals } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, cast, max, min, mul, ones, reshape, sum, tensor, transpose } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { compile, f32, SOFTWARE } from "./support/compile.ts";

// The software adapter stops an invocation after 65,535 loop iterations without a word: a sum would just be too small.

for (const count of [300_000, 20_000_000]) {
  gpuTest(`the sum of ${count} ones is exact`, async () => {
    assertEquals(await sum(ones([count])).item(), count);
  });
}

gpuTest("sums of stored elements are exact when they are longer than one invocation may loop", async () => {
  for (const length of [65_535, 65_536, 65_537, 299_999]) {
    const x = tensor(Float32Array.from({ length }, (_, i) => i % 3));
    const expected = Array.from({ length: 3 }, (_, rest) => rest * Math.ceil((length - rest) / 3)).reduce((a, b) =>
      a + b
    );
    assertEquals(await sum(x).item(), expected, `${length} elements`);
  }
});

gpuTest("long rows are summed exactly, one row and many", async () => {
  for (const [rows, length] of [[1, 70_001], [3, 70_000], [65, 70_001], [128, 16_385]] as const) {
    const sums = await jit((x: Tensor) => sum(x, { axis: 1 }))(ones([rows, length])).data();
    assertEquals([...new Set(sums)], [length], `${rows} rows of ${length}`);
  }
});

gpuTest("long columns are summed exactly, few and many", async () => {
  for (const [length, columns] of [[70_001, 1], [70_000, 3], [70_001, 64], [20_000, 130]] as const) {
    const x = tensor(new Float32Array(length * columns).fill(1), { shape: [length, columns] });
    const sums = await jit((x: Tensor) => sum(x, { axis: 0 }))(x).data();
    assertEquals([...new Set(sums)], [length], `${columns} columns of ${length}`);
  }
});

gpuTest("long sums over split axes, of integers and of half precision are exact", async () => {
  assertEquals(await sum(cast(ones([50, 40, 60]), "i32")).item(), 120_000);
  assertEquals([...new Set(await sum(ones([300, 5, 300]), { axis: [0, 2] }).data())], [90_000]);
  assertEquals(await sum(ones([40_000], { dtype: "f16" })).item(), 40_000);
  assertEquals(await sum(ones([65_536], { dtype: "bf16" })).item(), 65_536);
});

gpuTest("long extrema find an element anywhere", async () => {
  const length = 200_003;
  for (const place of [0, 511, 512, 131_072, length - 1]) {
    const x = tensor(Float32Array.from({ length }, (_, i) => i === place ? 5 : 1));
    assertEquals([await max(x).item(), await min(mul(x, -1)).item()], [5, -5], `at ${place}`);
  }
});

gpuTest("several long column sums that meet in one result do not share an invocation's loops", async () => {
  const length = 16_000;
  const x = tensor(new Float32Array(length * 64).fill(1), { shape: [length, 64] });
  const f = jit((x: Tensor) =>
    [1, 2, 3, 4, 5].map((factor) => sum(mul(x, factor), { axis: 0 })).reduce((total, part) => add(total, part))
  );
  assertEquals([...new Set(await f(x).data())], [15 * length]);
});

gpuTest("many reductions of long rows do not share an invocation's loops", async () => {
  const x = ones([64, 16_001]);
  const f = jit((x: Tensor) => {
    let y = x;
    for (let i = 0; i < 6; i++) y = mul(y, transpose(reshape(max(y, { axis: 1 }), [1, 64])));
    return sum(y, { axis: 1 });
  });
  assertEquals([...new Set(await f(x).data())], [16_001]);
});

Deno.test("a reduction is split by its length and by the number of its results", () => {
  const dispatches = (...shape: number[]) =>
    compile((x) => sum(x!, { axis: -1 }), [f32(...shape)], { adapter: SOFTWARE }).dispatches
      .filter(({ copy }) => copy === undefined).length;
  assertEquals([dispatches(2048), dispatches(2049), dispatches(64, 16_384), dispatches(64, 16_385)], [1, 2, 1, 2]);
});
