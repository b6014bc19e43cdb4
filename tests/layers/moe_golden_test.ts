import { assertEquals } from "@std/assert";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { moe, type MoeLayer, type MoeParams } from "../../src/layers/moe.ts";
import { mixtralRouter } from "../../src/routing/mixtral_router.ts";
import { switchRouter } from "../../src/routing/switch_router.ts";
import type { TopKRouterParams } from "../../src/routing/top_k_router.ts";
import { readPlan } from "../support/check_router.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose, type Tolerance } from "../support/tolerance.ts";

/** A whole sparse layer of transformers: its parameters have that library's names. */
interface Case {
  readonly x: GoldenTensor;
  readonly params: Readonly<Record<string, GoldenTensor>>;
  readonly weights: GoldenTensor;
  readonly output: GoldenTensor;
  readonly gradients: Readonly<Record<string, GoldenTensor>>;
}

interface AuxCase {
  readonly value: number;
  readonly gradients: { readonly x: GoldenTensor; readonly router: GoldenTensor };
}

interface SwitchFixture {
  readonly layer: Case & { readonly aux: { readonly balance: AuxCase; readonly zLoss: AuxCase } };
}

interface MixtralFixture extends Case {
  readonly experts: GoldenTensor;
  readonly loadBalancing: number;
}

type Params = MoeParams<TopKRouterParams>;

/** Where a parameter of this library has its value in a fixture. */
type Names = { readonly gate: string; readonly experts: Readonly<Record<string, string>> };

const SWITCH: Names = { gate: "router", experts: { up: "wi", down: "wo" } };
const MIXTRAL: Names = { gate: "gate", experts: { gate: "w1", down: "w2", up: "w3" } };

/** The file was rounded to f32 once; transformers' Mixtral block itself takes one softmax in f32. */
const ROUNDED = { relative: 4e-6, absolute: 2e-6 };
const COMPUTED = { relative: 2e-5, absolute: 2e-5 };

function paramsOf({ gate, experts }: Names, params: Case["params"]): Params {
  const tensors = Object.entries(experts).map(([own, theirs]) => [own, fromGolden(params[theirs]!)]);
  return { router: { gate: fromGolden(params[gate]!) }, experts: Object.fromEntries(tensors) };
}

async function checkBlock(
  layer: MoeLayer<TopKRouterParams>,
  names: Names,
  one: Case,
  tolerance: Tolerance,
): Promise<void> {
  const inputs = { x: fromGolden(one.x), params: paramsOf(names, one.params) };
  const [value, pull] = vjp((from: typeof inputs) => layer.apply(from.params, { hidden: from.x }).hidden, inputs);
  const [pulled] = pull(fromGolden(one.weights));
  const found = await read({ value, x: pulled.x, gate: pulled.params.router.gate, experts: pulled.params.experts });
  assertEquals(value.shape, one.output.shape);
  assertClose(found.value, one.output.data, tolerance, "output");
  assertClose(found.x, one.gradients.x!.data, tolerance, "gradient of x");
  assertClose(found.gate, one.gradients[names.gate]!.data, tolerance, "gradient of the gate");
  for (const [own, theirs] of Object.entries(names.experts)) {
    const gradient = found.experts[own as keyof typeof found.experts]!;
    assertClose(gradient, one.gradients[theirs]!.data, tolerance, `gradient of ${own}`);
  }
}

const { layer: switchCase } = await readGolden<SwitchFixture>("switch.json");
const mixtralCase = await readGolden<MixtralFixture>("mixtral.json");

function switchLayer(): MoeLayer<TopKRouterParams> {
  const [experts, width, inner] = switchCase.params.wi!.shape as [number, number, number];
  const router = switchRouter({ width, experts, evalCapacityFactor: Infinity });
  return moe({ router, width, inner, activation: "relu" });
}

type SwitchInputs = { readonly x: Tensor; readonly gate: Tensor };

async function checkSwitchLosses(tolerance: Tolerance): Promise<void> {
  for (const name of ["balance", "zLoss"] as const) {
    const { value, gradients } = switchCase.aux[name];
    const layer = switchLayer();
    const params = paramsOf(SWITCH, switchCase.params);
    const lossOf = ({ x, gate }: SwitchInputs) =>
      layer.apply({ ...params, router: { gate } }, { hidden: x }).plan.aux[name]!;
    const [loss, pull] = vjp(lossOf, { x: fromGolden(switchCase.x), gate: params.router.gate });
    const [pulled] = pull(fromGolden({ dtype: "f32", shape: [], data: [1] }));
    const found = await read({ loss, x: pulled.x, gate: pulled.gate });
    assertClose(found.loss, [value], tolerance, name);
    assertClose(found.x, gradients.x.data, tolerance, `${name} by x`);
    assertClose(found.gate, gradients.router.data, tolerance, `${name} by gate`);
  }
}

function mixtralLayer(): MoeLayer<TopKRouterParams> {
  const [experts, width, inner] = mixtralCase.params.w1!.shape as [number, number, number];
  return moe({ router: mixtralRouter({ width, experts }), width, inner, body: "glu", activation: "silu" });
}

for (const [test, tolerance] of [[oracleTest, ROUNDED], [gpuTest, COMPUTED]] as const) {
  test(
    "moe() of switchRouter() agrees with the sparse layer of transformers, gradients and all",
    () => checkBlock(switchLayer(), SWITCH, switchCase, tolerance),
  );
  test("moe() of switchRouter() has the losses of transformers", () => checkSwitchLosses(tolerance));
  test(
    "moe() of mixtralRouter() agrees with the sparse block of transformers, gradients and all",
    () => checkBlock(mixtralLayer(), MIXTRAL, mixtralCase, tolerance),
  );
}

oracleTest(
  "moe() of mixtralRouter() has half the balance loss of transformers, which counts both choices",
  async () => {
    const { plan } = mixtralLayer().apply(paramsOf(MIXTRAL, mixtralCase.params), { hidden: fromGolden(mixtralCase.x) });
    const { aux } = await readPlan(plan);
    assertClose([2 * aux.balance!], [mixtralCase.loadBalancing], ROUNDED, "balance");
  },
);
