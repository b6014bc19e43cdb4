/**
 * Is the choice in use, built-in or calibrated, the fastest of the kernels there are for the same work?
 *
 * Every kernel that calibration may choose runs beside the chosen one. A ratio is a kernel's time over the chosen one's: all
 * of them below 1 would mean that the choice is the worst by accident. That products are right is what `matmul` and
 * `execute` check; here the kernels must agree with one another.
 *
 * @module
 */
import { areClose, compileWork, resultsOf } from "../src/calibrate/heat.ts";
import { type CalibrationQuestion, mergeTuning, questionsFor, type Work } from "../src/calibrate/questions.ts";
import type { KernelTuning } from "../src/core/kernel.ts";
import { fromStorage } from "../src/core/tensor.ts";
import { startedDevice } from "../src/gpu/device.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question, Workload } from "./harness.ts";

/** Kernels for the same work: the choice in use, and all there are. */
interface Field {
  readonly name: string;
  readonly work: Work;
  /** Makes the compiler use the kernels in question, and otherwise what is in use. */
  readonly base: KernelTuning;
  readonly candidates: readonly { readonly name: string; readonly tuning: KernelTuning }[];
}

function fieldsOf(question: CalibrationQuestion, used: KernelTuning): readonly Field[] {
  if (question.kind === "pick") {
    const { name, work, forced, candidates } = question;
    return [{ name, work, base: mergeTuning(used, forced), candidates: candidates.slice(1) }];
  }
  const { name, probes } = question;
  const candidates = [
    { name: "buffers", tuning: { [name]: Infinity } },
    { name: "textures", tuning: { [name]: 0 } },
  ];
  return probes.map((work) => ({ name: `${name} ${work.size}`, work, base: used, candidates }));
}

function build({ work, base, candidates }: Field): Built {
  const { runtime } = startedDevice()!;
  const outputs = work.prepare();
  const runners = [compileWork(runtime, outputs, { tuning: base })];
  const names = ["chosen"];
  for (const { name, tuning } of candidates) {
    const compiled = compileWork(runtime, outputs, { tuning: mergeTuning(base, tuning) });
    const known = runners.findIndex(({ text }) => text === compiled.text);
    if (known === 0) names[0] = `chosen: ${name}`;
    if (known >= 0) continue;
    runners.push(compiled);
    names.push(name);
  }
  return {
    contenders: runners.map(({ run }, i) => ({
      name: names[i]!,
      work: { flop: work.flop, bytes: work.bytes },
      run: () => run().map((storage, result) => fromStorage(outputs[result]!, storage)),
      ...(i === 0 ? {} : { ratioTo: names[0]! }),
    })),
    inputs: [],
    async verify() {
      const expected = await resultsOf(runtime, outputs, runners[0]!);
      for (const [i, runner] of runners.entries()) {
        const found = await resultsOf(runtime, outputs, runner);
        found.forEach((values, result) => {
          if (areClose(values, expected[result]!)) return;
          throw new Error(`"${names[i]}" computes something else than "${names[0]}" for result ${result}`);
        });
      }
    },
  };
}

function workload(field: Field): Workload {
  return { name: field.name, shapes: field.work.shapes, build: () => build(field) };
}

/** The question for `deno task bench`. */
export const calibrationQuestion: Question = {
  name: "calibration",
  asks: "Is the choice in use the fastest of the kernels there are for the same work?",
  workloads() {
    const { adapter } = startedDevice()!.runtime;
    return questionsFor(adapter).flatMap((question) => fieldsOf(question, adapter.tuning ?? {})).map(workload);
  },
};

await registerBenches(calibrationQuestion, import.meta);
