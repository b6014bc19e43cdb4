import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { relu } from "../../src/ops/activations.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { planFromAssignments, planFromTopK } from "../../src/routing/plan.ts";
import type { DispatchPlan } from "../../src/routing/plan_types.ts";
import { executeSegments } from "../../src/routing/segment.ts";
import { checkOp } from "../support/check_primitive.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest, withOracle } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { TEXTURE_CLASSES, withAdapterClass } from "../support/variants.ts";

const F32 = { relative: 1e-5, absolute: 1e-5 };

/** A plan of choices by token; a choice of `experts` is none. */
function planOf(choices: readonly (readonly number[])[], experts: number): DispatchPlan {
  const shape = [choices.length, choices[0]?.length ?? 1];
  return planFromTopK({
    experts,
    indices: tensor(choices.flat(), { shape, dtype: "u32" }),
    weights: tensor(choices.flat().map(() => 1), { shape }),
  });
}

const random = randomSource(4);

/** Choices that cover one expert and many, whole tiles, cut ones and none. */
function choicesOf(tokens: number, k: number, experts: number, draw: () => number): number[][] {
  return Array.from({ length: tokens }, () => Array.from({ length: k }, () => Math.min(experts, Math.floor(draw()))));
}

const CASES: Readonly<Record<string, readonly [choices: number[][], experts: number]>> = {
  "one assignment": [[[0]], 1],
  "two choices, some dropped": [choicesOf(23, 2, 5, () => random.uniform(0, 6)), 5],
  "all to one of four": [choicesOf(70, 1, 4, () => 2), 4],
  "more experts than rows": [choicesOf(3, 2, 11, () => random.uniform(0, 11)), 11],
  "all dropped": [choicesOf(6, 1, 3, () => 3), 3],
};

async function checkCase(choices: number[][], experts: number): Promise<void> {
  const [inputs, outputs] = [3, 5];
  const source = randomSource(5);
  const x = [...source.normals(choices.length * inputs)].map(Math.fround);
  const weight = [...source.normals(experts * inputs * outputs)].map(Math.fround);
  const bias = [...source.normals(experts * outputs)].map(Math.fround);
  const expected = choices.flatMap((row, token) =>
    row.flatMap((expert) =>
      Array.from(
        { length: outputs },
        (_, o) =>
          expert === experts ? 0 : x.slice(token * inputs, (token + 1) * inputs).reduce(
            (sum, value, i) => sum + value * weight[(expert * inputs + i) * outputs + o]!,
            bias[expert * outputs + o]!,
          ),
      )
    )
  );
  const rows = executeSegments(planOf(choices, experts), tensor(x, { shape: [choices.length, inputs] }), {
    weight: tensor(weight, { shape: [experts, inputs, outputs] }),
    bias: tensor(bias, { shape: [experts, outputs] }),
  });
  assertClose(await rows.data(), expected, F32, "rows");
}

for (const [name, [choices, experts]] of Object.entries(CASES)) {
  oracleTest(
    `executeSegments() multiplies each token by its expert's matrix: ${name}`,
    () => checkCase(choices, experts),
  );
  gpuTest(`executeSegments() multiplies each token by its expert's matrix: ${name}`, () => checkCase(choices, experts));
}

/** Sizes of a product by segments, and the choices of each token; different numbers of them make a plan by offsets. */
interface Product {
  readonly choices: readonly (readonly number[])[];
  readonly experts: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly bias?: true;
}

