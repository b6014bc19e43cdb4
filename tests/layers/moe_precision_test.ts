import { assert, assertEquals, assertThrows } from "@std/assert";
import { roundTo as nearestOf } from "../../src/core/dtype.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { leavesOf, mapTree } from "../../src/core/tree.ts";
import { moe, type MoeLayer } from "../../src/layers/moe.ts";
import { adamw } from "../../src/optim/adam.ts";
import { trainState, trainStep } from "../../src/optim/train_step.ts";
import { mul, sub } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { mean, sum } from "../../src/ops/reduce.ts";
import { roundTo } from "../../src/ops/round_to.ts";
import { normal } from "../../src/ops/samplers.ts";
import { square } from "../../src/ops/unary.ts";
import { execute, type ExpertParams } from "../../src/routing/execute.ts";
import { switchRouter } from "../../src/routing/switch_router.ts";
import { topKRouter, type TopKRouterParams } from "../../src/routing/top_k_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose, EXACT, type Tolerance, toleranceFor } from "../support/tolerance.ts";

const [WIDTH, EXPERTS, INNER, TOKENS] = [4, 3, 5, 7];
const F64 = { relative: 1e-12, absolute: 1e-12 };
const F32 = { relative: 1e-5, absolute: 1e-5 };

function layerIn(expertDtype?: "f32" | "f16" | "bf16"): MoeLayer<TopKRouterParams> {
  const router = topKRouter({ width: WIDTH, experts: EXPERTS, k: 2, weights: "normalized" });
  return moe({ router, width: WIDTH, inner: INNER, activation: "relu", ...(expertDtype && { expertDtype }) });
}

checkLayer({
  layer: moe({
    router: switchRouter({ width: 4, experts: 3, evalCapacityFactor: Infinity }),
    width: 4,
    inner: 6,
    body: "glu",
    bias: true,
    expertDtype: "bf16",
  }),
  name: "moe(switch(3), 4 -> 6, glu, gelu)",
  params: {
    ".router.gate": "f32[4, 3]",
    ".experts.up": "f32[3, 4, 6]",
    ".experts.upBias": "f32[3, 6]",
    ".experts.gate": "f32[3, 4, 6]",
    ".experts.gateBias": "f32[3, 6]",
    ".experts.down": "f32[3, 6, 4]",
    ".experts.downBias": "f32[3, 4]",
  },
  inputs: [{ shape: [2, 5, 4] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden }) => [hidden],
  // Differences find steps of rounding where there is a slope.
  differentiable: false,
  tolerance: toleranceFor("bf16"),
});

const nearest = (value: number) => nearestOf("bf16", value);

oracleTest("moe() with bf16 experts rounds what experts read and hold, and nothing else", async () => {
  const layer = layerIn("bf16");
  const params = layer.init(key(1));
  const hidden = normal(key(2), [TOKENS, WIDTH]);
  const output = layer.apply(params, { hidden });
  const { up, down } = params.experts;
  const { plan } = output;
  const { rowToken, rowAssign, expertOffsets, weight } = plan;
  const data = await read({ hidden, up, down, rowToken, rowAssign, expertOffsets, weight, output: output.hidden });
  const expected = new Array<number>(TOKENS * WIDTH).fill(0);
  for (const [row, token] of data.rowToken.entries()) {
    const expert = data.expertOffsets.findLastIndex((start) => start <= row);
    for (let f = 0; f < INNER; f++) {
      let inner = 0;
      for (let d = 0; d < WIDTH; d++) {
        inner += nearest(data.hidden[token * WIDTH + d]!) * nearest(data.up[(expert * WIDTH + d) * INNER + f]!);
      }
      const weighted = Math.max(0, inner) * data.weight[data.rowAssign[row]!]!;
      for (let d = 0; d < WIDTH; d++) {
        expected[token * WIDTH + d]! += weighted * nearest(data.down[(expert * INNER + f) * WIDTH + d]!);
      }
    }
  }
  assertClose(data.output, expected, F64, "output");
  const exact = await layerIn().apply(params, { hidden }).hidden.data();
  assert(data.output.some((value, i) => Math.abs(value - exact[i]!) > 1e-4), "rounding shows");
});

async function checkGate(): Promise<void> {
  // 1.001 and 1 are one number in bf16, and a tie would go to expert 0.
  const gate = tensor([[1, 1.001, 0], [0, 0, 0]]);
  const hidden = tensor([[1, 5], [2, -1]]);
  for (const expertDtype of ["f32", "bf16"] as const) {
    const router = topKRouter({ width: 2, experts: 3, k: 1 });
    const layer = moe({ router, width: 2, inner: 3, expertDtype });
    const params = { ...layer.init(key(0)), router: { gate } };
    const { plan, hidden: output } = layer.apply(params, { hidden });
    const alone = router.route({ gate }, { hidden });
    const { load, weight, expected } = await read({
      load: plan.stats.load,
      weight: plan.weight,
      expected: alone.weight,
    });
    assertEquals([...load], [0, 2, 0]);
    assertClose(weight, expected, EXACT, "weights");
    assertEquals([output.dtype, plan.weight.dtype], ["f32", "f32"]);
  }
}

