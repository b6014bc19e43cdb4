import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { clusteredHashTable, dispersedHashTable } from "../../src/routing/cluster_tables.ts";
import { kMeans } from "../../src/routing/k_means.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

const WIDTH = 3;
const CENTERS = [[0, 0, 0], [20, 0, 5], [-15, 10, 0], [0, -30, 8]];
const SIZES = [9, 4, 7, 3];

/** Points around far centers in a mixed order, and the center of each. */
function blobs(): { readonly points: number[][]; readonly labels: number[] } {
  const random = randomSource(2);
  const labels = SIZES.flatMap((size, label) => new Array<number>(size).fill(label))
    .map((label) => ({ label, place: random.uniform() }))
    .sort((a, b) => a.place - b.place)
    .map(({ label }) => label);
  const points = labels.map((label) => CENTERS[label]!.map((c) => Math.fround(c + random.normal())));
  return { points, labels };
}

function squaredDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a, (value, i) => (value - b[i]!) ** 2).reduce((sum, value) => sum + value, 0);
}

async function checkClusters(): Promise<void> {
  const { points, labels } = blobs();
  for (const seed of [0, 1, 2]) {
    const found = await read(kMeans(key(seed), tensor(points), { clusters: CENTERS.length }));
    const centroids = CENTERS.map((_, c) => [...found.centroids.slice(c * WIDTH, (c + 1) * WIDTH)]);
    found.nearest.forEach((cluster, i) => {
      const distances = centroids.map((centroid) => squaredDistance(points[i]!, centroid));
      assertEquals(cluster, distances.indexOf(Math.min(...distances)), `nearest of point ${i}`);
    });
    for (const [c, centroid] of centroids.entries()) {
      const members = points.filter((_, i) => found.nearest[i] === c);
      assert(members.length > 0, `cluster ${c} is empty`);
      const mean = centroid.map((_, d) => members.reduce((sum, point) => sum + point[d]!, 0) / members.length);
      assertClose(centroid, mean, { relative: 1e-5, absolute: 1e-5 }, `centroid ${c}`);
      assertEquals(new Set(labels.filter((_, i) => found.nearest[i] === c)).size, 1, `seed ${seed} parts the blobs`);
    }
  }
}

oracleTest("kMeans() finds far clusters, and every centroid is the mean of its points", checkClusters);
gpuTest("kMeans() finds far clusters, and every centroid is the mean of its points", checkClusters);

oracleTest("kMeans() keeps a centroid without points, and copes with equal ones", async () => {
  const { centroids, nearest } = await read(kMeans(key(0), tensor([[1, 2], [1, 2], [1, 2]]), { clusters: 3 }));
  assertEquals([...centroids], [1, 2, 1, 2, 1, 2]);
  assertEquals([...nearest], [0, 0, 0]);
  const single = await read(kMeans(key(0), tensor([[3, 4]]), { clusters: 1, iterations: 0 }));
  assertEquals([[...single.centroids], [...single.nearest]], [[3, 4], [0]]);
});

oracleTest("kMeans() refuses what it cannot cluster, all at once", () => {
  const error = assertThrows(
    () => kMeans(key(0), zeros([3, 2]), { clusters: 4, iterations: -1 }),
    ConfigError,
  );
  assertEquals(
    error.message,
    `Cannot build kMeans: 2 options are invalid
  clusters    4   must be a whole number in 1..3 (there are 3 points)
  iterations  -1  must be a whole number from 0 up`,
  );
  assertThrows(() => kMeans(key(0), zeros([3]), { clusters: 1 }), ShapeError, "points should be [count, width]");
  assertThrows(() => kMeans(key(0), zeros([3, 1], { dtype: "u32" }), { clusters: 1 }), DTypeError);
});

async function checkTables(): Promise<void> {
  const { points, labels } = blobs();
  const experts = CENTERS.length;
  const clustered = [...await clusteredHashTable(key(1), tensor(points), experts).data()];
  const dispersed = [...await dispersedHashTable(key(1), tensor(points), experts).data()];
  const total = new Array<number>(experts).fill(0);
  for (let label = 0; label < experts; label++) {
    const members = labels.flatMap((own, id) => own === label ? [id] : []);
    assertEquals(new Set(members.map((id) => clustered[id])).size, 1, "like tokens meet one expert");
    const counts = total.map((_, expert) => members.filter((id) => dispersed[id] === expert).length);
    assert(Math.max(...counts) - Math.min(...counts) <= 1, `cluster ${label} is dealt ${counts}`);
    counts.forEach((count, expert) => total[expert]! += count);
  }
  assertEquals(new Set(clustered).size, experts);
  assert(Math.max(...total) - Math.min(...total) <= 1, `all ids are dealt ${total}`);
}

oracleTest("clusteredHashTable() brings like tokens together, dispersedHashTable() apart", checkTables);
gpuTest("clusteredHashTable() brings like tokens together, dispersedHashTable() apart", checkTables);
