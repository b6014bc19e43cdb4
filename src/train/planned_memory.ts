/**
 * What a training step needs on the device, known from its compiled plan before anything runs.
 *
 * @module
 */
import { ConfigError, memory, OutOfMemoryError, zeros } from "../../mod.ts";
import { resolveConfig, type TrainConfig } from "./config.ts";
import { formatSavedConfig } from "./config_file.ts";
import type { TableSource } from "./hash_tables.ts";
import { formatCount } from "./html.ts";
import { buildModel } from "./model.ts";
import { buildOptimizer, buildStep, type RunState, type RunStep } from "./objective.ts";
import { startRun } from "./run_files.ts";

/** Options that lower the peak, with the values to propose. */
type Remedy = Readonly<Partial<Pick<TrainConfig, "microBatches" | "remat" | "precision" | "batch">>>;

/**
 * Tells the most bytes that are on the device while a step runs: state, batch, metrics and scratch. The step is compiled
 * for it and does not run.
 *
 * @param step The step.
 * @param state A state of its shapes; nothing of it is computed.
 * @param config Its batch.
 * @returns Bytes.
 */
export function plannedBytes(
  step: RunStep,
  state: RunState,
  { batch, seq }: Pick<TrainConfig, "batch" | "seq">,
): number {
  return step.memory(state, { ids: zeros([batch, seq + 1], { dtype: "u32" }) }).peakBytes;
}

/**
 * Refuses a run whose steps need more memory than there may be, and tells what each remedy would need.
 *
 * @param config The configuration.
 * @param bytes What a step needs.
 * @param source What the model's hash tables are made from.
 * @throws {OutOfMemoryError} With the planned peaks of the options that would lower it.
 */
export function expectStepFits(config: TrainConfig, bytes: number, source: TableSource | null): void {
  const { budgetBytes } = memory();
  if (bytes <= budgetBytes) return;
  const planned = remediesFor(config).flatMap((remedy) => {
    const changed = applied(config, remedy);
    return changed === null ? [] : [[flagsOf(remedy), plannedFor(changed, source)] as const];
  });
  const fits = planned.some(([, needed]) => needed <= budgetBytes);
  throw new OutOfMemoryError("memory/planned", {
    summary: `Cannot start the run: a training step needs ${formatCount(bytes)}B of device memory, the budget is ${
      formatCount(budgetBytes)
    }B`,
    facts: planned.map(([flags, needed]) => [flags, `${formatCount(needed)}B`] as const),
    fix: fits ? "start it again with one of these that fits" : "combine several of these, or use a smaller model",
    details: { peakBytes: bytes, budgetBytes, planned: Object.fromEntries(planned) },
  });
}

/** What lowers the peak: first what leaves the training as it is. A checkpoint fixes the rest. */
function remediesFor({ batch, microBatches, remat, precision, resume }: TrainConfig): readonly Remedy[] {
  const more = nextDivisor(batch, microBatches);
  const parts: readonly Remedy[] = more === null ? [] : [{ microBatches: more }];
  const again: readonly Remedy[] = remat ? [] : [{ remat: true }];
  const both: readonly Remedy[] = more === null || remat ? [] : [{ microBatches: more, remat: true }];
  if (resume !== null) return [...parts, ...again, ...both];
  const narrow: readonly Remedy[] = precision === "f32" ? [{ precision: "bf16" }] : [];
  const half = Math.floor(batch / 2);
  // A batch smaller than its parts makes no sense; the parts are the better remedy then.
  const fewer: readonly Remedy[] = half >= 1 && half % microBatches === 0 ? [{ batch: half }] : [];
  return [...parts, ...again, ...both, ...narrow, ...fewer];
}

/** The smallest divisor of a number above another one, or null. */
function nextDivisor(number: number, above: number): number | null {
  for (let divisor = above + 1; divisor <= number; divisor++) if (number % divisor === 0) return divisor;
  return null;
}

/** The changed configuration, or null where the router does not allow it. */
function applied(config: TrainConfig, remedy: Remedy): TrainConfig | null {
  const values = { ...JSON.parse(formatSavedConfig(config)), ...remedy };
  try {
    return resolveConfig({ adapter: "software", file: { path: "the run", values } });
  } catch (error) {
    if (error instanceof ConfigError) return null;
    throw error;
  }
}

function plannedFor(config: TrainConfig, source: TableSource | null): number {
  const model = buildModel(config, source);
  const optimizer = buildOptimizer(config);
  return plannedBytes(buildStep(config, model, optimizer), startRun(config, model, optimizer).state, config);
}

function flagsOf({ microBatches, remat, precision, batch }: Remedy): string {
  return [
    microBatches === undefined ? "" : `--micro-batches ${microBatches}`,
    remat === true ? "--remat" : "",
    precision === undefined ? "" : `--precision ${precision}`,
    batch === undefined ? "" : `--batch ${batch}`,
  ].filter((flag) => flag !== "").join(" ");
}
