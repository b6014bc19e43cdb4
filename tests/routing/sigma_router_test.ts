import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { key } from "../../src/ops/random.ts";
import { sum, variance } from "../../src/ops/reduce.ts";
import { bernoulli } from "../../src/ops/samplers.ts";
import { sqrt, square } from "../../src/ops/unary.ts";
import { transpose } from "../../src/ops/view.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { moe } from "../../src/layers/moe.ts";
import { leavesOf } from "../../src/core/tree.ts";
import { entropyRegularizer } from "../../src/routing/entropy_regularizer.ts";
import { execute } from "../../src/routing/execute.ts";
import { planFromTopK } from "../../src/routing/plan.ts";
import { sigmaExpertScales, withEvenNorms } from "../../src/routing/sigma_init.ts";
import { chooseAvailable, sigmaRouter, type SigmaScore } from "../../src/routing/sigma_router.ts";
import { checkOp } from "../support/check_primitive.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

const [WIDTH, EXPERTS, K] = [5, 6, 2];
const PUBLISHED = { relative: 0, absolute: 1e-6 };

function wideGate() {
  return { gate: tensor(randomSource(2).normals(WIDTH * EXPERTS).map(Math.fround), { shape: [WIDTH, EXPERTS] }) };
}

const SUBJECTS: readonly (readonly [SigmaScore, number])[] = [["sigmoid", 0.3], ["softmax", 0], [
  "softmaxSelected",
  0.6,
]];
for (const [score, expertDropout] of SUBJECTS) {
  checkRouter({
    name: `sigmaRouter() with ${score} and dropout ${expertDropout}`,
    router: sigmaRouter({ width: WIDTH, experts: EXPERTS, k: K, score, expertDropout }),
    width: WIDTH,
    params: wideGate,
  });
}

checkOp({
  name: "entropyRegularizer",
  fn: (logits) => entropyRegularizer(logits),
  samples: [{ inputs: [{ shape: [7, 4] }] }],
});

/** The example of the specification: three tokens, four experts. */
const EXAMPLE = {
  hidden: [[1, 0], [0, 1], [1, 1]],
  gate: [[1, -0.5, 0.25, -1], [0.5, 1, -1, 0.2]],
};

/** d(entropyReg) / d(logits) of the example. */
const REGULARIZER_GRADIENT = [
  [0.094840, -0.002629, -0.069359, -0.022852],
  [0.059628, 0.009221, -0.014023, -0.054825],
  [0.067387, -0.020848, -0.022535, -0.024004],
].flat();

async function checkExample(): Promise<void> {
  const router = sigmaRouter({ width: 2, experts: 4, k: 2 });
  const plan = await readPlan(router.route({ gate: tensor(EXAMPLE.gate) }, { hidden: tensor(EXAMPLE.hidden) }));
  assertEquals(plan.expertOffsets, [0, 3, 5, 6, 6]);
  assertEquals(plan.rowToken, [0, 1, 2, 1, 2, 0]);
  assertClose(plan.weight, [0.731059, 0.562177, 0.731059, 0.622459, 0.817574, 0.622459], PUBLISHED, "weight");
  const byRow = plan.rowAssign.map((assignment) => plan.weight[assignment]!);
  assertClose(byRow, [0.731059, 0.622459, 0.817574, 0.731059, 0.622459, 0.562177], PUBLISHED, "weight by row");
  assertAlmostEquals(plan.aux.entropyReg!, -1.216280, 1e-6);
  const mean = [0.486171, 0.270679, 0.128917, 0.114232];
  assertAlmostEquals(plan.entropy, mean.reduce((total, p) => total - p * Math.log(p), 0), 2e-6);
}
oracleTest("sigmaRouter() has the values of the published example", checkExample);
gpuTest("sigmaRouter() has the values of the published example", checkExample);

/** Logits of the example. */
function exampleLogits(): Tensor {
  return matmul(tensor(EXAMPLE.hidden), tensor(EXAMPLE.gate));
}

oracleTest("entropyRegularizer() has the published gradient, and ignores padding", async () => {
  assertClose(await grad(entropyRegularizer)(exampleLogits()).data(), REGULARIZER_GRADIENT, PUBLISHED, "gradient");
  assertAlmostEquals(await entropyRegularizer(zeros([3, 4])).item(), -Math.log(4), 1e-12);
  const padded = tensor([...await exampleLogits().data(), NaN, NaN, Infinity, 9], { shape: [4, 4] });
  const mask = tensor([true, true, true, false]);
  assertAlmostEquals(await entropyRegularizer(padded, mask).item(), -1.216280, 1e-6);
  const nobody = tensor([false, false, false]);
  assertEquals(await entropyRegularizer(exampleLogits(), nobody).item() + 0, 0);
  const onlyGradient = grad((logits: Tensor) => entropyRegularizer(logits, nobody))(exampleLogits());
  assertEquals([...await onlyGradient.data()].map((value) => value + 0), new Array(12).fill(0));
});

