/**
 * What does it cost that a tensor is larger than one binding may be, and is bound in windows?
 *
 * The same work is compiled for the adapter's own limit and for one that is a quarter of the largest tensor. Both must
 * compute the same bits; that these are right is what the other questions check.
 *
 * @module
 */
import {
  add,
  cast,
  execute,
  gelu,
  key,
  matmul,
  mul,
  normal,
  planOfEvenBlocks,
  realize,
  remainder,
  sqrt,
  square,
  sub,
  take,
  type Tensor,
  uniform,
  vjp,
} from "../mod.ts";
import { compileWork, resultsOf } from "../src/calibrate/heat.ts";
import { fromStorage } from "../src/core/tensor.ts";
import { startedDevice } from "../src/gpu/device.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question, Work, Workload } from "./harness.ts";
import { expectEqual } from "./verify.ts";

/** Work on tensors of which the largest has `mostBytes`. */
interface LargeWork {
  readonly name: string;
  readonly shapes: string;
  readonly work: Work;
  readonly mostBytes: number;
  /** Draws the inputs and returns what is to be computed from them. */
  prepare(): readonly Tensor[];
}

/** Windows that show the largest tensor. */
const WINDOWS = 4;
const MILLION = 2 ** 20;

function draw(seed: number, ...shape: number[]): Tensor {
  return realize(normal(key(seed), shape));
}

/** Elementwise work, which runs once for each part. */
function chain(size: number): LargeWork {
  return {
    name: "chain",
    shapes: `f32[${size}]`,
    work: { flop: 0, bytes: 8 * size },
    mostBytes: 4 * size,
    prepare: () => [sub(mul(gelu(add(mul(draw(1, size), 1.5), 0.25)), 0.75), 0.5)],
  };
}

/** Adam's update of one parameter: four arrays in step, three of them written. */
function update(size: number): LargeWork {
  return {
    name: "update",
    shapes: `4 x f32[${size}]`,
    work: { flop: 0, bytes: 28 * size },
    mostBytes: 4 * size,
    prepare() {
      const [parameter, gradient, mean, spread] = [1, 2, 3, 4].map((seed) => draw(seed, size)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const nextMean = add(mul(mean, 0.9), mul(gradient, 0.1));
      const nextSpread = add(mul(square(spread), 0.999), mul(square(gradient), 0.001));
      return [sub(parameter, mul(0.01, mul(nextMean, sqrt(nextSpread)))), nextMean, nextSpread];
    },
  };
}

/** Rows of a table anywhere in it, and the table's gradient. */
function rows(count: number, width: number, reads: number): LargeWork {
  return {
    name: "rows",
    shapes: `u32[${reads}] of f32[${count},${width}], with gradient`,
    work: { flop: 0, bytes: 4 * width * (3 * reads + count) },
    mostBytes: 4 * count * width,
    prepare() {
      const ids = realize(cast(uniform(key(2), [reads], { min: 0, max: count }), "u32"));
      const [taken, pull] = vjp(
        (table: Tensor) => take(table, remainder(ids, count), { axis: 0 }),
        draw(1, count, width),
      );
      return [taken, ...pull(draw(3, reads, width))];
    },
  };
}

/** A product whose operands are larger than a binding. */
function product(size: number): LargeWork {
  return {
    name: "product",
    shapes: `${size} x ${size} x ${size}`,
    work: { flop: 2 * size ** 3, bytes: 12 * size ** 2 },
    mostBytes: 4 * size ** 2,
    prepare: () => [matmul(draw(1, size, size), draw(2, size, size))],
  };
}

/** Experts whose matrices are split by their range, with gradients. */
function experts(count: number, tokens: number, width: number, inner: number): LargeWork {
  return {
    name: "experts",
    shapes: `${count} experts of ${width} x ${inner}, ${tokens} rows each, with gradients`,
    work: { flop: 12 * count * tokens * width * inner, bytes: 16 * count * width * (tokens + inner) },
    mostBytes: 4 * count * width * inner,
    prepare() {
      const plan = realize(planOfEvenBlocks({ experts: count, rows: tokens }));
      const up = realize(mul(draw(1, count, width, inner), 1 / Math.sqrt(width)));
      const down = realize(mul(draw(2, count, inner, width), 1 / Math.sqrt(inner)));
      const [out, pull] = vjp(
        (x: Tensor, up: Tensor, down: Tensor) => execute(plan, x, { up, down }),
        draw(3, count * tokens, width),
        up,
        down,
      );
      return [out, ...pull(draw(4, count * tokens, width))];
    },
  };
}

function build({ work, mostBytes, prepare }: LargeWork): Built {
  const { runtime } = startedDevice()!;
  const outputs = prepare();
  const runners = [
    { name: "whole", ...compileWork(runtime, outputs, {}) },
    { name: "in windows", ...compileWork(runtime, outputs, { bindingBytes: mostBytes / WINDOWS }) },
  ];
  return {
    contenders: runners.map(({ name, run }, i) => ({
      name,
      work,
      run: () => run().map((storage, result) => fromStorage(outputs[result]!, storage)),
      ...(i === 0 ? {} : { ratioTo: "whole" }),
    })),
    inputs: [],
    async verify() {
      const [whole, windowed] = runners as [typeof runners[number], typeof runners[number]];
      if (whole.text === windowed.text) throw new Error("no tensor was bound in windows");
      const expected = await resultsOf(runtime, outputs, whole);
      const found = await resultsOf(runtime, outputs, windowed);
      found.forEach((values, i) => expectEqual(`result ${i}`, values, expected[i]!));
    },
  };
}

function workload(large: LargeWork): Workload {
  return { name: large.name, shapes: `${large.shapes} in ${WINDOWS} windows`, build: () => build(large) };
}

/** The question for `deno task bench`. */
export const windowsQuestion: Question = {
  name: "windows",
  asks: "What does it cost that a tensor is larger than one binding may be?",
  workloads: ({ software }) =>
    (software
      ? [chain(8 * MILLION), update(4 * MILLION), rows(32_768, 256, 8192), product(512), experts(8, 64, 128, 512)]
      : [
        chain(32 * MILLION),
        update(32 * MILLION),
        rows(131_072, 256, 32_768),
        product(4096),
        experts(16, 512, 1024, 2048),
      ])
      .map(workload),
};

await registerBenches(windowsQuestion, import.meta);
