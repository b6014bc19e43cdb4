/**
 * How fast is the sum of a long array, which no invocation of the software adapter could add up alone?
 *
 * @module
 */
import { type DeviceInfo, type HostData, jit, key, read, realize, sum, type Tensor, uniform } from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { floats } from "./peers/task.ts";
import { expectClose } from "./verify.ts";

const MILLION = 2 ** 20;

function build(size: number): Built {
  // All of one sign, so that terms that were left out would show.
  const inputs = realize({ x: uniform(key(1), [size], { min: 0, max: 1 }) });
  const compiled = jit((x: Tensor) => sum(x), { name: "sum" });
  async function check(total: HostData): Promise<void> {
    const { x } = await read(inputs);
    let expected = 0;
    for (let i = 0; i < size; i++) expected += x[i]!;
    // Plain summation loses a few digits over so many terms, and is right by this.
    expectClose("sum", total, [expected], 1000);
  }
  return {
    contenders: [{ name: "sum", work: { flop: 0, bytes: 4 * size }, run: () => compiled(inputs.x) }],
    inputs,
    verify: async () => check(await compiled(inputs.x).data()),
    peers: [{
      contender: "sum",
      task: { kind: "sum" },
      inputs: async () => ({ x: floats([size], (await read(inputs)).x) }),
      check: ({ total }) => check(total!),
    }],
  };
}

/** The question for `deno task bench`. */
export const sumQuestion: Question = {
  name: "sum",
  asks: "How fast is the sum of a long array?",
  workloads: ({ software }: DeviceInfo) =>
    (software ? [16] : [16, 32]).map((millions) => ({
      name: `${millions}Mi`,
      shapes: `f32[${millions * MILLION}]`,
      build: () => build(millions * MILLION),
    })),
};

await registerBenches(sumQuestion, import.meta);