oracleTest("expert dropout has the published choices", async () => {
  const available = tensor([[0, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 0]].map((row) => row.map(Boolean)));
  const { indices, weights } = chooseAvailable(exampleLogits(), available, { k: 2 });
  assertEquals([...await indices.data()], [2, 1, 1, 0, 0, 2]);
  const expected = [0.562177, 0.377541, 0.731059, 0.622459, 0.817574, 0.320821];
  assertClose(await weights.data(), expected, PUBLISHED, "weights");
  const lonely = chooseAvailable(zeros([1, 4]), tensor([[false, false, true, false]]), { k: 2 });
  assertEquals([...await lonely.indices.data()], [2, 0]);
  assertEquals([...await lonely.weights.data()], [0.5, 0]);
});

/** The sum over all tokens of what experts that return 1, 2, 3 and 4 make of the example. */
function exampleOutput(logits: Tensor, constants: Tensor): Tensor {
  const plan = planFromTopK({ experts: 4, ...chooseAvailable(logits, undefined, { k: 2 }) });
  const experts = { up: zeros([4, 2, 1]), down: zeros([4, 1, 2]), downBias: mul(constants, tensor([1, 0])) };
  return execute(plan, tensor(EXAMPLE.hidden), experts, { activation: "relu" });
}

async function checkConstants(): Promise<void> {
  const constants = tensor([[1], [2], [3], [4]]);
  const output = [...await exampleOutput(exampleLogits(), constants).data()].filter((_, i) => i % 2 === 0);
  assertClose(output, [2.417588, 2.084576, 2.062493], { relative: 0, absolute: 3e-6 }, "output");
  const grads = grad(([logits, values]: readonly [Tensor, Tensor]) => sum(exampleOutput(logits, values)))(
    [exampleLogits(), constants] as const,
  );
  const ofLogits = [0.196612, 0, 0.738402, 0, 0.235004, 0.393224, 0, 0, 0.149146, 0.470007, 0, 0];
  assertClose(await grads[0].data(), ofLogits, { relative: 0, absolute: 3e-6 }, "d logits");
  assertClose(await grads[1].data(), [2.171092, 1.353518, 0.562177, 0], { relative: 0, absolute: 3e-6 }, "d constants");
}
oracleTest("execute() of the published example has its output and gradients", checkConstants);
gpuTest("execute() of the published example has its output and gradients", checkConstants);

oracleTest("sigmaRouter() equals a loop over tokens, expert dropout and all", async () => {
  const count = 9;
  const random = randomSource(4);
  const hidden = Array.from({ length: count }, () => [...random.normals(WIDTH)]);
  const mask = hidden.map((_, t) => t !== 3);
  const params = wideGate();
  const gate = await params.gate.data();
  const kept = await bernoulli(key(6), [count, EXPERTS], { probability: 0.5 }).data();
  for (const score of ["sigmoid", "softmax", "softmaxSelected"] as const) {
    const router = sigmaRouter({ width: WIDTH, experts: EXPERTS, k: K, score, expertDropout: 0.5 });
    const tokens = { hidden: tensor(hidden), mask: tensor(mask) };
    const plan = await readPlan(router.route(params, tokens, { train: true, key: key(6) }));
    const mean = new Array<number>(EXPERTS).fill(0);
    for (const [t, row] of hidden.entries()) {
      const logits = mean.map((_, e) => row.reduce((total, x, d) => total + x * gate[d * EXPERTS + e]!, 0));
      const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
      if (mask[t]) logits.forEach((logit, e) => mean[e]! += Math.exp(logit) / total / 8);
      const isKept = (e: number) => Boolean(kept[t * EXPERTS + e]);
      const order = logits.map((_, e) => e)
        .sort((a, b) => Number(isKept(b)) - Number(isKept(a)) || (isKept(a) ? logits[b]! - logits[a]! : a - b));
      const chosen = order.slice(0, K);
      const selected = chosen.reduce((sum, e) => sum + Math.exp(logits[e]!), 0);
      const weigh = {
        sigmoid: (logit: number) => 1 / (1 + Math.exp(-logit)),
        softmax: (logit: number) => Math.exp(logit) / total,
        softmaxSelected: (logit: number) => Math.exp(logit) / selected,
      }[score];
      for (const [choice, e] of chosen.entries()) {
        const assignment = t * K + choice;
        assertAlmostEquals(plan.weight[assignment]!, mask[t] && isKept(e) ? weigh(logits[e]!) : 0, 1e-6);
        const place = plan.assignRow[assignment]!;
        if (mask[t]) assertEquals(plan.expertOffsets.findLastIndex((start) => start <= place), e);
      }
    }
    assertAlmostEquals(plan.aux.entropyReg!, mean.reduce((sum, p) => sum + p * Math.log(p), 0), 1e-6);
  }
});

