/**
 * Runs of a comparison that train nothing: they leave the files of a run, and tell what a run tells.
 *
 * @module
 */
import { writeCheckpoint } from "../../../../src/train/checkpoint.ts";
import type { ComparisonRequest } from "../../../../src/train/compare/comparison.ts";
import type { ComparisonEvent } from "../../../../src/train/compare/events.ts";
import type { Execute, ProcessEnd } from "../../../../src/train/compare/runner.ts";
import { parseVariants } from "../../../../src/train/compare/specs.ts";
import type { TrainConfig } from "../../../../src/train/config.ts";
import { METRICS_FILE } from "../../../../src/train/metrics.ts";
import { keepConfig } from "../../../../src/train/run_folder.ts";

/** A comparison of small models. */
export function requestOf(routers: string, changes: Partial<ComparisonRequest> = {}): ComparisonRequest {
  return {
    title: null,
    variants: parseVariants(routers, []),
    common: { width: 16, heads: 2, layers: 2, expertWidth: 24, seq: 16, batch: 4, experts: 3 },
    budget: { kind: "steps", amount: 20 },
    match: "compute",
    seeds: 2,
    ...changes,
  };
}

/** What a fake run does: takes all its steps, or stops half way like a process that ended so. */
export type Behavior = ProcessEnd["kind"];

/** Runs as configurations were passed, and what trains them. */
export interface FakeRuns {
  /** Trains a run. */
  readonly execute: Execute;
  /** The folders and resumed folders of the runs that were started. */
  readonly started: TrainConfig[];
}

/** The loss of a fake run: its router and its seed decide. */
export function fakeLoss({ router, seed }: Pick<TrainConfig, "router" | "seed">): number {
  return 2 + router.length / 100 + seed / 10;
}

/** Makes runs that behave as `behaviorOf` says; they are done by default. */
export function fakeRuns(behaviorOf: (config: TrainConfig, started: number) => Behavior = () => "over"): FakeRuns {
  const started: TrainConfig[] = [];
  async function execute(
    config: TrainConfig,
    { onEvent }: Parameters<Execute>[1],
  ): Promise<ProcessEnd> {
    started.push(config);
    const behavior = behaviorOf(config, started.length);
    const { out, steps, batch, seq, router } = config;
    const step = behavior === "over" ? steps : Math.ceil(steps / 2);
    await Deno.mkdir(out!, { recursive: true });
    await keepConfig(out!, config);
    const counts = { parameters: 1000, activeParameters: 500 };
    onEvent({
      event: "start",
      out: out!,
      adapter: "fake adapter",
      model: router,
      ...counts,
      corpus: "fake text",
      step: 0,
      steps,
      plannedBytes: 1_000_000,
    });
    const loss = fakeLoss(config);
    const load = router === "dense" ? {} : { load: [[0.5, 0.25, 0.25], [1, 0, 0]], dropped: [0, 0.5] };
    const rows = [
      { step: Math.ceil(step / 2), validationBitsPerByte: loss + 1, bytesPerSecond: 100, ...load },
      { step, validationBitsPerByte: loss, bytesPerSecond: 300, ...load },
    ];
    await Deno.writeTextFile(`${out}/${METRICS_FILE}`, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    await writeCheckpoint(out!, {
      step,
      files: new Map(
        ["model.safetensors", "optimizer.safetensors", "run.json"].map((name) => [name, new Uint8Array(8)]),
      ),
    });
    if (behavior !== "over") {
      return behavior === "interrupted" ? { kind: behavior } : { kind: behavior, reason: "a reason" };
    }
    onEvent({
      event: "end",
      reason: "steps",
      step,
      bytesSeen: step * batch * seq,
      seconds: 3,
      validationBitsPerByte: loss,
      gzipBitsPerByte: 3,
      prompt: "",
      sample: "",
      files: [],
    });
    return { kind: "over" };
  }
  return { execute, started };
}

/** Collects what a comparison tells. */
export function listen(): { readonly events: ComparisonEvent[]; readonly onEvent: (event: ComparisonEvent) => void } {
  const events: ComparisonEvent[] = [];
  return { events, onEvent: (event) => void events.push(event) };
}

/** Runs a test in a fresh folder. */
export async function inFreshFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
