import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { linear, type LinearParams } from "../../src/layers/linear.ts";
import { projectedAltUp } from "../../src/layers/projected_alt_up.ts";
import { tokenAltUp, type TokenAltUpParams } from "../../src/layers/token_alt_up.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose, type Tolerance } from "../support/tolerance.ts";

/** Tensors of a case by name: parameters, or their gradients beside that of x. */
type Arrays = Readonly<Record<string, GoldenTensor>>;

interface Case {
  readonly x: GoldenTensor;
  readonly params: Arrays;
  readonly weights: GoldenTensor;
  readonly output: GoldenTensor;
  readonly gradients: Arrays;
}

interface Fixture {
  readonly sizes: { readonly blocks: number; readonly active: number; readonly width: number; readonly clip: number };
  readonly altUp: readonly (Case & { readonly train: boolean })[];
  readonly ends: Case;
}

type Stream = (params: Readonly<Record<string, Tensor>>, x: Tensor) => Tensor;

const golden = await readGolden<Fixture>("gemma3n.json");
const { blocks, active, width, clip } = golden.sizes;
const inner = linear({ inputs: width, outputs: width });

function named(params: Readonly<Record<string, Tensor>>): TokenAltUpParams<LinearParams> {
  const { scale, features, prediction, correction, weight, bias } = params as Record<string, Tensor>;
  return {
    layer: { weight: weight!, bias: bias! },
    scale: scale!,
    features: features!,
    prediction: prediction!,
    correction: correction!,
  };
}

async function checkCase(run: Stream, { x, params, weights, output, gradients }: Case, tolerance: Tolerance) {
  const inputs = {
    x: fromGolden(x),
    params: Object.fromEntries(Object.entries(params).map(([name, each]) => [name, fromGolden(each)])),
  };
  const [value, pull] = vjp((from: typeof inputs) => run(from.params, from.x), inputs);
  const [pulled] = pull(fromGolden(weights));
  const found = await read({ value, x: pulled.x, params: pulled.params });
  assertClose(found.value, output.data, tolerance, "output");
  assertClose(found.x, gradients.x!.data, tolerance, "gradient of x");
  for (const name of Object.keys(params)) {
    assertClose(found.params[name]!, gradients[name]!.data, tolerance, `gradient of ${name}`);
  }
}

async function checkAltUp(tolerance: Tolerance): Promise<void> {
  const layer = tokenAltUp({ layer: inner, width, blocks, active, clip });
  for (const one of golden.altUp) {
    await checkCase((params, x) => layer.apply(named(params), x, { train: one.train }), one, tolerance);
  }
}

async function checkEnds(tolerance: Tolerance): Promise<void> {
  const layer = projectedAltUp({ layer: tokenAltUp({ layer: inner, width, blocks }), width, blocks });
  const run: Stream = (params, x) =>
    layer.apply({ layer: named(params), widen: params.widen!, narrow: params.narrow! }, x);
  await checkCase(run, golden.ends, tolerance);
}

/** The file was computed in float64 from inputs that f32 holds exactly, and rounded to f32 once. */
const ROUNDED = { relative: 2e-6, absolute: 1e-6 };
const COMPUTED = { relative: 2e-5, absolute: 2e-5 };

for (const [test, tolerance] of [[oracleTest, ROUNDED], [gpuTest, COMPUTED]] as const) {
  test("tokenAltUp() agrees with the module of transformers, gradients and all", () => checkAltUp(tolerance));
  test("projectedAltUp() agrees with the ends of the model of transformers", () => checkEnds(tolerance));
}
