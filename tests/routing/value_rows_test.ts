import { assert, assertEquals } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { vmap } from "../../src/core/vmap.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { valueRows } from "../../src/routing/memory_lookup.ts";
import { assertClose, checkOp, gpuTest, oracleTest, withOracle } from "../support/check_primitive.ts";
import { randomSource } from "../support/random.ts";
import type { Tolerance } from "../support/tolerance.ts";
import { ADAPTER_CLASSES, withAdapterClass } from "../support/variants.ts";

/** Sizes of a memory and who reads what: M rows of W numbers, K reads of each of T tokens. */
interface Memory {
  readonly count: number;
  readonly width: number;
  readonly tokens: number;
  readonly reads: number;
  /** Draws a row; from M up it is none. */
  row(random: ReturnType<typeof randomSource>): number;
}

interface Numbers {
  readonly values: Float32Array;
  readonly rows: Uint32Array;
  readonly weights: Float32Array;
  readonly cotangent: Float32Array;
}

const CASES: Readonly<Record<string, Memory>> = {
  "one number": { count: 1, width: 1, tokens: 1, reads: 1, row: () => 0 },
  "odd sizes, some reads of nothing": {
    count: 11,
    width: 5,
    tokens: 13,
    reads: 7,
    row: (random) => random.integer(0, 14),
  },
  "one token, most rows unread": { count: 40, width: 12, tokens: 1, reads: 3, row: (random) => random.integer(0, 40) },
  "wide rows": { count: 9, width: 132, tokens: 10, reads: 4, row: (random) => random.integer(0, 9) },
  "rows of whole lanes": { count: 30, width: 128, tokens: 21, reads: 6, row: (random) => random.integer(0, 33) },
  "one read each": { count: 6, width: 8, tokens: 50, reads: 1, row: (random) => random.integer(0, 7) },
  "nothing read": { count: 4, width: 8, tokens: 5, reads: 2, row: () => 4 },
  "all reads of one row": { count: 3, width: 4, tokens: 700, reads: 2, row: () => 1 },
  "few rows read often": { count: 5, width: 3, tokens: 400, reads: 3, row: (random) => random.integer(0, 2) * 3 },
};

function draw({ count, width, tokens, reads, row }: Memory): Numbers {
  const random = randomSource(3);
  const numbers = (size: number) => Float32Array.from({ length: size }, () => random.uniform(-1, 1));
  return {
    values: numbers(count * width),
    rows: Uint32Array.from({ length: tokens * reads }, () => row(random)),
    weights: numbers(tokens * reads),
    cotangent: numbers(tokens * width),
  };
}

/** Result and gradients by a loop over tokens and reads, in float64. */
function naive({ count, width, tokens, reads }: Memory, { values, rows, weights, cotangent }: Numbers) {
  const out = new Float64Array(tokens * width);
  const dValues = new Float64Array(count * width);
  const dWeights = new Float64Array(tokens * reads);
  rows.forEach((row, read) => {
    if (row >= count) return;
    const token = Math.floor(read / reads);
    for (let c = 0; c < width; c++) {
      out[token * width + c]! += weights[read]! * values[row * width + c]!;
      dWeights[read]! += cotangent[token * width + c]! * values[row * width + c]!;
      dValues[row * width + c]! += weights[read]! * cotangent[token * width + c]!;
    }
  });
  return { out, dValues, dWeights };
}

interface Operands {
  readonly values: Tensor;
  readonly weights: Tensor;
}

function tensorsOf({ count, width, tokens, reads }: Memory, { values, rows, weights, cotangent }: Numbers) {
  return {
    operands: {
      values: tensor(values, { shape: [count, width] }),
      weights: tensor(weights, { shape: [tokens, reads] }),
    },
    rows: tensor(rows, { shape: [tokens, reads] }),
    cotangent: tensor(cotangent, { shape: [tokens, width] }),
  };
}

async function found(memory: Memory, numbers: Numbers) {
  const { operands, rows, cotangent } = tensorsOf(memory, numbers);
  const [out, pull] = vjp((own: Operands) => valueRows(own.values, { rows, weights: own.weights }), operands);
  const [{ values: dValues, weights: dWeights }] = pull(cotangent);
  return await read({ out, dValues, dWeights });
}

async function expectNaive(name: string, memory: Memory, tolerance: Tolerance): Promise<void> {
  const numbers = draw(memory);
  const expected = naive(memory, numbers);
  const actual = await found(memory, numbers);
  for (const key of ["out", "dValues", "dWeights"] as const) {
    assertClose(actual[key], expected[key], tolerance, `${name}: ${key}`);
  }
}

const F32: Tolerance = { relative: 1e-5, absolute: 3e-6 };

oracleTest("valueRows() is the loop over tokens and reads", async () => {
  for (const [name, memory] of Object.entries(CASES)) {
    await expectNaive(name, memory, { relative: 1e-6, absolute: 1e-6 });
  }
});

for (const adapterClass of ADAPTER_CLASSES) {
  gpuTest(`valueRows() has right ${adapterClass} kernels, forward and backward`, async () => {
    await withAdapterClass(adapterClass, async () => {
      for (const [name, memory] of Object.entries(CASES)) await expectNaive(name, memory, F32);
    });
  });
}

