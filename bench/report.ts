/**
 * From timings to results, and their lines in the report.
 *
 * @module
 */
import type { Ceilings } from "./ceilings.ts";
import { formatCount, formatMs, formatNumber, formatRates, formatUnits, formatWork } from "./format.ts";
import { type PeerOutcome, peerTitle } from "./peers/peers.ts";
import { type Contender, median, type Question, timeRatio, type Timing, type Work, type Workload } from "./harness.ts";
import type { BenchResult } from "./results.ts";

/** What a result is made from. */
export interface Measured {
  /** The question. */
  readonly question: Question;
  /** One of its workloads. */
  readonly workload: Workload;
  /** One of that one's contenders. */
  readonly contender: Contender;
  /** The timings of all contenders of the workload. */
  readonly timings: readonly Timing[];
  /** What the adapter can do at most. */
  readonly ceilings: Ceilings;
}

/** The ceiling that binds: the one of arithmetic and traffic that takes longer, and its share of the time it took. */
export function ceilingOf(
  { flop, bytes }: Work,
  ms: number,
  { copyGBps, matmulGflops }: Ceilings,
): BenchResult["ceiling"] {
  const [multiplyMs, copyMs] = [flop / matmulGflops / 1e6, bytes / copyGBps / 1e6];
  return multiplyMs > copyMs ? { of: "matmul", share: multiplyMs / ms } : { of: "copy", share: copyMs / ms };
}

/** Sums up one contender's rounds. */
export function resultOf({ question, workload, contender, timings, ceilings }: Measured): BenchResult {
  const timing = timings.find((each) => each.contender === contender.name)!;
  const baseline = timings.find((each) => each.contender === contender.ratioTo);
  const medianMs = median(timing.callMs);
  const { flop, bytes, items } = contender.work;
  const { plannedBytes } = contender;
  return {
    name: `${question.name} ${workload.name}, ${contender.name}`,
    shapes: workload.shapes,
    flop,
    bytes,
    ...(items === undefined ? {} : { items }),
    ...(plannedBytes === undefined ? {} : { plannedBytes }),
    medianMs,
    leastMs: Math.min(...timing.callMs),
    mostMs: Math.max(...timing.callMs),
    calls: timing.calls,
    rounds: timing.callMs.length,
    ceiling: ceilingOf(contender.work, medianMs, ceilings),
    ...(baseline === undefined ? {} : { ratio: { to: baseline.contender, times: timeRatio(timing, baseline) } }),
    ...(timing.hostMs.length === 0 ? {} : { hostMs: median(timing.hostMs) }),
    allocations: timing.allocations,
  };
}

/** Sums up a peer's rounds. Its ratio is to this library's time in the same rounds. */
export function peerResultOf(
  { peer, form, timings }: PeerOutcome,
  { question, workload, contender, ceilings }: Omit<Measured, "timings">,
): BenchResult {
  const title = peerTitle(peer);
  const { ours, theirs } = timings!;
  const pair = { ...contender, name: title, ratioTo: contender.name };
  return {
    ...resultOf({ question, workload, contender: pair, timings: [ours, theirs], ceilings }),
    name: `${question.name} ${workload.name}, ${contender.name}, ${title}`,
    // Those are of the other process.
    allocations: 0,
    peer: title,
    versus: `${question.name} ${workload.name}, ${contender.name}`,
    form: form!,
  };
}

/** The line of a result below its workload. */
export function formatResult(result: BenchResult): string {
  const { name, medianMs, leastMs, mostMs, calls, rounds, ceiling, ratio, allocations, items, flop, bytes, form } =
    result;
  const work: Work = { flop, bytes, ...(items === undefined ? {} : { items }) };
  return [
    `    ${(form === undefined ? name.slice(name.lastIndexOf(", ") + 2) : `  ${result.peer}, ${form}`).padEnd(24)}`,
    `${formatMs(medianMs)} (${formatMs(leastMs)} to ${formatMs(mostMs)})`.padEnd(34),
    formatWork(work),
    formatRates(work, medianMs),
    `${formatNumber(100 * ceiling.share)} % of ${ceiling.of} ceiling`,
    `${rounds} x ${formatCount(calls, "call")}`,
    ...(result.plannedBytes === undefined ? [] : [`${formatUnits(result.plannedBytes, "B")} planned`]),
    ...(allocations > 0 ? [formatCount(allocations, "new buffer")] : []),
    ...(ratio === undefined ? [] : [`${ratio.times.toFixed(2)}x the time of ${ratio.to}`]),
  ].join("  ");
}
