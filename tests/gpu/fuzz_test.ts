/**
 * Random programs against the float64 oracle. An ordinary run tries the same programs each time, so that it tells about a
 * change and not about its luck; `SWITCHYARD_FUZZ_SEED=random` hunts, a number repeats, `SWITCHYARD_FUZZ_RUNS` says how many.
 *
 * @module
 */
import * as fc from "fast-check";
import { CompileError } from "../../src/core/errors.ts";
import { installRuntime } from "../../src/core/runtime.ts";
import { gpuTest } from "../support/runtimes.ts";
import { checkProgram, type FuzzRuntimes } from "./support/fuzz_check.ts";
import { startFuzzRuntimes } from "./support/fuzz_runtimes.ts";
import { describeProgram, type RandomProgram, randomPrograms } from "./support/random_program.ts";

/** Programs in an ordinary test run, and the seed they come from. */
const RUNS = 150;
const SEED = 183_565_479;
/** Smaller programs tried once one has failed. */
const SHRINK_RUNS = 250;
/** Programs compiled on one device before it is replaced, so that pipelines do not pile up. */
const RUNS_ON_ONE_DEVICE = 100;

gpuTest(
  "random programs agree with the oracle: eager, jit, unfused, partly fused, few buffers, in windows, for a GPU, donated, gradients, vmap",
  async () => {
    let runtimes: FuzzRuntimes | null = null;
    let runs = 0;
    let failedAt: number | null = null;
    async function property(program: RandomProgram): Promise<void> {
      if (failedAt !== null && runs > failedAt + SHRINK_RUNS) return;
      if (runs++ % RUNS_ON_ONE_DEVICE === 0) runtimes = null;
      runtimes ??= await startFuzzRuntimes();
      const previous = installRuntime(runtimes.fused);
      try {
        await checkProgram(program, runtimes, runs);
      } catch (error) {
        // A runtime that reported a broken kernel keeps reporting it.
        if (error instanceof CompileError) runtimes = null;
        if (failedAt === null) console.error(`fuzz: run ${failedAt = runs} failed, shrinking: ${error}`);
        throw error;
      } finally {
        installRuntime(previous);
      }
    }
    const seed = Deno.env.get("SWITCHYARD_FUZZ_SEED") ?? SEED;
    const result = await fc.check(fc.asyncProperty(randomPrograms, property), {
      numRuns: Number(Deno.env.get("SWITCHYARD_FUZZ_RUNS") ?? RUNS),
      ...(seed === "random" ? {} : { seed: Number(seed) }),
    });
    if (!result.failed) return;
    const [program] = result.counterexample!;
    throw new Error(
      `${result.errorInstance}\nin the program, shrunk ${result.numShrinks} times (SWITCHYARD_FUZZ_SEED=${result.seed}):\n${
        describeProgram(program)
      }`,
      { cause: result.errorInstance },
    );
  },
);
