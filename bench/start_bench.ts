/**
 * How long from the start of a process to the loss of the first training step, with and without compiled kernels on disk?
 *
 * @module
 */
import type { DeviceInfo } from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { mlpTraining } from "./mlp.ts";
import { firstLosses, trainTask } from "./small_training.ts";
import { firstLoss } from "./start_process.ts";
import { expectClose } from "./verify.ts";

const SCRIPT = new URL("./first_step.ts", import.meta.url);

function build(warm: boolean): Built {
  const training = mlpTraining("adam");
  const work = { flop: training.work.flop, bytes: training.work.bytes };
  const check = async (loss: number): Promise<void> => {
    const expected = await firstLosses(training, training.data, 1);
    expectClose("first loss of a new process", [loss], expected, training.terms);
  };
  return {
    contenders: [{
      name: "to the first step",
      work,
      waits: true,
      run: async () => void await firstLoss(SCRIPT, [], { warm }),
    }],
    inputs: {},
    verify: async () => check(await firstLoss(SCRIPT, [], { warm })),
    peers: [{
      contender: "to the first step",
      task: { kind: "start", warm, step: trainTask(training, { stepsPerRead: 1, checkedSteps: 1 }) },
      inputs: () => ({}),
      check: ({ losses }) => check(losses![0]!),
      waits: true,
    }],
  };
}

/** The question for `deno task bench`. */
export const startQuestion: Question = {
  name: "start",
  asks: "How long from the start of a process to the loss of its first training step?",
  workloads: (_device: DeviceInfo) =>
    [true, false].map((warm) => ({
      name: warm ? "warm" : "cold",
      shapes: `${warm ? "Mesa's" : "no"} cache of kernels on disk; the model of mlp_step with Adam`,
      build: () => build(warm),
    })),
};

await registerBenches(startQuestion, import.meta);
