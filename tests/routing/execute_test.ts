import { assert, assertEquals, assertThrows } from "@std/assert";
import { fullLike } from "../../src/core/arithmetic.ts";
import type { KernelTuning } from "../../src/core/kernel.ts";
import { ConfigError, DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad, valueAndGrad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { ones, tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { execute, type ExpertParams } from "../../src/routing/execute.ts";
import { hardwareBlockRows } from "../../src/routing/execute_block.ts";
import { backwardKernelFor, forwardKernelFor } from "../../src/routing/execute_choice.ts";
import { outputParts } from "../../src/routing/execute_output_kernel.ts";
import type { ExpertShape } from "../../src/routing/execute_shape.ts";
import { planFromTopK } from "../../src/routing/plan.ts";
import { assertClose, checkOp, gpuTest, oracleTest, withOracle } from "../support/check_primitive.ts";
import { TEXTURE_CLASSES, withAdapterClass } from "../support/variants.ts";
import {
  caseGradients,
  caseOptions,
  casePlan,
  type CaseTensors,
  caseTensors,
  drawValues,
  executeCase,
  type ExpertCase,
  naiveExecute,
  randomChoices,
} from "./support/expert_case.ts";

/** Sums of some hundred products in f32. */
const F32 = { relative: 2e-5, absolute: 1e-5 };
const ALL_BIASES = ["upBias", "downBias", "gateBias"] as const;

const CASES: Readonly<Record<string, ExpertCase>> = {
  "one expert, one token, one number": { choices: [[0]], experts: 1, width: 1, inner: 1 },
  "k = 1, relu, all biases": {
    choices: randomChoices({ tokens: 40, k: 1, experts: 3 }),
    experts: 3,
    width: 16,
    inner: 32,
    activation: "relu",
    biases: ["upBias", "downBias"],
  },
  "k = 1 with dropped tokens, odd widths, gated": {
    choices: randomChoices({ tokens: 37, k: 1, experts: 3, drop: 0.4 }),
    experts: 3,
    width: 5,
    inner: 7,
    activation: "silu",
    body: "glu",
    biases: ALL_BIASES,
  },
  "k = 1, all to one of eight": {
    choices: Array.from({ length: 45 }, () => [5]),
    experts: 8,
    width: 12,
    inner: 20,
    activation: "silu",
  },
  "k = 2 with dropped choices, gated": {
    choices: randomChoices({ tokens: 50, k: 2, experts: 8, drop: 0.3 }),
    experts: 8,
    width: 12,
    inner: 20,
    body: "glu",
  },
  "k = 2, rows no multiple of a block, one bias of two": {
    choices: randomChoices({ tokens: 71, k: 2, experts: 3 }),
    experts: 3,
    width: 36,
    inner: 68,
    biases: ["downBias"],
  },
  "k = 2, half to the first of four, widths for copies": {
    choices: Array.from({ length: 72 }, (_, token) => [0, token % 3 + 1]),
    experts: 4,
    width: 64,
    inner: 128,
    activation: "silu",
  },
  "k = 4 of 64, most experts empty": {
    choices: randomChoices({ tokens: 6, k: 4, experts: 64 }),
    experts: 64,
    width: 8,
    inner: 6,
    activation: "relu",
    body: "glu",
  },
  "k = 4 of 8, one token": {
    choices: randomChoices({ tokens: 1, k: 4, experts: 8 }),
    experts: 8,
    width: 12,
    inner: 20,
    biases: ["upBias", "downBias"],
  },
  "k = 2 of 3000, of low rank": {
    choices: randomChoices({ tokens: 40, k: 2, experts: 3000, drop: 0.1 }),
    experts: 3000,
    width: 12,
    inner: 3,
    activation: "relu",
  },
  "nobody routed": { choices: [[3], [3], [3]], experts: 3, width: 4, inner: 8 },
  "different numbers of experts": {
    choices: [[0, 2], [], [1], [2, 0, 1], [9], [1, 9]],
    experts: 3,
    width: 12,
    inner: 20,
    activation: "silu",
    biases: ["upBias", "downBias"],
  },
  "inner rows too many for workgroup memory": {
    choices: randomChoices({ tokens: 30, k: 1, experts: 2, drop: 0.1 }),
    experts: 2,
    width: 12,
    inner: 600,
    body: "glu",
    activation: "silu",
  },
  "weights on the input, k = 2": {
    choices: randomChoices({ tokens: 20, k: 2, experts: 3, drop: 0.2 }),
    experts: 3,
    width: 12,
    inner: 20,
    scaleAt: "input",
  },
  "weights on the input, different numbers": {
    choices: [[0, 2], [], [1], [2, 0, 1], [9]],
    experts: 3,
    width: 5,
    inner: 7,
    activation: "silu",
    scaleAt: "input",
  },
};

async function expectLikeOracle(name: string, one: ExpertCase): Promise<void> {
  const expected = await withOracle(() => read(caseGradients(one)));
  const found = await read(caseGradients(one));
  for (const [key, values] of Object.entries(expected)) assertClose(found[key]!, values, F32, `${name}: ${key}`);
}

for (const [name, one] of Object.entries(CASES)) {
  oracleTest(`execute() is the loop over tokens and experts: ${name}`, async () => {
    const values = drawValues(one);
    const found = await executeCase(one, caseTensors(one, values)).data();
    assertClose(found, naiveExecute(one, values), { relative: 1e-6, absolute: 1e-6 }, name);
  });
}

/** Cases that between them take every branch of the kernel texts. Compiling a kernel takes a second on a CPU. */
const KERNEL_CASES = [
  "one expert, one token, one number",
  "k = 1 with dropped tokens, odd widths, gated",
  "k = 1, all to one of eight",
  "k = 2 with dropped choices, gated",
  "k = 2, rows no multiple of a block, one bias of two",
  "k = 2, half to the first of four, widths for copies",
  "k = 4 of 8, one token",
  "k = 2 of 3000, of low rank",
  "nobody routed",
  "different numbers of experts",
  "inner rows too many for workgroup memory",
];

gpuTest("execute() has right kernels, forward and backward", async () => {
  for (const [name, one] of Object.entries(CASES)) await expectLikeOracle(name, one);
});

/** Cases for the blocks and tiles of hardware adapters that are chosen by how much there is to do. */
const TILE_CASES: Readonly<Record<string, ExpertCase>> = {
  "k = 2, rows for blocks of 64, gated": {
    choices: randomChoices({ tokens: 2100, k: 2, experts: 3, drop: 0.02 }),
    experts: 3,
    width: 20,
    inner: 24,
    body: "glu",
    biases: ["upBias", "downBias", "gateBias"],
  },
  "k = 1, rows for wide tiles": {
    choices: randomChoices({ tokens: 8210, k: 1, experts: 2, drop: 0.01 }),
    experts: 2,
    width: 132,
    inner: 6,
    activation: "relu",
  },
  "k = 1 of 128, matrices for wide tiles": {
    choices: randomChoices({ tokens: 150, k: 1, experts: 128 }),
    experts: 128,
    width: 128,
    inner: 132,
  },
};

/** Cases for kernels that keep rows of the result in registers: several tiles of columns, and chunks over workgroups. */
const OUTPUT_CASES: Readonly<Record<string, ExpertCase>> = {
  "k = 1, two chunks in each of two workgroups, two tiles": {
    choices: randomChoices({ tokens: 70, k: 1, experts: 64, drop: 0.2 }),
    experts: 64,
    width: 68,
    inner: 196,
    biases: ["upBias", "downBias"],
  },
  "k = 2, a workgroup for each chunk, odd widths, gated": {
    choices: randomChoices({ tokens: 5, k: 2, experts: 3, drop: 0.2 }),
    experts: 3,
    width: 129,
    inner: 131,
    body: "glu",
    activation: "silu",
    biases: ALL_BIASES,
  },
  "different numbers of experts, a chunk and a half": {
    choices: [[0, 2], [], [1], [2, 0, 1], [9], [1, 9]],
    experts: 3,
    width: 64,
    inner: 96,
  },
};

Deno.test("a GPU gets larger blocks the more rows experts have, as long as there are enough of them", () => {
  const rowsOf = (assignments: number, experts: number, width?: number) =>
    hardwareBlockRows({ assignments, experts }, width);
  assertEquals(rowsOf(32_768, 64), 64);
  assertEquals(rowsOf(2048, 8), 32); // 64 blocks of 32
  assertEquals(rowsOf(2048, 8, 256), 64); // 128 tiles of 64
  assertEquals(rowsOf(4096, 128), 32); // 32 rows each
  assertEquals(rowsOf(512, 64), 16);
  assertEquals(rowsOf(3, 64), 16);
});

Deno.test("a GPU keeps on chip what fits where experts have few rows, in enough workgroups", () => {
  const formsOf = (
    sizes: Pick<ExpertShape, "assignments" | "experts" | "width" | "inner">,
    tuning: KernelTuning = {},
  ) => {
    const shape: ExpertShape = { ...sizes, activation: "gelu", body: "ffn", bias: false };
    const options = { variant: "hardware", target: "token", keeps: "nothing", workgroupBytes: 16384 } as const;
    const traits = { software: false, tuning };
    return [forwardKernelFor(shape, options, traits), backwardKernelFor(shape, traits), outputParts(shape)];
  };
  const decoding = { assignments: 8, experts: 64, width: 256, inner: 1024 };
  assertEquals(formsOf(decoding), ["output-resident", "output-resident", 16]);
  assertEquals(formsOf({ ...decoding, width: 260 }).slice(0, 2), ["pair", "pair"]);
  assertEquals(formsOf({ ...decoding, width: 260 }, { expertKernel: "output-resident" }).slice(0, 2), ["pair", "pair"]);
  assertEquals(formsOf({ ...decoding, assignments: 2048, experts: 256, inner: 128 }).slice(0, 2), [
    "hidden-resident",
    "hidden-resident",
  ]);
  assertEquals(formsOf({ ...decoding, assignments: 4096, experts: 8 }).slice(0, 2), ["pair", "pair"]);
  const cases = Object.values(OUTPUT_CASES).map(({ choices, experts, width, inner }) =>
    formsOf({ assignments: choices.flat().length, experts, width, inner })[2]
  );
  assertEquals(cases, [2, 3, 2]);
});

gpuTest("execute() has right kernels for GPUs where there is much to do, forward and backward", async () => {
  await withAdapterClass("hardware", async () => {
    for (const [name, one] of Object.entries(TILE_CASES)) await expectLikeOracle(name, one);
  });
});

for (const expertKernel of ["hidden-resident", "output-resident", "pair"] as const) {
  gpuTest(`execute() has right kernels for GPUs, forward and backward: ${expertKernel}`, async () => {
    await withAdapterClass("hardware", async () => {
      for (const name of KERNEL_CASES) await expectLikeOracle(name, CASES[name]!);
      for (const [name, one] of Object.entries(OUTPUT_CASES)) await expectLikeOracle(name, one);
    }, { tuning: { expertKernel } });
  });
}

gpuTest("execute() has right kernels with operands in textures, forward and backward", async () => {
  for (const name of KERNEL_CASES) {
    // Small enough that some operands take several stripes.
    const textureSide = name.includes("gated") ? 129 : 16384;
    await withAdapterClass("software with textures", () => expectLikeOracle(name, CASES[name]!), { textureSide });
  }
});

gpuTest("execute() has right kernels with wide tiles", async () => {
  for (const name of ["k = 2 with dropped choices, gated", "k = 2, rows no multiple of a block, one bias of two"]) {
    const deviation = { tuning: { expertWideWork: 0 } };
    await withAdapterClass("software with textures", () => expectLikeOracle(name, CASES[name]!), deviation);
  }
});

gpuTest("execute() fills each texture once for its forward and backward pass", async () => {
  await withAdapterClass("software with textures", async () => {
    const one = CASES["k = 2 with dropped choices, gated"]!;
    const { hidden, weight, params } = caseTensors(one, drawValues(one));
    const step = jit(grad((own: ExpertParams, x: Tensor) => sum(executeCase(one, { hidden: x, weight, params: own }))));
    const printed = String(await step.program(params, hidden));
    // Tokens, the cotangent of the result, three matrices, inner rows, and of those the cotangent and the weighted ones.
    assertEquals(printed.match(/ to texture /g)?.length, 8, printed);
  });
});

gpuTest("execute() has right kernels where workgroup memory is small", async () => {
  const name = "inner rows too many for workgroup memory";
  await withAdapterClass("software", () => expectLikeOracle(name, CASES[name]!));
});

for (const adapterClass of TEXTURE_CLASSES) {
  gpuTest(`execute() has right ${adapterClass} kernels that keep nothing`, async () => {
    const name = "k = 1 with dropped tokens, odd widths, gated";
    const one: ExpertCase = { ...CASES[name]!, preactivations: "recomputed" };
    await withAdapterClass(adapterClass, () => expectLikeOracle(name, one));
  });
}

const DERIVED: ExpertCase = {
  choices: [[0, 1], [2, 1], [3, 0], [3, 3]],
  experts: 3,
  width: 3,
  inner: 2,
  activation: "silu",
};

checkOp({
  name: "execute",
  fn: (hidden, weight, up, down, upBias) =>
    executeCase(DERIVED, { hidden, weight, params: { up, down, upBias } } as CaseTensors),
  samples: [{
    inputs: [{ shape: [4, 3] }, { shape: [8] }, { shape: [3, 3, 2] }, { shape: [3, 2, 3] }, { shape: [3, 2] }],
  }],
  tolerance: F32,
});

checkOp({
  name: "execute with a gate",
  fn: (hidden, weight, up, down, gate) =>
    executeCase(
      { ...DERIVED, body: "glu", activation: "gelu" },
      { hidden, weight, params: { up, down, gate } } as CaseTensors,
    ),
  samples: [{
    inputs: [{ shape: [4, 3] }, { shape: [8] }, { shape: [3, 3, 2] }, { shape: [3, 2, 3] }, { shape: [3, 3, 2] }],
  }],
  tolerance: F32,
});

gpuTest("execute() differentiates twice", async () => {
  const one = DERIVED;
  async function second() {
    const tensors = caseTensors(one, drawValues(one));
    const first = (own: CaseTensors) => {
      const grads = grad((other: CaseTensors) => sum(square(executeCase(one, other))))(own);
      return sum(square(grads.hidden));
    };
    const { hidden, weight, params } = grad(first)(tensors);
    return await read({ hidden, weight, ...params } as Record<string, Tensor>);
  }
  const expected = await withOracle(second);
  const found = await second();
  for (const [key, values] of Object.entries(expected)) assertClose(found[key]!, values, F32, key);
});

gpuTest("execute() repeats bit for bit, eager and under jit", async () => {
  const one = CASES["k = 2 with dropped choices, gated"]!;
  const tensors = caseTensors(one, drawValues(one));
  const step = jit((own: CaseTensors) =>
    valueAndGrad((other: CaseTensors) => sum(square(executeCase(one, other))))(own)
  );
  const first = await read(step(tensors));
  for (let turn = 0; turn < 3; turn++) assertEquals(await read(step(tensors)), first);
  const eager = valueAndGrad((own: CaseTensors) => sum(square(executeCase(one, own))))(tensors);
  assertEquals(await read(eager), first);
});

gpuTest("execute() is one dispatch where each token has one expert, and adds one for more", async () => {
  for (const [k, expected] of [[1, ["experts"]], [2, ["experts", "experts combine"]]] as const) {
    const one: ExpertCase = {
      choices: randomChoices({ tokens: 64, k, experts: 4 }),
      experts: 4,
      width: 16,
      inner: 32,
      preactivations: "recomputed",
    };
    const { hidden, weight, params } = caseTensors(one, drawValues(one));
    const { aux: _aux, stats: _stats, ...plan } = casePlan(one, weight);
    type Indices = Pick<typeof plan, "expertOffsets" | "rowToken" | "rowAssign" | "assignRow">;
    const { expertOffsets, rowToken, rowAssign, assignRow } = plan;
    const compiled = jit((indices: Indices, x: Tensor, own: ExpertParams) =>
      execute({ ...casePlan(one, weight), ...indices }, x, own, caseOptions(one))
    );
    const printed = String(await compiled.program({ expertOffsets, rowToken, rowAssign, assignRow }, hidden, params));
    const labels = printed.split("\n").slice(1).map((line) => line.trim().replace(/^\d+ +/, "").replace(/ \d.*/, ""));
    assertEquals(labels, [...expected], printed);
    // Nothing is kept: neither pre-activations nor inner rows have a buffer.
    assert(!printed.includes(`f32[${64 * k}, 32]`), printed);
  }
});

gpuTest("execute() keeps nothing where there is no backward pass", async () => {
  const one = CASES["k = 1, relu, all biases"]!;
  const { hidden, weight, params } = caseTensors(one, drawValues(one));
  for (const adapterClass of TEXTURE_CLASSES) {
    await withAdapterClass(adapterClass, async () => {
      const printed = String(await jit((x: Tensor) => executeCase(one, { hidden: x, weight, params })).program(hidden));
      assert(printed.includes("experts") && !printed.includes("f32[40, 32]"), printed);
    });
  }
});

gpuTest("execute() computes no gradient that nobody asked for", async () => {
  const one = CASES["k = 1, relu, all biases"]!;
  const { hidden, weight, params } = caseTensors(one, drawValues(one));
  const step = jit((x: Tensor) => grad((own: Tensor) => sum(executeCase(one, { hidden: own, weight, params })))(x));
  const printed = String(await step.program(hidden));
  assert(printed.includes("experts backward"), printed);
  assert(!printed.includes("experts gradient") && !printed.includes("bias gradient"), printed);
});

gpuTest("execute() takes half precision in and gives it back, for every class of adapters", async () => {
  const one = CASES["k = 2, rows no multiple of a block, one bias of two"]!;
  const half = (x: Tensor) => cast(x, "bf16");
  async function inHalf() {
    const { hidden, weight, params } = caseTensors(one, drawValues(one));
    const experts = Object.fromEntries(
      Object.entries(params).map(([name, x]) => [name, half(x as Tensor)]),
    ) as unknown as ExpertParams;
    const loss = (own: { hidden: Tensor; params: ExpertParams }) => {
      const out = executeCase(one, { hidden: own.hidden, weight, params: own.params });
      assertEquals(out.dtype, "bf16");
      return sum(cast(out, "f32"));
    };
    const { hidden: dHidden, params: dParams } = grad(loss)({ hidden: half(hidden), params: experts });
    return await read({ dHidden, ...dParams } as Record<string, Tensor>);
  }
  const expected = await withOracle(inHalf);
  for (const adapterClass of TEXTURE_CLASSES) {
    const found = await withAdapterClass(adapterClass, inHalf);
    for (const [key, values] of Object.entries(expected)) {
      assertClose(found[key]!, values, { relative: 2e-2, absolute: 2e-2 }, `${adapterClass}: ${key}`);
    }
  }
});

gpuTest("execute() runs experts too large for one invocation as a pair of kernels", async () => {
  const one: ExpertCase = { choices: [[0], [1], [2], [1]], experts: 2, width: 8, inner: 160_000, activation: "relu" };
  const values = drawValues(one);
  const tensors = caseTensors(one, values);
  const printed = String(await jit((own: CaseTensors) => executeCase(one, own)).program(tensors));
  assert(printed.includes("experts up") && printed.includes("experts down"), printed);
  const found = await executeCase(one, tensors).data();
  assertClose(found, naiveExecute(one, values), { relative: 1e-4, absolute: 1e-4 }, "pair");
});

gpuTest("execute() adds up more rows of one expert than an invocation may loop over", async () => {
  const choices = randomChoices({ tokens: 66_003, k: 1, experts: 1, drop: 0.001 });
  const one: ExpertCase = { choices, experts: 1, width: 1, inner: 1, activation: "relu", biases: ["downBias"] };
  const expected = await withOracle(() => read(caseGradients(one)));
  const found = await read(caseGradients(one));
  const tolerance = { relative: 1e-4, absolute: 1e-4 };
  for (const [key, values] of Object.entries(expected)) assertClose(found[key]!, values, tolerance, key);
});

oracleTest("execute() gives tokens without an expert zeros, whatever their weight", async () => {
  const one: ExpertCase = { choices: [[0], [2]], experts: 2, width: 2, inner: 2, biases: ["downBias"] };
  const { hidden, params } = caseTensors(one, drawValues(one));
  const out = await executeCase(one, { hidden, weight: tensor([1, NaN]), params }).data();
  assertEquals([...out.slice(2)], [0, 0]);
});

Deno.test("execute() of no tokens is empty", () => {
  const plan = planFromTopK({ experts: 2, indices: zeros([0, 1], { dtype: "u32" }), weights: zeros([0, 1]) });
  const experts = { up: ones([2, 3, 4]), down: ones([2, 4, 3]) };
  assertEquals(execute(plan, zeros([0, 3]), experts).shape, [0, 3]);
});

Deno.test("execute() names what does not fit", () => {
  const plan = planFromTopK({
    experts: 2,
    indices: zeros([3, 1], { dtype: "u32" }),
    weights: fullLike([3, 1], "f32", 1),
  });
  const experts = { up: ones([2, 4, 8]), down: ones([2, 8, 4]) };
  const error = assertThrows(() => execute(plan, zeros([3, 4]), { ...experts, down: ones([2, 8, 5]) }), ShapeError);
  assertEquals(
    error.message,
    [
      "Cannot run experts: experts.down is f32[2, 8, 5], its shape should be [2, 8, 4]",
      "  op  execute(plan, hidden, experts)",
      "Fix: give all experts one size, stacked on axis 0, and as many tokens as the plan has",
    ].join("\n"),
  );
  assertThrows(() => execute(plan, zeros([4, 4]), experts), ShapeError, "hidden is f32[4, 4]");
  assertThrows(() => execute(plan, zeros([3, 4], { dtype: "i32" }), experts), DTypeError, "should hold floats");
  assertThrows(() => execute(plan, zeros([3, 4]), experts, { body: "glu" }), ConfigError, "have no gate");
  const gated = { ...experts, gate: mul(experts.up, 2) };
  assertThrows(() => execute(plan, zeros([3, 4]), gated), ConfigError, "have a gate");
  const odd = { ...plan, assignments: 4 };
  assertThrows(() => execute(odd, zeros([3, 4]), experts), ShapeError, "4 assignments for 3 tokens");
  // deno-lint-ignore no-explicit-any -- what a caller without types may pass
  const mistyped = { activation: "gleu" } as any;
  assertThrows(() => execute(plan, zeros([3, 4]), experts, mistyped), ConfigError, "did you mean gelu?");
});
