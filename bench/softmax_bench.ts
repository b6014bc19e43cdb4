/**
 * How fast are softmax and its gradient over the rows of a matrix?
 *
 * @module
 */
import { type DeviceInfo, grad, jit, key, mul, read, realize, softmax, sum, type Tensor, uniform } from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { floats } from "./peers/task.ts";
import { expectClose } from "./verify.ts";

interface Rows {
  readonly rows: number;
  readonly columns: number;
}

/** Softmax of every row, and what it makes of a cotangent. */
function hostSoftmax(
  x: ArrayLike<number>,
  cotangent: ArrayLike<number>,
  { rows, columns }: Rows,
): { readonly y: Float64Array; readonly gradient: Float64Array } {
  const y = new Float64Array(rows * columns);
  const gradient = new Float64Array(rows * columns);
  for (let start = 0; start < rows * columns; start += columns) {
    let [most, total, dot] = [-Infinity, 0, 0];
    for (let i = start; i < start + columns; i++) most = Math.max(most, x[i]!);
    for (let i = start; i < start + columns; i++) total += y[i] = Math.exp(x[i]! - most);
    for (let i = start; i < start + columns; i++) dot += (y[i]! /= total) * cotangent[i]!;
    for (let i = start; i < start + columns; i++) gradient[i] = y[i]! * (cotangent[i]! - dot);
  }
  return { y, gradient };
}

function build(size: Rows): Built {
  const { rows, columns } = size;
  const inputs = realize({
    x: uniform(key(1), [rows, columns], { min: -5, max: 5 }),
    cotangent: uniform(key(2), [rows, columns], { min: -1, max: 1 }),
  });
  const forward = jit((x: Tensor) => softmax(x), { name: "softmax" });
  const backward = jit(
    (x: Tensor, cotangent: Tensor) => grad((x: Tensor) => sum(mul(softmax(x), cotangent)))(x),
    { name: "softmax gradient" },
  );
  /** The definition, from the inputs as they are on the device. */
  async function expected(): Promise<ReturnType<typeof hostSoftmax>> {
    const { x, cotangent } = await read(inputs);
    return hostSoftmax(x, cotangent, size);
  }

  async function verify(): Promise<void> {
    const found = await read({ y: forward(inputs.x), gradient: backward(inputs.x, inputs.cotangent) });
    const { y, gradient } = await expected();
    expectClose("softmax", found.y, y, columns);
    expectClose("gradient of softmax", found.gradient, gradient, columns);
  }
  // Traffic is what this is about; and how many operations an exp is, nobody agrees on.
  const elements = rows * columns;
  return {
    contenders: [
      {
        name: "forward",
        work: { flop: 0, bytes: 8 * elements },
        run: () => forward(inputs.x),
      },
      {
        name: "gradient",
        work: { flop: 0, bytes: 12 * elements },
        run: () => backward(inputs.x, inputs.cotangent),
      },
    ],
    inputs,
    verify,
    peers: [{
      contender: "forward",
      task: { kind: "softmax" },
      inputs: async () => ({ x: floats([rows, columns], (await read(inputs)).x) }),
      check: async ({ y }) => expectClose("softmax", y!, (await expected()).y, columns),
    }],
  };
}

/** The question for `deno task bench`. */
export const softmaxQuestion: Question = {
  name: "softmax",
  asks: "How fast are softmax and its gradient over the rows of a matrix?",
  workloads: ({ software }: DeviceInfo) =>
    [
      { rows: 2048, columns: 512 },
      { rows: 2045, columns: 509 },
      ...(software ? [] : [{ rows: 4096, columns: 4096 }]),
    ].map((size) => ({
      name: `${size.rows}x${size.columns}`,
      shapes: `f32[${size.rows},${size.columns}]`,
      build: () => build(size),
    })),
};

await registerBenches(softmaxQuestion, import.meta);
