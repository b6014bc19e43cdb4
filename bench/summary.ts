/**
 * The table at the end of a run: each workload's time, the peers' times, and what was to be reached.
 *
 * @module
 */
import { formatMs } from "./format.ts";
import { PEERS, peerTitle } from "./peers/peers.ts";
import type { BenchResult, BenchRun } from "./results.ts";
import { targetsFor, verdict } from "./targets.ts";

/** Rows of contenders that have peers or a goal; empty if there are none. */
export function formatSummary(
  { software, ceilings, results, peerFailures = [] }: Pick<
    BenchRun,
    "software" | "ceilings" | "results" | "peerFailures"
  >,
): string {
  const targets = targetsFor(software);
  const peers = PEERS.map(peerTitle);
  const hasPeers = results.some(({ peer }) => peer !== undefined) || peerFailures.length > 0;
  const columns = hasPeers ? peers : [];
  const rows: string[][] = [["workload", "ours", ...columns, "reach"]];
  for (const ours of results.filter(({ peer }) => peer === undefined)) {
    const theirs = results.filter(({ peer, versus }) => peer !== undefined && versus === ours.name);
    const failed = peerFailures.filter(({ name }) => name === ours.name);
    const target = targets[ours.name];
    if (theirs.length === 0 && failed.length === 0 && target === undefined) continue;
    rows.push([
      ours.name,
      formatMs(ours.medianMs),
      ...columns.map((peer) =>
        cell(theirs.find((each) => each.peer === peer), failed.some((each) => each.peer === peer))
      ),
      target === undefined ? "" : verdict(target, {
        ms: ours.medianMs,
        overWebGpu: least(theirs.filter(({ peer }) => peer!.endsWith("webgpu"))),
        overAny: least(theirs),
        ratio: ours.ratio?.times,
        ofPeak: ceilings.fmaGflops && ours.flop / ours.medianMs / 1e6 / ceilings.fmaGflops,
        ofCopy: ours.bytes / ours.medianMs / 1e6 / ceilings.copyGBps,
        ofHost: ours.hostMs && ours.hostMs / ours.medianMs,
      }),
    ]);
  }
  if (rows.length === 1) return "";
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((text, column) => text.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n");
}

function cell(result: BenchResult | undefined, hasFailed: boolean): string {
  if (result === undefined) return hasFailed ? "fails" : "-";
  return `${formatMs(result.medianMs)} (${result.ratio!.times.toFixed(2)}x)`;
}

/** The ratio of the fastest peer. */
function least(theirs: readonly BenchResult[]): number | undefined {
  return theirs.length === 0 ? undefined : Math.min(...theirs.map(({ ratio }) => ratio!.times));
}