oracleTest("moe() chooses in f32 whatever its experts compute in", checkGate);
gpuTest("moe() chooses in f32 whatever its experts compute in", checkGate);

async function checkGradients(expertDtype: "bf16" | "f16", tolerance: Tolerance): Promise<void> {
  const [hidden, cotangent] = [normal(key(2), [TOKENS, WIDTH]), normal(key(3), [TOKENS, WIDTH])];
  const layer = layerIn(expertDtype);
  const params = layer.init(key(1));
  const { router, experts } = grad((from: typeof params) => sum(mul(layer.apply(from, { hidden }).hidden, cotangent)))(
    params,
  );
  // The same plan with everything else rounded by hand: derivatives are those at the rounded numbers, in f32.
  const rounded = (x: Tensor) => cast(roundTo(x, expertDtype), "f32");
  const plan = layer.router.route(params.router, { hidden });
  const expected = grad((from: ExpertParams) =>
    sum(mul(execute(plan, rounded(hidden), from, { activation: "relu" }), cotangent))
  )(mapTree(params.experts, rounded));
  for (const name of ["up", "down"] as const) {
    assertEquals(experts[name].dtype, "f32");
    const [values, wanted] = await read([experts[name], expected[name]] as const);
    assertClose(values, wanted, tolerance, name);
  }
  const exact = grad((from: typeof params) => sum(mul(layerIn().apply(from, { hidden }).hidden, cotangent)))(params);
  const [gate, exactGate] = await read([router.gate, exact.router.gate] as const);
  assert(gate.some((value) => value !== 0));
  assertClose(gate, exactGate, toleranceFor("bf16"), "gate");
}

for (const [test, tolerance] of [[oracleTest, F64], [gpuTest, F32]] as const) {
  test("moe() with bf16 experts has the f32 gradients of the rounded numbers", () => checkGradients("bf16", tolerance));
}
oracleTest("moe() with f16 experts has the f32 gradients of the rounded numbers", () => checkGradients("f16", F64));

oracleTest("moe() returns the type of the stream, also where experts are wider", () => {
  const hidden = cast(normal(key(2), [TOKENS, WIDTH]), "bf16");
  const layer = layerIn("f32");
  assertEquals(layer.apply(layer.init(key(1)), { hidden }).hidden.dtype, "bf16");
});

gpuTest("moe() with bf16 experts trains f32 parameters as well as with f32 ones", async () => {
  const hidden = await normal(key(4), [16, WIDTH]).data();
  async function lossesOf(expertDtype: "f32" | "bf16"): Promise<readonly number[]> {
    const layer = layerIn(expertDtype);
    // Steps this small would be lost if the parameters themselves were bf16.
    const optimizer = adamw({ learningRate: 1e-3 });
    const step = trainStep({
      loss: (params: ReturnType<typeof layer.init>, batch: Tensor) =>
        mean(square(sub(layer.apply(params, { hidden: batch }, { train: true }).hidden, mul(batch, 0.5)))),
      optimizer,
    });
    let state = trainState({ params: layer.init(key(5)), optimizer, key: key(6) });
    const losses: Tensor[] = [];
    for (let i = 0; i < 60; i++) {
      const [next, { loss }] = step(state, tensor(hidden, { shape: [16, WIDTH] }));
      state = next;
      losses.push(loss);
    }
    for (const [path, leaf] of leavesOf(state.params)) assertEquals(leaf.dtype, "f32", path);
    return [await losses[0]!.item(), await losses.at(-1)!.item()];
  }
  const [wide, narrow] = [await lossesOf("f32"), await lossesOf("bf16")];
  assert(wide[1]! < 0.9 * wide[0]!, `${wide}`);
  assertClose(narrow, wide, { relative: 0.03, absolute: 0 }, "losses");
});

Deno.test("moe() refuses types that experts cannot have, and impossible dropout, with all else", () => {
  const router = topKRouter({ width: 2, experts: 2, k: 1 });
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { router, width: 2, inner: 0, expertDtype: "bf32", innerDropout: 1 };
  assertEquals(
    assertThrows(() => moe(wrong), ConfigError).message,
    `Cannot build moe: 3 options are invalid
  inner         0       must be a whole number from 1 up
  expertDtype   "bf32"  must be one of f32, f16, bf16; did you mean f32?
  innerDropout  1       must be a number from 0 up, below 1`,
  );
});