gpuTest("valueRows() adds up more reads of one row than an invocation may loop over", async () => {
  const memory: Memory = { count: 2, width: 1, tokens: 1100, reads: 61, row: (random) => random.integer(0, 50) % 2 };
  await expectNaive("two rows", memory, { relative: 1e-4, absolute: 1e-4 });
  const one: Memory = { ...memory, tokens: 35_000, reads: 2, row: () => 1 };
  await expectNaive("one row", one, { relative: 1e-4, absolute: 1e-4 });
});

gpuTest("valueRows() adds up more reads of one token than an invocation may loop over", async () => {
  const memory: Memory = { count: 7, width: 2, tokens: 1, reads: 70_001, row: (random) => random.integer(0, 8) };
  await expectNaive("one token", memory, { relative: 1e-4, absolute: 1e-4 });
});

checkOp({
  name: "valueRows",
  fn: (values, weights) =>
    valueRows(values!, { rows: tensor([[0, 2], [2, 2], [5, 1]], { dtype: "u32" }), weights: weights! }),
  samples: [{ inputs: [{ shape: [4, 5] }, { shape: [3, 2] }] }, { inputs: [{ shape: [4, 8] }, { shape: [3, 2] }] }],
});

gpuTest("valueRows() takes a batch of rows", async () => {
  const rows = tensor([[[0, 2], [2, 1]], [[3, 9], [1, 1]]], { dtype: "u32" });
  const [values, weights] = [tensor([[1, 2], [3, 4], [5, 6], [7, 8]]), tensor([[1, 10], [0.5, 2]])];
  const out = vmap((own: Tensor) => valueRows(values, { rows: own, weights }))(rows);
  assertEquals([...await out.data()], [51, 62, 8.5, 11, 7, 8, 7.5, 10]);
});

gpuTest("valueRows() differentiates any number of times in kernels", async () => {
  const memory = CASES["odd sizes, some reads of nothing"]!;
  function third() {
    const { operands, rows } = tensorsOf(memory, draw(memory));
    const loss = (own: Operands) => sum(square(valueRows(own.values, { rows, weights: own.weights })));
    const steepness = (own: Operands) => {
      const { values, weights } = grad(loss)(own);
      return mul(sum(square(values)), sum(square(weights)));
    };
    return { operands, compiled: jit((own: Operands) => grad(steepness)(own)) };
  }
  const expected = await withOracle(() => {
    const { operands, compiled } = third();
    return read(compiled(operands));
  });
  const { operands, compiled } = third();
  const printed = String(await compiled.program(operands));
  assert(!printed.includes(`[${memory.tokens}, ${memory.reads}, ${memory.width}]`), printed);
  const actual = await read(compiled(operands));
  const scale = Math.max(...expected.values, ...expected.weights);
  for (const name of ["values", "weights"] as const) {
    assertClose(actual[name], expected[name], { relative: 1e-5, absolute: 1e-5 * scale }, name);
  }
});

gpuTest("valueRows() keeps values and gradients in half precision, and adds in f32", async () => {
  const memory = CASES["rows of whole lanes"]!;
  const numbers = draw(memory);
  async function inHalf() {
    const { operands, rows, cotangent } = tensorsOf(memory, numbers);
    const [out, pull] = vjp(
      (values: Tensor) => valueRows(values, { rows, weights: operands.weights }),
      cast(operands.values, "bf16"),
    );
    const [dValues] = pull(cast(cotangent, "bf16"));
    assertEquals([out.dtype, dValues.dtype], ["bf16", "bf16"]);
    return await read({ out, dValues });
  }
  const expected = await withOracle(inHalf);
  const actual = await inHalf();
  assertClose(actual.out, expected.out, { relative: 1e-2, absolute: 1e-2 }, "out");
  assertClose(actual.dValues, expected.dValues, { relative: 1e-2, absolute: 1e-2 }, "dValues");
});

gpuTest("valueRows() repeats bit for bit", async () => {
  for (const name of ["few rows read often", "odd sizes, some reads of nothing"]) {
    const memory = CASES[name]!;
    const numbers = draw(memory);
    const first = await found(memory, numbers);
    for (let turn = 0; turn < 3; turn++) assertEquals(await found(memory, numbers), first);
  }
});

gpuTest("valueRows() is one dispatch and stores no row for each read", async () => {
  const memory = CASES["rows of whole lanes"]!;
  const { operands, rows, cotangent } = tensorsOf(memory, draw(memory));
  const forward = jit((own: Operands, rows: Tensor) => valueRows(own.values, { rows, weights: own.weights }));
  assert(String(await forward.program(operands, rows)).includes("1 dispatches, 0 slots"));
  const both = jit((own: Operands, rows: Tensor, cotangent: Tensor) =>
    grad((own: Operands) => sum(mul(valueRows(own.values, { rows, weights: own.weights }), cotangent)))(own)
  );
  const printed = String(await both.program(operands, rows, cotangent));
  assert(printed.includes("value rows' gradient") && printed.includes("value rows' weight gradient"), printed);
  assert(!printed.includes(`f32[${memory.tokens * memory.reads}, ${memory.width}]`), printed);
});

oracleTest("valueRows() of no tokens, no reads or no rows is empty or zero", async () => {
  const none = (shape: readonly number[]) => ({ rows: zeros(shape, { dtype: "u32" }), weights: zeros(shape) });
  assertEquals(valueRows(zeros([3, 4]), none([0, 2])).shape, [0, 4]);
  assertEquals([...await valueRows(zeros([3, 2]), none([2, 0])).data()], [0, 0, 0, 0]);
  assertEquals([...await valueRows(zeros([0, 2]), none([1, 3])).data()], [0, 0]);
});
