import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { group } from "../../src/ops/group.ts";
import { chooseStrips, MAX_COUNTED_GROUPS } from "../../src/ops/group_kernel.ts";
import { checkOp, gpuTest, oracleTest, randomSource } from "../support/check_primitive.ts";

checkOp({
  name: "group",
  fn(ids) {
    const { offsets, order, rank, counts } = group(ids, 3);
    return [offsets, order, rank, counts];
  },
  samples: [
    { inputs: [{ shape: [11], dtype: "u32", range: [0, 5] }] },
    { inputs: [{ shape: [1], dtype: "u32" }] },
    { inputs: [{ shape: [40], dtype: "i32", range: [-2, 4] }] },
  ],
});

/** Compares a grouping with its definition. */
async function checkGroup(ids: Uint32Array, groups: number): Promise<void> {
  const { offsets, order, rank, counts } = await read(group(tensor(ids), groups));
  const where = `${ids.length} ids, ${groups} groups`;
  const members = Array.from({ length: groups + 1 }, (): number[] => []);
  ids.forEach((id, i) => members[Math.min(id, groups)]!.push(i));
  const sorted = members.flat();
  assertEquals([...counts], members.slice(0, groups).map(({ length }) => length), where);
  assertEquals(offsets[0], 0, where);
  for (let e = 0; e < groups; e++) assertEquals(offsets[e + 1]! - offsets[e]!, counts[e]!, where);
  assertEquals(order.findIndex((element, position) => element !== sorted[position]), -1, where);
  const wrong = sorted.findIndex((element, position) =>
    rank[element] !== (position < offsets[groups]! ? position : 0xffffffff)
  );
  assertEquals(wrong, -1, where);
}

function drawIds(size: number, high: number, skew = 1): Uint32Array {
  const random = randomSource(size + high);
  return Uint32Array.from({ length: size }, () => Math.floor(high * random.uniform(0, 1) ** skew));
}

gpuTest("group() agrees with its definition for every way of counting", async () => {
  for (const [size, groups] of [[1, 1], [7, 3], [129, 5], [1000, 1], [2048, 8], [4097, 64], [3000, 1000]] as const) {
    await checkGroup(drawIds(size, groups + 2), groups);
    await checkGroup(drawIds(size, groups, 4), groups);
  }
});

gpuTest("group() takes a million ids", async () => {
  await checkGroup(drawIds(1_000_003, 17), 16);
});

gpuTest("group() takes many groups, counted or sorted", async () => {
  await checkGroup(drawIds(5000, 40_000), 30_000);
  await checkGroup(drawIds(700, MAX_COUNTED_GROUPS + 100), MAX_COUNTED_GROUPS + 1);
});

gpuTest("group() handles ids that are all null, all equal, or none", async () => {
  await checkGroup(new Uint32Array(300).fill(0xffffffff), 7);
  await checkGroup(new Uint32Array(300).fill(6), 7);
  await checkGroup(new Uint32Array(0), 7);
});

oracleTest("group() leaves no strip longer than a software adapter's iterations allow", () => {
  for (const size of [1, 100, 10_000, 1_000_000, 16_000_000]) {
    for (const groups of [1, 8, 1000, MAX_COUNTED_GROUPS]) {
      for (const software of [true, false]) {
        const { method, length, count } = chooseStrips(size, groups, software);
        const loops = Math.max(length + (method === "serial" ? groups / 2 + 2 : 0), 2 * count);
        assertEquals(loops < 65_535 && length * count >= size, true, `${size}, ${groups}`);
      }
    }
  }
});

oracleTest("group() refuses fractions, matrices and no groups", () => {
  assertThrows(() => group(zeros([3]), 2), DTypeError, "as indices in group");
  assertThrows(() => group(zeros([3, 1], { dtype: "u32" }), 2), ShapeError, "one axis, not 2");
  assertThrows(() => group(zeros([3], { dtype: "u32" }), 0), ConfigError, "Cannot make 0 groups");
});