oracleTest("sigma-MoE starts as published", async () => {
  const even = withEvenNorms(transpose(tensor([[1, 0.5], [-0.5, 2], [0.25, -1], [-1.5, 0.2]])));
  const expected = [1.326933, 0.663467, -0.359815, 1.439261, 0.359815, -1.439261, -1.470542, 0.196072];
  assertClose(await transpose(even).data(), expected, PUBLISHED, "gate");
  assertAlmostEquals(await sqrt(variance(even, { correction: 1 })).item(), 1.117375, 1e-6);
  const { gate } = sigmaRouter({ width: 512, experts: 16, k: 4, layers: 12 }).init(key(3));
  const norms = [...await sqrt(sum(square(gate), { axis: 0 })).data()];
  norms.forEach((norm) => assertAlmostEquals(norm, norms[0]!, 1e-6));
  assertAlmostEquals(await sqrt(variance(gate)).item(), 0.018042, 5e-4);
  const evenNorms = [...await sqrt(sum(square(even), { axis: 0 })).data()];
  evenNorms.forEach((norm) => assertAlmostEquals(norm, 1.483556, 1e-6));
  const { scale, outputScale } = sigmaExpertScales({ experts: 16, layers: 12 });
  assertAlmostEquals(Math.sqrt(scale / 512), 0.018042, 1e-6);
  assertAlmostEquals(Math.sqrt(outputScale / 128), 0.009021, 1e-6);
  // The usual start looks at one expert's inner width alone.
  assertAlmostEquals(Math.sqrt(scale / 128), 0.036084, 1e-6);
  const longer = sigmaExpertScales({ experts: 16, layers: 16 });
  assertAlmostEquals(Math.sqrt(longer.scale / 412), 0.017418, 1e-6);
  assertAlmostEquals(Math.sqrt(longer.outputScale / 128), 0.0078125, 1e-9);
});

oracleTest("sigma-MoE layers have the published parameter counts, beside dense ones with biases", () => {
  const sizeOf = (params: object) => leavesOf(params).reduce((total, [, leaf]) => total + leaf.size, 0);
  const settings = [
    { width: 512, dense: 2053, experts: 16, counts: [2_104_837, 2_105_344] },
    { width: 412, dense: 2053, experts: 16, counts: [1_694_137, 1_694_144] },
    { width: 1024, dense: 4110, experts: 32, counts: [8_422_414, 8_421_376] },
  ];
  for (const { width, dense, experts, counts } of settings) {
    const router = sigmaRouter({ width, experts, k: 4 });
    const layers = [feedForward({ width, inner: dense, bias: true }), moe({ router, width, inner: 128 })];
    assertEquals(layers.map((layer) => sizeOf(layer.init(key(0)))), counts);
  }
});

Deno.test("sigmaRouter() tells all that is wrong with its options, and a missing key", () => {
  assertEquals(
    assertThrows(() => sigmaRouter({ width: 4, experts: 2, k: 3 }), ConfigError).message,
    `Cannot build sigmaRouter: 1 option is invalid
  k  3  must be a whole number in 1..2 (experts is 2)`,
  );
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 0, experts: 3, k: 1, expertDropout: 1, score: "sigmoids", layers: 0, dropout: 1 };
  assertEquals(
    assertThrows(() => sigmaRouter(wrong), ConfigError).message,
    `Cannot build sigmaRouter: 5 options are invalid
  width          0           must be a whole number from 1 up
  expertDropout  1           must be a number from 0 up, below 1
  score          "sigmoids"  must be one of sigmoid, softmax, softmaxSelected; did you mean sigmoid?
  layers         0           must be a whole number from 1 up
  dropout        1           unknown option; the options are width, experts, k, expertDropout, score, layers`,
  );
  const scales = assertThrows(() => sigmaExpertScales({ experts: 0.5, layers: -1 }), ConfigError).message;
  assertEquals(
    scales,
    `Cannot build sigmaExpertScales: 2 options are invalid
  experts  0.5  must be a whole number from 1 up
  layers   -1   must be a whole number from 1 up`,
  );
});

oracleTest("sigmaRouter() needs a key only to drop experts", () => {
  const [params, tokens] = [wideGate(), { hidden: zeros([2, WIDTH]) }];
  sigmaRouter({ width: WIDTH, experts: EXPERTS, k: K }).route(params, tokens, { train: true });
  const dropping = sigmaRouter({ width: WIDTH, experts: EXPERTS, k: K, expertDropout: 0.1 });
  dropping.route(params, tokens);
  const { code, message } = assertThrows(() => dropping.route(params, tokens, { train: true }), ConfigError);
  assertEquals(code, "config/route-key");
  assertEquals(
    message.split("\n")[0],
    "Cannot route with sigma(2/6): expert dropout draws random numbers while training, and the context has no key",
  );
});
