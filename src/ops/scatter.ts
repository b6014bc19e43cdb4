/**
 * Adding elements by index, deterministically: the ids are grouped, then each group is added in the original order. No
 * float atomics, so a run repeats bit for bit.
 *
 * @module
 */
import { broadcastTo, castTo, fullLike, plus } from "../core/arithmetic.ts";
import { DTypeError, ShapeError } from "../core/errors.ts";
import { broadcastShapes, expectShape, formatAval, sameShape, type Shape } from "../core/shape.ts";
import { Tensor } from "../core/tensor.ts";
import { expectInteger } from "./operand.ts";
import { sumRows } from "./rows.ts";

/**
 * Adds rows with equal ids: `result[e]` is the sum of the values whose id is `e`, zero where there is none.
 *
 * Shapes: values [...I, ...R] and ids [...I] -> [segments, ...R]. Ids outside 0..segments-1 are dropped. The order of
 * addition is fixed; half precision is added in f32; booleans are counted as u32.
 *
 * @param ids u32 or i32.
 * @throws {ShapeError} If `values` does not begin with the axes of `ids`.
 * @throws {DTypeError} If the ids are not integers.
 *
 * @example Three values in two segments
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, segmentSum, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const sums = segmentSum(tensor([1, 2, 3]), tensor([1, 0, 1], { dtype: "u32" }), 2);
 * assertEquals([...await sums.data()], [2, 4]);
 * ```
 */
export function segmentSum(values: Tensor, ids: Tensor, segments: number): Tensor {
  expectInteger("segmentSum", ids);
  expectShape("segmentSum", [segments]);
  if (!sameShape(values.shape.slice(0, ids.shape.length), ids.shape)) {
    throw new ShapeError("shape/segment-sum", {
      summary: `Cannot add ${formatAval(values)} by ids ${formatAval(ids)}: the leading axes differ`,
      facts: [["op", "segmentSum(values, ids, segments)"]],
      fix: "give one id for each row of values",
      details: { values: values.shape, ids: ids.shape },
    });
  }
  const numbers = values.dtype === "bool" ? castTo(values, "u32") : values;
  // A negative i32 becomes a huge u32, which is out of range as it should be.
  return sumRows(numbers, castTo(ids, "u32"), segments);
}

/**
 * Adds updates to rows of a tensor: `result[indices[i]] += updates[i]`, also where an index is repeated.
 *
 * Shapes: base [N, ...R], indices [...I], updates broadcast to [...I, ...R]. Indices outside 0..N-1 are dropped. The
 * order of addition is fixed, so a run repeats bit for bit. Differentiable in base and updates.
 *
 * @param base What to add to, or a shape for zeros.
 * @param indices u32 or i32.
 * @throws {ShapeError} If `base` has no axis, or the updates do not broadcast.
 * @throws {DTypeError} If the indices are not integers, or the base holds booleans.
 *
 * @example Two updates of one row
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, scatterAdd, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const index = tensor([1, 1], { dtype: "u32" });
 * assertEquals([...await scatterAdd([3], index, tensor([2, 5])).data()], [0, 7, 0]);
 * ```
 */
export function scatterAdd(base: Tensor | Shape, indices: Tensor, updates: Tensor): Tensor {
  const target = base instanceof Tensor ? base : fullLike(base, updates.dtype, 0);
  const [rows, ...rest] = target.shape;
  if (rows === undefined) {
    throw new ShapeError("shape/scatter", {
      summary: `Cannot scatter into ${formatAval(target)}: it has no axis to index`,
      facts: [["op", "scatterAdd(base, indices, updates)"]],
      fix: "scatter into a tensor with one axis or more",
    });
  }
  if (target.dtype === "bool") {
    throw new DTypeError("dtype/scatter", {
      summary: `Cannot scatter into ${formatAval(target)}: booleans do not add`,
      facts: [["op", "scatterAdd(base, indices, updates)"]],
      fix: `cast first: cast(x, "u32")`,
    });
  }
  const shape = [...indices.shape, ...rest];
  if (!sameShape(broadcastShapes("scatterAdd", updates.shape, shape), shape)) {
    throw new ShapeError("shape/scatter", {
      summary: `Cannot scatter ${formatAval(updates)}: updates of ${formatAval(target)} at indices ${
        formatAval(indices)
      } have shape [${shape.join(", ")}]`,
      facts: [["op", "scatterAdd(base, indices, updates)"]],
      fix: "give one update for each index",
      details: { updates: updates.shape, expected: shape },
    });
  }
  const sums = segmentSum(broadcastTo(castTo(updates, target.dtype), shape), indices, rows);
  return base instanceof Tensor ? plus(base, sums) : sums;
}
