import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { softmax } from "../../src/ops/softmax.ts";
import { searchProductKeys } from "../../src/routing/product_keys.ts";
import { rowUsage } from "../../src/routing/row_usage.ts";
import { checkOp } from "../support/check_primitive.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

checkOp({
  name: "searchProductKeys",
  fn: (first, second) => searchProductKeys(first, second, 3).scores,
  samples: [{ inputs: [{ shape: [4, 2, 7] }, { shape: [4, 2, 7] }] }],
});

async function checkExample(): Promise<void> {
  const [first, second] = [tensor([1, 0.5, -1, 0]), tensor([-1, 0.5, 0.9, 0.25])];
  const { scores, rows } = searchProductKeys(first, second, 2);
  assertEquals([...await rows.data()], [2, 1]);
  assertClose(await scores.data(), [1.9, 1.5], { relative: 0, absolute: 1e-6 }, "scores");
  const weights = softmax(scores);
  assertClose(await weights.data(), [0.598688, 0.401312], { relative: 0, absolute: 2e-6 }, "weights");
}
oracleTest("searchProductKeys() has the values of the published example", checkExample);
gpuTest("searchProductKeys() has the values of the published example", checkExample);

async function checkBruteForce(): Promise<void> {
  const [count, halves] = [20, 19];
  const random = randomSource(5);
  const first = Float32Array.from(random.normals(count * halves));
  const second = Float32Array.from(random.normals(count * halves));
  // More than 16 of a row are found by sorting.
  for (const k of [1, 4, 17]) {
    const shape = [count, halves];
    const found = await read(searchProductKeys(tensor(first, { shape }), tensor(second, { shape }), k));
    for (let t = 0; t < count; t++) {
      const sums = Array.from(
        { length: halves * halves },
        (_, row) => first[t * halves + Math.floor(row / halves)]! + second[t * halves + row % halves]!,
      );
      const best = sums.map((_, row) => row).sort((a, b) => sums[b]! - sums[a]!).slice(0, k);
      assertEquals([...found.rows].slice(t * k, (t + 1) * k), best);
      best.forEach((row, i) => assertAlmostEquals(found.scores[t * k + i]!, sums[row]!, 1e-5));
    }
  }
}
oracleTest("searchProductKeys() equals brute force", checkBruteForce);
gpuTest("searchProductKeys() equals brute force", checkBruteForce);

Deno.test("searchProductKeys() refuses halves and counts that do not fit", () => {
  assertThrows(() => searchProductKeys(zeros([2, 3]), zeros([2, 4]), 1), ShapeError, "f32[2, 3] and f32[2, 4]");
  assertThrows(() => searchProductKeys(zeros([]), zeros([]), 1), ShapeError, "give both halves the shape [..., n]");
  for (const k of [0, 4, 1.5]) {
    assertThrows(() => searchProductKeys(zeros([3]), zeros([3]), k), ConfigError, "use a whole number in 1..3");
  }
});

oracleTest("rowUsage() sees collapse", async () => {
  const usage = async (rows: number[][], weights: number[][]) => {
    const { used, divergence } = rowUsage({ rows: tensor(rows, { dtype: "u32" }), weights: tensor(weights) }, 4);
    return [await used.item(), await divergence.item()] as const;
  };
  const [all, even] = await usage([[0, 1], [3, 2]], [[2, 2], [2, 2]]);
  assertEquals(all, 1);
  assertAlmostEquals(even, 0, 1e-6);
  const [one, collapsed] = await usage([[1, 2], [1, 1]], [[3, 0], [1, 1]]);
  assertEquals(one, 0.25);
  assertAlmostEquals(collapsed, Math.log(4), 1e-6);
  const [none, unread] = await usage([[1, 2]], [[0, 0]]);
  assertEquals(none, 0);
  assertAlmostEquals(unread, Math.log(4), 1e-6);
});
