/**
 * How fast is a product of two matrices?
 *
 * @module
 */
import { type DeviceInfo, type HostData, jit, key, matmul, read, realize, type Tensor, uniform } from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question, Workload } from "./harness.ts";
import { floats } from "./peers/task.ts";
import { expectClose, hostProductRow, sampleRows } from "./verify.ts";

/** A product [B, M, K] x [B, K, N], its operands stored as they are or transposed. */
interface Product {
  readonly batch?: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly transposeA?: true;
  readonly transposeB?: true;
}

const SOFTWARE: readonly Product[] = [
  { m: 256, k: 256, n: 256 },
  { m: 512, k: 512, n: 512 },
  { m: 1024, k: 1024, n: 1024 },
  { m: 2048, k: 2048, n: 2048 },
  { m: 511, k: 509, n: 513 },
  { m: 512, k: 512, n: 512, transposeA: true },
  { m: 512, k: 512, n: 512, transposeB: true },
  { batch: 16, m: 128, k: 64, n: 128 },
];

const HARDWARE: readonly Product[] = [
  { m: 512, k: 512, n: 512 },
  { m: 1024, k: 1024, n: 1024 },
  { m: 2048, k: 2048, n: 2048 },
  { m: 4096, k: 4096, n: 4096 },
  { m: 2047, k: 2045, n: 2049 },
  { m: 2048, k: 2048, n: 2048, transposeA: true },
  { m: 2048, k: 2048, n: 2048, transposeB: true },
  { batch: 64, m: 512, k: 64, n: 512 },
];

function shapesOf({ batch, m, k, n, transposeA, transposeB }: Product): readonly [number[], number[]] {
  const leading = batch === undefined ? [] : [batch];
  return [[...leading, ...(transposeA ? [k, m] : [m, k])], [...leading, ...(transposeB ? [n, k] : [k, n])]];
}

function workload(product: Product): Workload {
  const { batch, m, k, n, transposeA, transposeB } = product;
  const [shapeA, shapeB] = shapesOf(product);
  const form = `${transposeA ? ", A transposed" : ""}${transposeB ? ", B transposed" : ""}`;
  return {
    name: `${batch === undefined ? "" : `${batch}x`}${m}x${k}x${n}${form}`,
    shapes: `f32[${shapeA}] x f32[${shapeB}]`,
    build: () => build(product),
  };
}

function build(product: Product): Built {
  const { batch = 1, m, k, n, transposeA, transposeB } = product;
  const [shapeA, shapeB] = shapesOf(product);
  const inputs = realize({
    a: uniform(key(1), shapeA, { min: -1, max: 1 }),
    b: uniform(key(2), shapeB, { min: -1, max: 1 }),
  });
  const options = { ...(transposeA ? { transposeA } : {}), ...(transposeB ? { transposeB } : {}) };
  const multiply = jit((a: Tensor, b: Tensor) => matmul(a, b, options), { name: "matmul" });

  function check(a: HostData, b: HostData, product: HostData): void {
    for (const layer of new Set([0, batch - 1])) {
      const [rowA, columnA] = transposeA ? [1, m] : [k, 1];
      const [rowB, columnB] = transposeB ? [1, k] : [n, 1];
      const matrixA = { data: a, offset: layer * m * k, rowStep: rowA, columnStep: columnA };
      const matrixB = { data: b, offset: layer * k * n, rowStep: rowB, columnStep: columnB };
      for (const row of sampleRows(m)) {
        const start = (layer * m + row) * n;
        const expected = hostProductRow(matrixA, matrixB, { row, inner: k, columns: n });
        expectClose(`row ${row} of product ${layer}`, product.subarray(start, start + n), expected, k);
      }
    }
  }

  const work = { flop: 2 * batch * m * k * n, bytes: 4 * batch * (m * k + k * n + m * n) };
  return {
    contenders: [{ name: "matmul", work, run: () => multiply(inputs.a, inputs.b) }],
    inputs,
    async verify() {
      const { a, b, product } = await read({ ...inputs, product: multiply(inputs.a, inputs.b) });
      check(a, b, product);
    },
    peers: [{
      contender: "matmul",
      task: { kind: "matmul", transposeA: transposeA === true, transposeB: transposeB === true },
      async inputs() {
        const { a, b } = await read(inputs);
        return { a: floats(shapeA, a), b: floats(shapeB, b) };
      },
      async check({ product }) {
        const { a, b } = await read(inputs);
        check(a, b, product!);
      },
    }],
  };
}

/** The question for `deno task bench`. */
export const matmulQuestion: Question = {
  name: "matmul",
  asks: "How fast is a product of two matrices?",
  workloads: ({ software }: DeviceInfo) => (software ? SOFTWARE : HARDWARE).map(workload),
};

await registerBenches(matmulQuestion, import.meta);
