/**
 * How long does one whole training step take: forward, backward, clipping and AdamW, as `deno task train` does it?
 *
 * @module
 */
import { type DeviceInfo, key, realize, trainState } from "../mod.ts";
import { resolveConfig, type TrainConfig } from "../src/train/config.ts";
import { buildModel, countParameters, type ModelParams, VOCABULARY } from "../src/train/model.ts";
import { buildOptimizer, buildStep, type RunMetrics, type RunState } from "../src/train/objective.ts";
import type { PresetName, RouterName } from "../src/train/presets.ts";
import { withOracle } from "../tests/support/runtimes.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { randomBatch } from "./random_batch.ts";
import { expectClose, WrongResultError } from "./verify.ts";

/** A run that is stepped by hand. */
interface Run {
  readonly config: TrainConfig;
  readonly work: { readonly flop: number; readonly bytes: number; readonly items: { name: string; count: number } };
  /** Bytes that a step needs: state, batch, and all temporaries of the compiled program. */
  plannedBytes(): number;
  /** Takes a step and returns what it measured. */
  step(): RunMetrics;
  /** All tensors the run holds now. */
  held(): unknown;
}

function startRun(config: TrainConfig): Run {
  const model = buildModel(config);
  const optimizer = buildOptimizer(config);
  const step = buildStep(config, model, optimizer);
  const batch = realize(randomBatch(config));
  let state: RunState = realize(trainState({ params: model.init(key(1)), optimizer, key: key(2) }));
  return {
    config,
    work: workOf(config, state.params),
    plannedBytes: () => step.memory(state, batch).peakBytes,
    step() {
      const [next, metrics] = step(state, batch);
      state = next;
      return metrics;
    },
    held: () => ({ state, batch }),
  };
}

function workOf(config: TrainConfig, params: ModelParams): Run["work"] {
  const { batch, seq, layers, width } = config;
  const { parameters, activeParameters } = countParameters(config, params);
  const tokens = batch * seq;
  // Six operations for each active parameter of a token, and attention's products over the half that is not masked.
  const flop = tokens * (6 * activeParameters + 6 * layers * width * (seq + 1));
  // Parameters and both moments are read and written, gradients written and read.
  return { flop, bytes: 4 * 8 * parameters, items: { name: "tokens", count: tokens } };
}

/** Losses of three steps from the start, so that two updates show in them. */
async function firstLosses(config: TrainConfig): Promise<number[]> {
  const run = startRun(config);
  const losses: number[] = [];
  for (let i = 0; i < 3; i++) losses.push(await run.step().loss.item());
  return losses;
}

/** Checks a small batch of short windows against float64, where the host can afford it, and the real one for sense. */
async function verifyRun(run: Run): Promise<void> {
  const { config } = run;
  const short: TrainConfig = { ...config, batch: 2, seq: 7, layers: 1 };
  const expected = await withOracle(() => firstLosses(short));
  expectClose(`losses with router ${config.router}`, await firstLosses(short), expected, config.width);
  const loss = await run.step().loss.item();
  const guessing = Math.log(VOCABULARY);
  if (!(Math.abs(loss - guessing) < 0.5)) {
    throw new WrongResultError(`the first loss with router ${config.router} is ${loss}, guessing gives ${guessing}`);
  }
}

function build(configs: readonly TrainConfig[]): Built {
  const runs = configs.map(startRun);
  return {
    contenders: runs.map(({ config, work, plannedBytes, step }, place) => ({
      name: config.router,
      work,
      plannedBytes: plannedBytes(),
      run: step,
      ...(place === 0 ? {} : { ratioTo: configs[0]!.router }),
    })),
    get inputs() {
      return runs.map((run) => run.held());
    },
    async verify() {
      for (const run of runs) await verifyRun(run);
    },
  };
}

const ROUTERS: readonly RouterName[] = ["dense", "switch"];

/** The question for `deno task bench`. */
export const trainStepQuestion: Question = {
  name: "train_step",
  asks: "How long does one whole training step of a preset take, and how long with dense layers of equal active FLOP?",
  workloads({ software }: DeviceInfo, { full = false } = {}) {
    // A step of `base` takes minutes on a software adapter.
    const slow: readonly PresetName[] = full ? ["tiny", "small"] : ["tiny"];
    const presets: readonly PresetName[] = software ? slow : ["tiny", "small", "base"];
    return presets.map((preset) => {
      const configs = ROUTERS.map((router) =>
        resolveConfig({ adapter: software ? "software" : "hardware", flags: { preset, router } })
      );
      const { batch, seq, width, layers, heads, expertWidth, experts } = configs.at(-1)!;
      return {
        name: preset,
        shapes: `ids u32[${batch},${seq + 1}], width ${width}, ${layers} layers, ${heads} heads, ` +
          `${experts} experts of ${expertWidth}`,
        build: () => build(configs),
      };
    });
  },
};

await registerBenches(trainStepQuestion, import.meta);