const PRODUCTS: Readonly<Record<string, Product>> = {
  "one number": { choices: [[0]], experts: 1, inputs: 1, outputs: 1 },
  "odd sizes, two choices, some dropped": {
    choices: choicesOf(43, 2, 5, () => random.uniform(0, 6)),
    experts: 5,
    inputs: 7,
    outputs: 9,
    bias: true,
  },
  "one choice, some dropped": {
    choices: choicesOf(90, 1, 3, () => random.uniform(0, 4)),
    experts: 3,
    inputs: 12,
    outputs: 68,
    bias: true,
  },
  "all to one of four, several tiles": {
    choices: choicesOf(150, 1, 4, () => 2),
    experts: 4,
    inputs: 20,
    outputs: 132,
  },
  "hundreds of experts": {
    choices: choicesOf(30, 2, 700, () => random.uniform(0, 700)),
    experts: 700,
    inputs: 8,
    outputs: 4,
    bias: true,
  },
  "different numbers of experts": {
    choices: [[0, 2], [], [1], [2, 0, 1], [9], [1, 9]],
    experts: 3,
    inputs: 8,
    outputs: 12,
    bias: true,
  },
};

interface ProductOperands {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias?: Tensor;
}

function planOfProduct({ choices, experts }: Product): DispatchPlan {
  if (choices.every(({ length }) => length === choices[0]!.length)) return planOf(choices, experts);
  const offsets = [0];
  for (const own of choices) offsets.push(offsets.at(-1)! + own.length);
  const indices = tensor(choices.flat(), { dtype: "u32" });
  return planFromAssignments({
    experts,
    indices,
    weights: cast(zeros(indices.shape), "f32"),
    tokenOffsets: tensor(offsets, { dtype: "u32" }),
  });
}

function operandsOf({ choices, experts, inputs, outputs, bias }: Product): ProductOperands & { cotangent: Tensor } {
  const source = randomSource(8);
  const draw = (...shape: number[]) =>
    tensor(source.normals(shape.reduce((a, b) => a * b, 1)).map(Math.fround), { shape });
  return {
    x: draw(choices.length, inputs),
    weight: draw(experts, inputs, outputs),
    ...(bias ? { bias: draw(experts, outputs) } : {}),
    cotangent: draw(choices.flat().length, outputs),
  };
}

async function resultAndGradients(product: Product): Promise<Readonly<Record<string, ArrayLike<number>>>> {
  const { cotangent, ...operands } = operandsOf(product);
  const plan = planOfProduct(product);
  const [out, pull] = vjp((own: ProductOperands) => executeSegments(plan, own.x, own), operands);
  const [gradients] = pull(cotangent);
  return await read({ out, ...gradients } as Record<string, Tensor>);
}

for (const adapterClass of TEXTURE_CLASSES) {
  gpuTest(`executeSegments() has right ${adapterClass} kernels, forward and backward`, async () => {
    for (const [name, product] of Object.entries(PRODUCTS)) {
      const expected = await withOracle(() => resultAndGradients(product));
      const found = await withAdapterClass(adapterClass, () => resultAndGradients(product));
      for (const [key, values] of Object.entries(expected)) assertClose(found[key]!, values, F32, `${name}: ${key}`);
    }
  });
}

gpuTest("executeSegments() adds up more rows of one expert than an invocation may loop over", async () => {
  const product: Product = {
    choices: choicesOf(66_003, 1, 1, () => 0),
    experts: 1,
    inputs: 1,
    outputs: 1,
    bias: true,
  };
  const expected = await withOracle(() => resultAndGradients(product));
  const found = await resultAndGradients(product);
  for (const [key, values] of Object.entries(expected)) {
    assertClose(found[key]!, values, { relative: 1e-4, absolute: 1e-4 }, key);
  }
});

gpuTest("executeSegments() repeats bit for bit", async () => {
  const product = PRODUCTS["odd sizes, two choices, some dropped"]!;
  const first = await resultAndGradients(product);
  for (let turn = 0; turn < 3; turn++) assertEquals(await resultAndGradients(product), first);
});

