/**
 * `deno task bench`: checks and times every question, prints rates and ratios, keeps and compares results.
 *
 * @module
 */
import { calibrate, type DeviceInfo, expectNoProblems, init, memory, SwitchyardError } from "../mod.ts";
import { formatDecision } from "../src/calibrate/mod.ts";
import { attentionQuestion } from "./attention_bench.ts";
import { calibrationQuestion } from "./calibration_bench.ts";
import { type Ceilings, measureCeilings } from "./ceilings.ts";
import { decodeQuestion } from "./decode_bench.ts";
import { elementwiseChainQuestion } from "./elementwise_chain_bench.ts";
import { executeQuestion } from "./execute_bench.ts";
import { formatMs, formatNumber } from "./format.ts";
import { type Built, entrantOf, type Question, timeInTurns, withBuilt, type Workload } from "./harness.ts";
import { layerNormQuestion } from "./layer_norm_bench.ts";
import { matmulQuestion } from "./matmul_bench.ts";
import { mlpStepQuestion } from "./mlp_step_bench.ts";
import { moeLayerQuestion } from "./moe_layer_bench.ts";
import { type BenchOptions, HELP, readOptions } from "./options.ts";
import { measurePeer, PEERS, peerTitle } from "./peers/peers.ts";
import { compareWithTorch } from "./peers/torch.ts";
import { planQuestion } from "./plan_bench.ts";
import { precisionQuestion } from "./precision_bench.ts";
import { formatResult, peerResultOf, resultOf } from "./report.ts";
import {
  type BenchResult,
  type BenchRun,
  compareRuns,
  type PeerFailure,
  readRun,
  resultPath,
  writeRun,
} from "./results.ts";
import { segmentQuestion } from "./segment_bench.ts";
import { softmaxQuestion } from "./softmax_bench.ts";
import { startQuestion } from "./start_bench.ts";
import { sumQuestion } from "./sum_bench.ts";
import { formatSummary } from "./summary.ts";
import { tinyOpsQuestion } from "./tiny_ops_bench.ts";
import { trainStepQuestion } from "./train_step_bench.ts";
import { transformerStepQuestion } from "./transformer_step_bench.ts";
import { valueRowsQuestion } from "./value_rows_bench.ts";
import { windowsQuestion } from "./windows_bench.ts";

const QUESTIONS: readonly Question[] = [
  matmulQuestion,
  elementwiseChainQuestion,
  softmaxQuestion,
  layerNormQuestion,
  sumQuestion,
  tinyOpsQuestion,
  attentionQuestion,
  planQuestion,
  executeQuestion,
  segmentQuestion,
  valueRowsQuestion,
  moeLayerQuestion,
  mlpStepQuestion,
  transformerStepQuestion,
  trainStepQuestion,
  precisionQuestion,
  decodeQuestion,
  windowsQuestion,
  startQuestion,
  calibrationQuestion,
];

/** Peers take this long for one call where ours takes a few: their rounds end early, after three at least. */
const PEER_PATIENCE_MS = 12_000;

interface Found {
  readonly results: BenchResult[];
  readonly failures: { readonly name: string; readonly message: string }[];
  readonly peerFailures: PeerFailure[];
}

interface Selected {
  readonly question: Question;
  readonly workloads: readonly Workload[];
}

/** The workloads that the filter lets through. */
function selectWorkloads(device: DeviceInfo, { filter, full }: BenchOptions): readonly Selected[] {
  const selected = QUESTIONS.map((question) => ({
    question,
    workloads: question.workloads(device, { full }).filter(({ name }) => `${question.name} ${name}`.includes(filter)),
  })).filter(({ workloads }) => workloads.length > 0);
  if (selected.length === 0) {
    const names = QUESTIONS.map(({ name }) => name).join(", ");
    expectNoProblems("a bench run", [["--filter", filter, `fits nothing; the questions are ${names}`]]);
  }
  return selected;
}

/** Measures workloads one after another and prints results as they come. */
async function measure(
  selected: readonly Selected[],
  ceilings: Ceilings | null,
  options: BenchOptions,
): Promise<Found> {
  const found: Found = { results: [], failures: [], peerFailures: [] };
  for (const { question, workloads } of selected) {
    console.log(`\n${question.name}: ${question.asks}`);
    for (const workload of workloads) {
      const name = `${question.name} ${workload.name}`;
      console.log(`  ${workload.name}   ${workload.shapes}`);
      try {
        await withBuilt(workload, async (built) => {
          if (ceilings === null) {
            console.log(`    verified  ${built.contenders.map(({ name }) => name).join(", ")}`);
          } else {
            await measureContenders({ question, workload, ceilings }, built, options, found);
          }
          if (options.peers) await measurePeers({ question, workload, ceilings }, built, options, found);
        });
      } catch (error) {
        // One wrong or unaffordable workload says nothing about the others.
        const message = error instanceof Error ? error.message : String(error);
        console.log(`    FAILED  ${message.replaceAll("\n", "\n            ")}`);
        found.failures.push({ name, message });
      }
    }
  }
  return found;
}

interface Place {
  readonly question: Question;
  readonly workload: Workload;
  /** Null where nothing is timed. */
  readonly ceilings: Ceilings | null;
}

