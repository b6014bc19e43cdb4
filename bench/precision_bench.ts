/**
 * What do half-precision activations and parameters save of a training step, in time and in memory?
 *
 * @module
 */
import { type DeviceInfo, key, mixedPrecision, realize, trainState } from "../mod.ts";
import { resolveConfig, type TrainConfig } from "../src/train/config.ts";
import { buildModel, countParameters } from "../src/train/model.ts";
import { buildOptimizer, buildStep, type RunMetrics, type RunState } from "../src/train/objective.ts";
import { lossScaleFor } from "../src/train/precision.ts";
import { withOracle } from "../tests/support/runtimes.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Contender, Question, Work } from "./harness.ts";
import { randomBatch } from "./random_batch.ts";
import { WrongResultError } from "./verify.ts";

/** What is compared: what a model computes in, and what its parameters are stored in. */
interface Variant {
  readonly name: string;
  readonly compute: TrainConfig["precision"];
  readonly parameters: TrainConfig["precision"];
}

const VARIANTS: readonly [Variant, ...Variant[]] = [
  { name: "f32", compute: "f32", parameters: "f32" },
  { name: "bf16", compute: "bf16", parameters: "f32" },
  { name: "f16", compute: "f16", parameters: "f32" },
  { name: "bf16 parameters", compute: "bf16", parameters: "bf16" },
];

/** Losses of the first steps may differ by this share: eight bits of precision, through a few layers. */
const ROUNDING = 0.02;

/** A run that is stepped by hand. */
interface Run {
  readonly work: Work;
  /** Bytes that a step needs: state, batch, and all temporaries of the compiled program. */
  plannedBytes(): number;
  step(): RunMetrics;
  held(): unknown;
}

function startRun(base: TrainConfig, { compute, parameters }: Variant): Run {
  const config = { ...base, precision: compute };
  const model = buildModel(config);
  const optimizer = buildOptimizer(config);
  const step = buildStep(config, model, optimizer);
  const lossScale = lossScaleFor(compute);
  const batch = realize(randomBatch(config));
  const { store } = mixedPrecision({ parameters, compute });
  let state: RunState = realize(trainState({
    params: store(model.init(key(1))),
    optimizer,
    key: key(2),
    ...(lossScale === undefined ? {} : { lossScale }),
  }));
  const count = countParameters(config, state.params);
  const tokens = config.batch * config.seq;
  return {
    work: {
      // As in train_step_bench.ts; the least traffic is that of f32, so that rates compare.
      flop: tokens * (6 * count.activeParameters + 6 * config.layers * config.width * (config.seq + 1)),
      bytes: 4 * 8 * count.parameters,
      items: { name: "tokens", count: tokens },
    },
    plannedBytes: () => step.memory(state, batch).peakBytes,
    step() {
      const [next, metrics] = step(state, batch);
      state = next;
      return metrics;
    },
    held: () => ({ state, batch }),
  };
}

async function firstLosses(config: TrainConfig, variant: Variant): Promise<number[]> {
  const run = startRun(config, variant);
  const losses: number[] = [];
  for (let i = 0; i < 3; i++) losses.push(await run.step().loss.item());
  return losses;
}

/** Compares the losses of three steps of a short run with those of f32 in float64. */
async function verifyVariant(config: TrainConfig, variant: Variant): Promise<void> {
  const short: TrainConfig = { ...config, batch: 2, seq: 7, layers: 1 };
  const expected = await withOracle(() => firstLosses(short, VARIANTS[0]));
  const found = await firstLosses(short, variant);
  for (const [i, loss] of found.entries()) {
    const isFine = Math.abs(loss - expected[i]!) <= ROUNDING * expected[i]!;
    if (!isFine) throw new WrongResultError(`loss ${i} in ${variant.name} is ${loss}, in f32 it is ${expected[i]}`);
  }
}

function build(config: TrainConfig, variants: readonly Variant[]): Built {
  const runs = variants.map((variant) => startRun(config, variant));
  return {
    contenders: runs.map(({ work, plannedBytes, step }, place): Contender => ({
      name: variants[place]!.name,
      work,
      plannedBytes: plannedBytes(),
      run: step,
      ...(place === 0 ? {} : { ratioTo: variants[0]!.name }),
    })),
    get inputs() {
      return runs.map((run) => run.held());
    },
    async verify() {
      for (const variant of variants) await verifyVariant(config, variant);
    },
  };
}

/** The question for `deno task bench`. */
export const precisionQuestion: Question = {
  name: "precision",
  asks: "What do half-precision activations and parameters save of a training step?",
  workloads({ software, features }: DeviceInfo) {
    const variants = VARIANTS.filter(({ compute }) => compute !== "f16" || features.includes("shader-f16"));
    return (software ? ["tiny"] : ["tiny", "small"]).map((preset) => {
      const config = resolveConfig({
        adapter: software ? "software" : "hardware",
        flags: { preset, router: "switch" },
      });
      const { batch, seq, width, layers, experts, expertWidth } = config;
      return {
        name: preset,
        shapes: `ids u32[${batch},${seq + 1}], width ${width}, ${layers} layers, ${experts} experts of ${expertWidth}`,
        build: () => build(config, variants),
      };
    });
  },
};

await registerBenches(precisionQuestion, import.meta);