gpuTest("executeSegments() is one dispatch with what is done to its result, and copies no matrix", async () => {
  const product = PRODUCTS["all to one of four, several tiles"]!;
  const { cotangent, ...operands } = operandsOf(product);
  const { aux: _aux, stats: _stats, ...plan } = planOfProduct(product);
  const { expertOffsets, rowToken, rowAssign, assignRow } = plan;
  type Indices = Pick<typeof plan, "expertOffsets" | "rowToken" | "rowAssign" | "assignRow">;
  const indices: Indices = { expertOffsets, rowToken, rowAssign, assignRow };
  const run = (own: ProductOperands, indices: Indices) =>
    relu(executeSegments({ ...planOfProduct(product), ...indices }, own.x, own));
  const forward = String(await jit(run).program(operands, indices));
  assert(forward.includes("1 dispatches, 0 slots"), forward);
  const both = jit((own: ProductOperands, indices: Indices, cotangent: Tensor) =>
    grad((own: ProductOperands) => sum(mul(run(own, indices), cotangent)))(own)
  );
  const printed = String(await both.program(operands, indices, cotangent));
  assert(printed.includes("segments backward") && printed.includes("experts gradient"), printed);
  assert(!printed.includes("takeRows"), printed);
});

gpuTest("executeSegments() reads half precision in its kernels", async () => {
  const product = PRODUCTS["one choice, some dropped"]!;
  async function inHalf() {
    const { x, weight, bias, cotangent } = operandsOf(product);
    const plan = planOfProduct(product);
    const half = { x: cast(x, "bf16"), weight: cast(weight, "bf16"), bias: cast(bias!, "bf16") };
    const [out, pull] = vjp((own: ProductOperands) => executeSegments(plan, own.x, own), half);
    const [gradients] = pull(cast(cotangent, "bf16"));
    assertEquals([out.dtype, gradients.weight.dtype], ["bf16", "bf16"]);
    return await read({ out, ...gradients } as Record<string, Tensor>);
  }
  const expected = await withOracle(inHalf);
  const found = await inHalf();
  for (const [key, values] of Object.entries(expected)) {
    assertClose(found[key]!, values, { relative: 2e-2, absolute: 2e-2 }, key);
  }
});

checkOp({
  name: "executeSegments",
  fn: (x, weight, bias) =>
    executeSegments(planOf([[0, 1], [1, 3], [2, 2], [0, 2], [1, 0]], 3), x!, {
      weight: weight!,
      bias: bias!,
    }),
  samples: [{ inputs: [{ shape: [5, 3] }, { shape: [3, 3, 2] }, { shape: [3, 2] }] }],
});

oracleTest("executeSegments() takes half precision and no tokens", async () => {
  const plan = planOf([[0], [1]], 2);
  const half = executeSegments(plan, tensor([[1], [2]], { dtype: "f16" }), {
    weight: tensor([[[3]], [[5]]], { dtype: "f16" }),
  });
  assertEquals([half.dtype, ...await half.data()], ["f16", 3, 10]);
  const { empty } = await read({
    empty: executeSegments(planOf([], 2), zeros([0, 1]), { weight: zeros([2, 1, 4]) }),
  });
  assertEquals(empty.length, 0);
});

oracleTest("executeSegments() refuses a plan whose offsets are of other tokens", () => {
  const plan = planOfProduct(PRODUCTS["different numbers of experts"]!);
  const rows = { ...plan, tokens: plan.assignments, rowToken: plan.rowAssign };
  assertThrows(() => executeSegments(rows, zeros([9, 8]), { weight: zeros([3, 8, 12]) }), ShapeError, "do not fit");
});

oracleTest("executeSegments() refuses operands that do not fit the plan", () => {
  const plan = planOf([[0], [1]], 2);
  const error = assertThrows(() => executeSegments(plan, zeros([2, 3]), { weight: zeros([2, 4, 1]) }), ShapeError);
  assertEquals(
    error.message,
    `Cannot execute segments: x f32[2, 3] and weight f32[2, 4, 1] do not fit the plan
  op    executeSegments(plan, x, { weight })
  plan  2 tokens, 2 experts
Fix: give x the shape [2, I] and weight [2, I, O]`,
  );
  const bias: Tensor = zeros([2, 3]);
  assertThrows(() => executeSegments(plan, zeros([2, 3]), { weight: zeros([2, 3, 1]), bias }), ShapeError, "bias");
});
