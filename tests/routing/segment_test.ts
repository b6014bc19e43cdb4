import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { planFromTopK } from "../../src/routing/plan.ts";
import type { DispatchPlan } from "../../src/routing/plan_types.ts";
import { executeSegments } from "../../src/routing/segment.ts";
import { checkOp } from "../support/check_primitive.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

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