/** Times the contenders of a workload in turns. */
async function measureContenders(
  place: Place & { readonly ceilings: Ceilings },
  { contenders }: Built,
  { rounds, turnMs }: BenchOptions,
  { results }: Found,
): Promise<void> {
  const timings = await timeInTurns(contenders.map((each) => entrantOf(each, place.ceilings)), { rounds, turnMs });
  const { liveBytes, pooledBytes, scratchBytes } = memory();
  const heldBytes = liveBytes + pooledBytes + scratchBytes;
  for (const contender of contenders) {
    const result = { ...resultOf({ ...place, contender, timings }), heldBytes };
    console.log(formatResult(result));
    results.push(result);
  }
}

/** Checks each peer, and times it in turns with the contender whose work it can do. */
async function measurePeers(
  place: Place,
  { contenders, peers = [] }: Built,
  { rounds, turnMs }: BenchOptions,
  { results, peerFailures }: Found,
): Promise<void> {
  const { question, workload, ceilings } = place;
  const timing = ceilings === null ? null : { rounds, turnMs, waitMs: ceilings.waitMs, patienceMs: PEER_PATIENCE_MS };
  for (const work of peers) {
    const contender = contenders.find(({ name }) => name === work.contender)!;
    const name = `${question.name} ${workload.name}, ${contender.name}`;
    for (const peer of PEERS) {
      const outcome = await measurePeer(peer, work, contender, timing);
      for (const { form, reason } of outcome.failures) {
        console.log(`      ${peerTitle(peer)}, ${form}: ${reason}`);
        peerFailures.push({ name, peer: peerTitle(peer), form, reason });
      }
      if (outcome.form === null) continue;
      if (ceilings === null) {
        console.log(`      ${peerTitle(peer)}, ${outcome.form}: verified, ${contender.name}`);
        continue;
      }
      const result = peerResultOf(outcome, { question, workload, ceilings, contender });
      console.log(formatResult(result));
      results.push(result);
    }
  }
}

function printMachine({ adapter, software, calibration }: DeviceInfo, ceilings: Ceilings | null): void {
  console.log(`adapter   ${adapter}${software ? " (software)" : ""}`);
  console.log(`runtime   ${runtimeName()}, ${navigator.hardwareConcurrency} processors`);
  console.log(`kernels   ${calibration === null ? "built-in choices" : `calibrated on ${calibration.date}`}`);
  if (ceilings === null) return;
  const { copyGBps, matmulGflops, matmulSize, fmaGflops, waitMs } = ceilings;
  console.log(
    `ceilings  copy ${formatNumber(copyGBps)} GB/s (read + written), ` +
      `matmul ${formatNumber(matmulGflops)} GFLOP/s (f32, ${matmulSize})` +
      (fmaGflops === undefined ? "" : `, arithmetic alone ${formatNumber(fmaGflops)} GFLOP/s`),
  );
  console.log(`wait      ${formatMs(waitMs)} on an idle device, once a turn, subtracted`);
}

function printWorkloads(selected: readonly Selected[]): void {
  for (const { question, workloads } of selected) {
    console.log(`${question.name}: ${question.asks}`);
    for (const { name, shapes } of workloads) console.log(`  ${name}   ${shapes}`);
  }
}

/** Measures which kernels to use here from now on, and prints decisions as they are made. */
async function runCalibration(device: DeviceInfo, { rounds, filter: only }: BenchOptions): Promise<void> {
  printMachine(device, null);
  const { path, changed } = await calibrate({
    rounds,
    only,
    onDecision: (decision) => console.log(formatDecision(decision)),
  });
  const count = changed.length === 0 ? "no choice differs" : `${changed.length} differ: ${changed.join(", ")}`;
  console.log(`\n${count} from the built-in ones\nwritten to ${path}`);
}

function runtimeName(): string {
  return `Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`;
}

async function main(): Promise<void> {
  const options = readOptions(Deno.args);
  if (options === null) return console.log(HELP);
  // Before an hour of measuring, not after it.
  const before = options.against === null ? null : await readRun(options.against);
  const device = await init();
  if (options.calibrate) return await runCalibration(device, options);
  const selected = selectWorkloads(device, options);
  if (options.list) return printWorkloads(selected);
  const ceilings = options.verify ? null : await measureCeilings(device);
  printMachine(device, ceilings);
  const found = await measure(selected, ceilings, options);
  if (ceilings !== null) {
    const run: BenchRun = {
      adapter: device.adapter,
      software: device.software,
      runtime: runtimeName(),
      date: new Date().toISOString(),
      command: ["deno task bench", ...Deno.args].join(" "),
      ceilings,
      ...found,
    };
    const summary = formatSummary(run);
    if (summary !== "") console.log(`\n${summary}`);
    if (options.torch) console.log(`\n${await compareWithTorch(run)}`);
    if (before !== null) console.log(`\n${compareRuns(run, before)}`);
    if (options.json !== null) {
      const path = resultPath(options.json, run);
      await writeRun(path, run);
      console.log(`\nwritten to ${path}`);
    }
  }
  if (found.failures.length > 0) {
    console.log(`\n${found.failures.length} failed: ${found.failures.map(({ name }) => name).join(", ")}`);
    Deno.exitCode = 1;
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof SwitchyardError)) throw error;
  console.error(error.message);
  Deno.exitCode = 2;
}
