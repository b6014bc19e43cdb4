/**
 * What does an op cost that computes next to nothing: in a chain, compiled or not, and with its result read?
 *
 * @module
 */
import { add, type DeviceInfo, jit, key, own, read, realize, type Tensor, uniform } from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Contender, Question } from "./harness.ts";
import { floats } from "./peers/task.ts";
import { expectClose } from "./verify.ts";

const SIZE = 64;

interface Chain {
  /** Adds in a row. */
  readonly count: number;
  /** Whether a call ends with its result on the host. */
  readonly read: boolean;
}

function addRepeatedly(x: Tensor, step: Tensor, count: number): Tensor {
  let y = x;
  for (let i = 0; i < count; i++) y = add(y, step);
  return y;
}

function build({ count, read: reads }: Chain): Built {
  const inputs = realize({
    x: uniform(key(1), [SIZE], { min: -1, max: 1 }),
    step: uniform(key(2), [SIZE], { min: -1, max: 1 }),
  });
  const { x, step } = inputs;
  const compiled = jit((x: Tensor, step: Tensor) => addRepeatedly(x, step, count), { name: "adds" });
  const ways: readonly (readonly [name: string, call: () => Tensor])[] = [
    ["jit", () => compiled(x, step)],
    ["eager", () => addRepeatedly(x, step, count)],
  ];
  const work = { flop: 0, bytes: 12 * SIZE, items: { name: "adds", count } };
  async function check(y: ArrayLike<number>): Promise<void> {
    const given = await read(inputs);
    expectClose("adds", y, Float64Array.from(given.x, (value, i) => value + count * given.step[i]!), count);
  }
  return {
    contenders: ways.map(([name, call]): Contender =>
      reads
        ? {
          name,
          work,
          waits: true,
          async run() {
            const y = call();
            await y.data();
            return y;
          },
        }
        : { name, work, run: () => realize(call()) }
    ),
    inputs,
    async verify() {
      for (const [, call] of ways) {
        const y = call();
        await check(await y.data());
        own(y)[Symbol.dispose]();
      }
    },
    peers: [{
      contender: "jit",
      task: { kind: "adds", count, read: reads },
      async inputs() {
        const given = await read(inputs);
        return { x: floats([SIZE], given.x), step: floats([SIZE], given.step) };
      },
      check: ({ y }) => check(y!),
      waits: reads,
    }],
  };
}

/** The question for `deno task bench`. */
export const tinyOpsQuestion: Question = {
  name: "tiny_ops",
  asks: "What does an op cost that computes next to nothing?",
  workloads: (_device: DeviceInfo) =>
    [{ count: 1000, read: false }, { count: 100, read: true }, { count: 1, read: true }].map((chain) => ({
      name: `${chain.count} adds${chain.read ? " and a read" : ""}`,
      shapes: `f32[${SIZE}]`,
      build: () => build(chain),
    })),
};

await registerBenches(tinyOpsQuestion, import.meta);
