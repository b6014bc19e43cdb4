import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { scatterAdd, segmentSum } from "../../src/ops/scatter.ts";
import { assertClose, checkOp, gpuTest, oracleTest, randomSource, toleranceFor } from "../support/check_primitive.ts";

function ids(
  shape: readonly number[],
  high: number,
): { shape: readonly number[]; dtype: "u32"; range: [number, number] } {
  return { shape, dtype: "u32", range: [0, high] };
}

checkOp({
  name: "segmentSum",
  fn: (values, places) => segmentSum(values!, places!, 4),
  samples: [
    { inputs: [{ shape: [7, 3] }, ids([7], 6)] },
    { inputs: [{ shape: [3, 5, 8] }, ids([3, 5], 4)] },
    { inputs: [{ shape: [9] }, ids([9], 4)] },
    { inputs: [{ shape: [6, 2], dtype: "i32" }, ids([6], 5)] },
  ],
});
checkOp({
  name: "segmentSum of f16",
  fn: (values, places) => segmentSum(values!, places!, 4),
  samples: [{ inputs: [{ shape: [7, 3], dtype: "f16" }, ids([7], 6)], differentiable: false }],
});
checkOp({
  name: "scatterAdd",
  fn: (base, places, updates) => scatterAdd(base!, places!, updates!),
  samples: [
    { inputs: [{ shape: [5, 3] }, ids([4], 7), { shape: [4, 3] }] },
    { inputs: [{ shape: [5] }, ids([2, 3], 5), { shape: [] }] },
  ],
});

/** Compares a sum of segments with a float64 loop, and with itself bit for bit. */
async function checkSums(rows: number, columns: number, segments: number, skew: number): Promise<void> {
  const random = randomSource(rows + columns);
  const places = Uint32Array.from({ length: rows }, () => Math.floor(segments * random.uniform(0, 1) ** skew));
  const values = Float32Array.from({ length: rows * columns }, () => random.uniform(-1, 1));
  const expected = new Float64Array(segments * columns);
  values.forEach((value, i) => {
    expected[places[Math.floor(i / columns)]! * columns + i % columns]! += value;
  });
  const sums = () => segmentSum(tensor(values, { shape: [rows, columns] }), tensor(places), segments).data();
  const found = await sums();
  const { relative } = toleranceFor("f32");
  const absolute = 1e-6 * Math.sqrt(rows);
  assertClose(found, expected, { relative, absolute }, `${rows} rows, ${columns} columns, ${segments} segments`);
  assertEquals(await sums(), found);
}

gpuTest("segmentSum() adds embedding gradients", () => checkSums(2048, 128, 256, 3));
gpuTest("segmentSum() adds few long segments", async () => {
  await checkSums(5000, 1, 3, 1);
  await checkSums(1100, 5, 1, 1);
});
gpuTest("segmentSum() adds one segment longer than an invocation may loop", () => checkSums(100_000, 4, 40, 40));

oracleTest("segmentSum() drops ids out of range and counts booleans", async () => {
  const places = tensor([-1, 0, 2, 0], { dtype: "i32" });
  assertEquals([...await segmentSum(tensor([true, true, true, true]), places, 2).data()], [2, 0]);
});

async function checkEmpty(): Promise<void> {
  const none = zeros([0], { dtype: "u32" });
  assertEquals([...await scatterAdd(tensor([1, 2]), none, zeros([0])).data()], [1, 2]);
  assertEquals([...await segmentSum(zeros([0, 2]), none, 1).data()], [0, 0]);
}
oracleTest("scatterAdd() of nothing changes nothing", checkEmpty);
gpuTest("scatterAdd() of nothing changes nothing", checkEmpty);

gpuTest("scatterAdd() rounds half precision once", async () => {
  const ones = cast(tensor(new Float32Array(3001).fill(1)), "bf16");
  const sums = await scatterAdd([2], zeros([3001], { dtype: "u32" }), ones).data();
  // In bf16 a running sum of ones stops at 256.
  assertEquals([...sums], [3008, 0]);
});

oracleTest("scatterAdd() refuses updates that do not fit", () => {
  const place = zeros([2], { dtype: "u32" });
  assertThrows(() => scatterAdd([3, 4], place, zeros([2, 5])), ShapeError, "Cannot broadcast");
  assertThrows(() => scatterAdd([3, 4], place, zeros([7, 2, 4])), ShapeError, "have shape [2, 4]");
  assertThrows(() => scatterAdd([], place, zeros([2])), ShapeError, "no axis to index");
  assertThrows(() => scatterAdd(zeros([3], { dtype: "bool" }), place, zeros([2])), DTypeError, "do not add");
  assertThrows(() => segmentSum(zeros([3, 2]), place, 2), ShapeError, "the leading axes differ");
});
