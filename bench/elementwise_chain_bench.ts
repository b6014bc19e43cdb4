/**
 * Does a chain of elementwise ops run as one kernel, at the speed of memory?
 *
 * @module
 */
import {
  add,
  type DeviceInfo,
  gelu,
  type HostData,
  jit,
  key,
  mul,
  read,
  realize,
  sub,
  type Tensor,
  uniform,
} from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { floats } from "./peers/task.ts";
import { expectClose, hostGelu } from "./verify.ts";

const MILLION = 2 ** 20;

/** Five ops on one array: what a position-wise part of a network looks like. */
function chain(x: Tensor): Tensor {
  return sub(mul(gelu(add(mul(x, 1.5), 0.25), { approximate: "tanh" }), x), 0.5);
}

function hostChain(x: number): number {
  return hostGelu(x * 1.5 + 0.25) * x - 0.5;
}

function build(size: number): Built {
  const inputs = realize({ x: uniform(key(1), [size], { min: -4, max: 4 }) });
  const compiled = jit(chain, { name: "elementwise chain" });
  async function check(y: HostData): Promise<void> {
    const { x } = await read(inputs);
    expectClose("chain", y, Float64Array.from(x, hostChain), 1);
  }
  // Traffic is what this is about; and how many operations a tanh is, nobody agrees on.
  const work = { flop: 0, bytes: 8 * size };
  return {
    contenders: [
      { name: "fused", work, run: () => compiled(inputs.x) },
      // Without jit a read compiles what is behind it, or finds it compiled: the same kernel, looked up anew.
      { name: "eager", work, run: () => realize(chain(inputs.x)), ratioTo: "fused" },
    ],
    inputs,
    async verify() {
      await check((await read({ y: compiled(inputs.x) })).y);
      await check((await read({ y: chain(inputs.x) })).y);
    },
    peers: [{
      contender: "fused",
      task: { kind: "chain" },
      inputs: async () => ({ x: floats([size], (await read(inputs)).x) }),
      check: ({ y }) => check(y!),
    }],
  };
}

/** The question for `deno task bench`. */
export const elementwiseChainQuestion: Question = {
  name: "elementwise_chain",
  asks: "Does a chain of elementwise ops run as one kernel, at the speed of memory?",
  workloads: ({ software }: DeviceInfo) =>
    (software ? [1, 16] : [1, 16, 32]).map((millions) => ({
      name: `${millions}Mi`,
      shapes: `f32[${millions * MILLION}]`,
      build: () => build(millions * MILLION),
    })),
};

await registerBenches(elementwiseChainQuestion, import.meta);
