/**
 * How fast are the layer norm of the rows of a matrix and its gradient?
 *
 * @module
 */
import { type DeviceInfo, grad, jit, key, layerNorm, mul, read, realize, sum, type Tensor, uniform } from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { floats } from "./peers/task.ts";
import { expectClose } from "./verify.ts";

interface Rows {
  readonly rows: number;
  readonly columns: number;
}

interface Operands {
  readonly x: Tensor;
  readonly scale: Tensor;
  readonly bias: Tensor;
}

const EPSILON = 1e-5;

/** The layer norm of every row, and the gradient by x of that times a cotangent. */
function hostLayerNorm(
  { x, scale, bias, cotangent }: Readonly<Record<"x" | "scale" | "bias" | "cotangent", ArrayLike<number>>>,
  { rows, columns }: Rows,
): { readonly y: Float64Array; readonly gradient: Float64Array } {
  const y = new Float64Array(rows * columns);
  const gradient = new Float64Array(rows * columns);
  for (let start = 0; start < rows * columns; start += columns) {
    let [total, squares, slopes, dots] = [0, 0, 0, 0];
    for (let c = 0; c < columns; c++) total += x[start + c]!;
    const mean = total / columns;
    for (let c = 0; c < columns; c++) squares += (x[start + c]! - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / columns + EPSILON);
    for (let c = 0; c < columns; c++) {
      const normal = (x[start + c]! - mean) * inverse;
      y[start + c] = normal * scale[c]! + bias[c]!;
      slopes += cotangent[start + c]! * scale[c]!;
      dots += cotangent[start + c]! * scale[c]! * normal;
    }
    for (let c = 0; c < columns; c++) {
      const normal = (x[start + c]! - mean) * inverse;
      gradient[start + c] = inverse *
        (cotangent[start + c]! * scale[c]! - slopes / columns - normal * dots / columns);
    }
  }
  return { y, gradient };
}

function build(size: Rows): Built {
  const { rows, columns } = size;
  const inputs = realize({
    x: uniform(key(1), [rows, columns], { min: -2, max: 3 }),
    scale: uniform(key(2), [columns], { min: 0.5, max: 2 }),
    bias: uniform(key(3), [columns], { min: -1, max: 1 }),
    cotangent: uniform(key(4), [rows, columns], { min: -1, max: 1 }),
  });
  const operands: Operands = inputs;
  const forward = jit(({ x, scale, bias }: Operands) => layerNorm(x, { scale, bias, epsilon: EPSILON }), {
    name: "layer norm",
  });
  const backward = jit(
    ({ x, scale, bias }: Operands, cotangent: Tensor) =>
      grad((x: Tensor) => sum(mul(layerNorm(x, { scale, bias, epsilon: EPSILON }), cotangent)))(x),
    { name: "layer norm gradient" },
  );
  async function expected(): Promise<ReturnType<typeof hostLayerNorm>> {
    return hostLayerNorm(await read(inputs), size);
  }
  // Traffic is what this is about.
  const elements = rows * columns;
  return {
    contenders: [
      { name: "forward", work: { flop: 0, bytes: 8 * elements }, run: () => forward(operands) },
      { name: "gradient", work: { flop: 0, bytes: 12 * elements }, run: () => backward(operands, inputs.cotangent) },
    ],
    inputs,
    async verify() {
      const found = await read({ y: forward(operands), gradient: backward(operands, inputs.cotangent) });
      const { y, gradient } = await expected();
      expectClose("layer norm", found.y, y, columns);
      expectClose("gradient of layer norm", found.gradient, gradient, columns);
    },
    peers: [{
      contender: "forward",
      task: { kind: "layerNorm" },
      async inputs() {
        const { x, scale, bias } = await read(inputs);
        return { x: floats([rows, columns], x), scale: floats([columns], scale), bias: floats([columns], bias) };
      },
      check: async ({ y }) => expectClose("layer norm", y!, (await expected()).y, columns),
    }],
  };
}

/** The question for `deno task bench`. */
export const layerNormQuestion: Question = {
  name: "layer_norm",
  asks: "How fast are the layer norm of the rows of a matrix and its gradient?",
  workloads: ({ software }: DeviceInfo) =>
    [
      { rows: 2048, columns: 512 },
      { rows: 2045, columns: 509 },
      ...(software ? [] : [{ rows: 16384, columns: 4096 }]),
    ].map((size) => ({
      name: `${size.rows}x${size.columns}`,
      shapes: `x f32[${size.rows},${size.columns}]`,
      build: () => build(size),
    })),
};

await registerBenches(layerNormQuestion, import.meta);
