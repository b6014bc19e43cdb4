/**
 * Clustering by k-means, for tables that send like tokens to one expert or to different ones.
 *
 * Letters: N points, C clusters, D width.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { expectNoProblems, ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { div, maximum, minimum, mul, sub } from "../ops/binary.ts";
import { greater } from "../ops/compare.ts";
import { stack } from "../ops/concat.ts";
import { argmin } from "../ops/extremum.ts";
import { group } from "../ops/group.ts";
import { matmul } from "../ops/matmul.ts";
import { expectFloat } from "../ops/operand.ts";
import { split } from "../ops/random.ts";
import { sum } from "../ops/reduce.ts";
import { takeRows } from "../ops/rows.ts";
import { categorical, randomInt } from "../ops/samplers.ts";
import { segmentSum } from "../ops/scatter.ts";
import { where } from "../ops/select.ts";
import { log, square } from "../ops/unary.ts";
import { unsqueeze } from "../ops/view.ts";

/** Options of {@linkcode kMeans}. */
export interface KMeansOptions {
  /** Number of clusters, 1..N. */
  readonly clusters: number;
  /** Rounds of moving every centroid to the mean of its points, 25 by default. */
  readonly iterations?: number;
}

/** Points by cluster. */
export interface Clustering {
  /** Centers of the clusters, f32[C, D]. */
  readonly centroids: Tensor;
  /** The nearest centroid of each point, u32[N]; of equally near ones the first. */
  readonly nearest: Tensor;
}

const DEFAULT_ITERATIONS = 25;

/**
 * Clusters points by k-means: the first centroids are points, drawn far apart, and each round moves every centroid to the
 * mean of the points nearest to it.
 *
 * Shapes: `points` [N, D] -> centroids f32[C, D] and nearest u32[N]. A pure function of key and points, computed on the
 * device in f32 in a fixed number of rounds. A centroid without points stays where it is.
 *
 * @param key Draws the first centroids, each with a probability in proportion to the squared distance from those before.
 * @param points Float [N, D], such as the embeddings of a trained model.
 * @throws {ShapeError} If `points` is not a matrix.
 * @throws {DTypeError} If it does not hold floats.
 * @throws {ConfigError} If there are more clusters than points, or an option is not a whole number; all at once.
 *
 * @example Two pairs of points
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, kMeans, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const { nearest } = kMeans(key(0), tensor([[0, 0], [9, 9], [0, 1], [9, 8]]), { clusters: 2 });
 * const [a, b, c, d] = await nearest.data();
 * assertEquals([a === c, b === d, a === b], [true, true, false]);
 * ```
 *
 * Source: Lloyd 1982; Arthur and Vassilvitskii 2007 for the first centroids.
 */
export function kMeans(key: Key, points: Tensor, options: KMeansOptions): Clustering {
  const { clusters, iterations = DEFAULT_ITERATIONS } = options;
  const wide = castTo(expectFloat("kMeans", points), "f32");
  if (wide.shape.length !== 2) {
    throw new ShapeError("shape/k-means", {
      summary: `Cannot cluster ${formatAval(points)}: points should be [count, width]`,
      facts: [["op", "kMeans(key, points, { clusters })"]],
      fix: "reshape the points to a matrix with one point for each row",
      details: { shape: points.shape },
    });
  }
  const [count] = wide.shape as [number, number];
  const isCount = Number.isInteger(clusters) && clusters >= 1 && clusters <= count;
  const isRounds = Number.isInteger(iterations) && iterations >= 0;
  expectNoProblems("kMeans", [
    ...(isCount ? [] : [["clusters", clusters, `must be a whole number in 1..${count} (there are ${count} points)`]]),
    ...(isRounds ? [] : [["iterations", iterations, "must be a whole number from 0 up"]]),
  ] as [string, unknown, string][]);

  let centroids = drawCentroids(key, wide, clusters);
  for (let round = 0; round < iterations; round++) {
    const nearest = nearestOf(wide, centroids);
    const { counts } = group(nearest, clusters);
    const size = unsqueeze(castTo(counts, "f32"), 1); // [C, 1]
    const means = div(segmentSum(wide, nearest, clusters), maximum(size, 1));
    centroids = where(greater(size, 0), means, centroids);
  }
  return { centroids, nearest: nearestOf(wide, centroids) };
}

/** The nearest centroid of each point. Its distance lacks the point's own square, which is the same for all. */
function nearestOf(points: Tensor, centroids: Tensor): Tensor {
  const products = matmul(points, centroids, { transposeB: true }); // [N, C]
  const squares = sum(square(centroids), { axis: 1 });
  return argmin(sub(squares, mul(products, 2)), { axis: 1 });
}

/** Draws points as centroids. A point already drawn has distance 0, so it is drawn again only if all others coincide. */
function drawCentroids(key: Key, points: Tensor, clusters: number): Tensor {
  const [first, ...others]: readonly Key[] = split(key, clusters);
  const distanceTo = (centroid: Tensor) => sum(square(sub(points, centroid)), { axis: 1 }); // [N]
  const drawn = [takeRows(points, randomInt(first!, [], { max: points.shape[0]!, dtype: "u32" }))];
  let distance = distanceTo(drawn[0]!);
  for (const other of others) {
    const next = takeRows(points, categorical(other, log(distance)));
    drawn.push(next);
    distance = minimum(distance, distanceTo(next));
  }
  return stack(drawn);
}
