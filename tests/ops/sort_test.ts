import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { takeAlong } from "../../src/ops/gather.ts";
import { argsort, sort, type SortOptions } from "../../src/ops/sort.ts";
import {
  checkOp,
  fromGolden,
  type GoldenTensor,
  gpuTest,
  oracleTest,
  randomSource,
  readGolden,
} from "../support/check_primitive.ts";

checkOp({
  name: "sort",
  fn: (x) => sort(x),
  samples: [{ inputs: [{ shape: [3, 7] }] }, { inputs: [{ shape: [2, 1, 40] }] }, {
    inputs: [{ shape: [9], dtype: "i32", range: [-3, 3] }],
  }],
});
checkOp({
  name: "sort, descending on axis 0",
  fn: (x) => sort(x, { axis: 0, descending: true }),
  samples: [{ inputs: [{ shape: [5, 3] }] }],
});
checkOp({
  name: "argsort",
  fn: (x) => argsort(x, { descending: true }),
  samples: [
    { inputs: [{ shape: [3, 19], dtype: "u32", range: [0, 4] }] },
    { inputs: [{ shape: [3, 19], dtype: "bool" }] },
    { inputs: [{ shape: [50], dtype: "f16" }] },
  ],
});

interface GoldenIndices {
  readonly op: string;
  readonly options: SortOptions;
  readonly x: GoldenTensor;
  readonly indices: GoldenTensor;
}

async function checkGolden(): Promise<void> {
  const { indices } = await readGolden<{ indices: readonly GoldenIndices[] }>("ops.json");
  const cases = indices.filter(({ op }) => op === "argsort");
  assertEquals(cases.length, 3);
  for (const { x, options: { axis, descending }, indices } of cases) {
    const found = await argsort(fromGolden(x), { axis: axis!, descending: descending! }).data();
    assertEquals([...found], indices.data);
  }
}
oracleTest("argsort() agrees with jax", checkGolden);
gpuTest("argsort() agrees with jax", checkGolden);

async function checkSpecial(): Promise<void> {
  const x = tensor([0, NaN, -Infinity, -0, Infinity, -1, NaN, 1e-30]);
  assertEquals([...await argsort(x).data()], [2, 5, 0, 3, 7, 4, 1, 6]);
  assertEquals([...await argsort(x, { descending: true }).data()], [4, 7, 0, 3, 5, 2, 1, 6]);
}
oracleTest("argsort() puts NaN last and infinities in their place", checkSpecial);
gpuTest("argsort() puts NaN last and infinities in their place", checkSpecial);

gpuTest("argsort() sorts rows of any length, stably", async () => {
  for (const [rows, length] of [[3, 16], [2, 17], [1, 33], [5, 100], [2, 1000], [1, 70_001]] as const) {
    const random = randomSource(length);
    const values = Float32Array.from({ length: rows * length }, () => Math.round(random.uniform(-1, 1) * length / 3));
    const found = await argsort(tensor(values, { shape: [rows, length] })).data();
    for (let row = 0; row < rows; row++) {
      const key = (i: number) => values[row * length + i]!;
      const expected = Array.from({ length }, (_, i) => i).sort((a, b) => key(a) - key(b) || a - b);
      const wrong = expected.findIndex((place, i) => place !== found[row * length + i]);
      assertEquals(wrong, -1, `row ${row} of [${rows}, ${length}]`);
    }
  }
});

oracleTest("sort() is takeAlong() of argsort()", async () => {
  const x = tensor([[3, 1, 2], [0, 5, -1]]);
  assertEquals(await sort(x).data(), await takeAlong(x, argsort(x)).data());
});

oracleTest("sort() takes an empty axis and refuses one that does not exist", () => {
  assertEquals(sort(zeros([2, 0])).shape, [2, 0]);
  assertThrows(() => sort(zeros([2])!, { axis: 1 }), ShapeError);
});
