import { assertAlmostEquals, assertEquals } from "@std/assert";
import { meanCurve } from "../../../src/train/compare/mean_curve.ts";
import { routingOf } from "../../../src/train/compare/run_results.ts";
import { medianOf, pairedDifference, spreadOf } from "../../../src/train/compare/statistics.ts";

Deno.test("spreadOf() is the mean and the deviation of a sample", () => {
  assertEquals(spreadOf([2, 4, 4, 4, 5, 5, 7, 9]).mean, 5);
  assertAlmostEquals(spreadOf([2, 4, 4, 4, 5, 5, 7, 9]).deviation, Math.sqrt(32 / 7), 1e-12);
  assertEquals(spreadOf([3]), { mean: 3, deviation: NaN, count: 1 });
  assertEquals(spreadOf([]), { mean: NaN, deviation: NaN, count: 0 });
});

Deno.test("pairedDifference() cancels what seeds have in common, and leaves out what has no partner", () => {
  const values = new Map([[0, 1.5], [1, 2.5], [2, 9]]);
  const reference = new Map([[1, 2], [0, 1.1]]);
  const { mean, deviation, count } = pairedDifference(values, reference);
  assertAlmostEquals(mean, 0.45, 1e-12);
  assertAlmostEquals(deviation, 0.1 / Math.SQRT2, 1e-12);
  assertEquals(count, 2);
});

Deno.test("medianOf() takes the middle", () => {
  assertEquals([medianOf([5, 1, 9]), medianOf([4, 1, 2, 9]), medianOf([])], [5, 3, NaN]);
});

Deno.test("meanCurve() averages as far as all curves reach", () => {
  assertEquals(meanCurve([[[0, 4], [10, 2], [20, 1]], [[0, 6], [8, 2], [16, 0]]]), [
    { x: 0, mean: 5, deviation: Math.SQRT2 },
    { x: 10, mean: 1.75, deviation: Math.sqrt(0.125) },
    { x: 16, mean: 0.7, deviation: meanCurve([[[16, 1.4]], [[16, 0]]])[0]!.deviation },
  ]);
  assertEquals(meanCurve([[[1, 2]]]), [{ x: 1, mean: 2, deviation: 0 }]);
  assertEquals(meanCurve([[[1, 2]], []]), []);
});

Deno.test("routingOf() measures the last quarter, as means over layers", () => {
  const early = { step: 1, load: [[1, 0], [1, 0]], dropped: [1, 1] };
  const late = { step: 4, load: [[0.75, 0.25], [0.5, 0.5]], dropped: [0.5, 0] };
  const { dropped, maxLoad, loadVariation } = routingOf([early, early, early, late, {
    step: 5,
    validationBitsPerByte: 2,
  }]);
  assertEquals([dropped, maxLoad, loadVariation], [0.25, 1.25, 0.25]);
  assertEquals(routingOf([{ step: 1 }]), { dropped: NaN, maxLoad: NaN, loadVariation: NaN });
});
