import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { bestOf, chooseThreshold, compareTimes, type ThresholdProbe } from "../../src/calibrate/choose.ts";

const STANDARD = [10, 12, 11, 10, 13, 10, 12];

/** Times of a candidate that takes so many times the standard's, round by round. */
function times(...ratios: number[]): number[] {
  return ratios.map((ratio, round) => ratio * STANDARD[round]!);
}

Deno.test("compareTimes() takes a candidate for faster only where it is so by more than noise and in most rounds", () => {
  const faster = compareTimes(times(0.9, 0.8, 0.85, 0.9, 1.1, 0.9, 0.9), STANDARD);
  assertEquals([faster.wins, faster.rounds, faster.isFaster], [6, 7, true]);
  assertAlmostEquals(faster.ratio, 0.9);
  // Within noise, however often.
  assert(!compareTimes(times(0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95), STANDARD).isFaster);
  // Far ahead at the median, but behind in three rounds of seven.
  assert(!compareTimes(times(0.5, 0.5, 0.5, 0.5, 1.2, 1.2, 1.2), STANDARD).isFaster);
  assert(!compareTimes(STANDARD, STANDARD).isFaster);
  assert(!compareTimes([], []).isFaster);
});

Deno.test("compareTimes() compares within a round: a machine that slows down for some rounds changes nothing", () => {
  const slowdown = [1, 1, 3, 3, 1, 5, 1];
  const slowed = (values: number[]) => values.map((ms, round) => ms * slowdown[round]!);
  const candidate = times(0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9);
  const { ratio, wins, isFaster } = compareTimes(slowed(candidate), slowed(STANDARD));
  assertAlmostEquals(ratio, 0.9);
  assertEquals([wins, isFaster], [7, true]);
});

Deno.test("bestOf() finds the fastest of those that are faster beyond doubt", () => {
  const of = (...ratios: number[]) => compareTimes(times(...ratios), STANDARD);
  const close = of(0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95);
  const unsteady = of(0.2, 0.2, 0.2, 0.2, 2, 2, 2);
  const good = of(0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9);
  const better = of(0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7);
  assertEquals(bestOf([close, good, unsteady, better]), 3);
  assertEquals(bestOf([better, good]), 0);
  assertEquals(bestOf([close, unsteady]), null);
  assertEquals(bestOf([]), null);
});

Deno.test("chooseThreshold() moves as far as measurements speak for it without a gap", () => {
  const probes = (...faster: ThresholdProbe["faster"][]) => faster.map((each, i) => ({ work: 10 ** i, faster: each }));
  // Sizes 1, 10, 100, 1000, 10000; the standard, 50, lies between the second and the third.
  const choose = (...faster: ThresholdProbe["faster"][]) => chooseThreshold(probes(...faster), 50, Infinity);
  assertEquals(choose("below", "neither", "neither", "above", "above"), 50);
  assertEquals(choose("below", "above", "above", "above", "above"), 10);
  assertEquals(choose("above", "above", "above", "above", "above"), 1);
  // A win at a small size says nothing while the size between is undecided.
  assertEquals(choose("above", "neither", "above", "above", "above"), 50);
  assertEquals(choose("below", "below", "below", "above", "above"), 1000);
  assertEquals(choose("below", "below", "below", "neither", "above"), 1000);
  assertEquals(choose("below", "below", "below", "below", "below"), Infinity);
  assertEquals(choose("below", "below", "neither", "below", "below"), 50);
  assertEquals(choose(), 50);
  assertEquals(chooseThreshold(probes("below", "below"), 10, Infinity), Infinity);
});
