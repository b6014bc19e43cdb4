import { assertEquals } from "@std/assert";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import {
  productKeyMemory,
  type ProductKeyMemoryLayer,
  type ProductKeyMemoryParams,
} from "../../src/layers/product_key_memory.ts";
import { zerosLike } from "../../src/core/arithmetic.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose, type Tolerance } from "../support/tolerance.ts";

type InputName = "x" | "projection" | "bias" | "normScale" | "normBias" | "keys" | "values";
type Inputs = Readonly<Record<InputName, Tensor>>;

interface Case {
  readonly norm: "layerNorm" | "batchNorm";
  readonly rule: "head" | "joint" | "relu";
  readonly inputs: Readonly<Record<InputName, GoldenTensor>>;
  readonly rows: GoldenTensor;
  readonly weights: GoldenTensor;
  readonly output: GoldenTensor;
  readonly cotangent: GoldenTensor;
  readonly gradients: Readonly<Record<InputName, GoldenTensor>>;
}

interface Fixture {
  readonly sizes: {
    readonly width: number;
    readonly heads: number;
    readonly halfKeys: number;
    readonly half: number;
    readonly k: number;
  };
  readonly cases: readonly Case[];
}

const { sizes, cases } = await readGolden<Fixture>("product_keys.json");

function layerOf({ norm, rule }: Case): ProductKeyMemoryLayer {
  const { half, ...shared } = sizes;
  const scored = rule === "relu" ? { score: rule } : { normalization: rule };
  return productKeyMemory({ ...shared, queryWidth: 2 * half, norm, ...scored });
}

function paramsOf({ projection, bias, normScale, normBias, keys, values }: Inputs, norm: Case["norm"]) {
  // While training the batch is normalized by its own statistics, so the running ones do not matter.
  const running = norm === "batchNorm"
    ? { running: { mean: zerosLike(normScale), variance: zerosLike(normScale) } }
    : {};
  const params: ProductKeyMemoryParams = {
    query: { projection: { weight: projection, bias }, norm: { scale: normScale, bias: normBias, ...running } },
    keys,
    values,
  };
  return params;
}

async function checkCase(one: Case, tolerance: Tolerance): Promise<void> {
  const layer = layerOf(one);
  const entries = Object.entries(one.inputs).map(([name, each]) => [name, fromGolden(each)]);
  const inputs = Object.fromEntries(entries) as Inputs;
  const { rows, weights } = layer.lookUp(paramsOf(inputs, one.norm), inputs.x, { train: true });
  const [output, pull] = vjp(
    (from: Inputs) => layer.apply(paramsOf(from, one.norm), from.x, { train: true }),
    inputs,
  );
  const [gradients] = pull(fromGolden(one.cotangent));
  const found = await read({ rows, weights, output, gradients });
  const label = `${one.norm}, ${one.rule}`;
  assertEquals([...found.rows], one.rows.data, label);
  assertClose(found.weights, one.weights.data, tolerance, `${label}: weights`);
  assertClose(found.output, one.output.data, tolerance, `${label}: output`);
  for (const [name, gradient] of Object.entries(one.gradients)) {
    assertClose(found.gradients[name as InputName], gradient.data, tolerance, `${label}: gradient of ${name}`);
  }
}

const ROUNDED = { relative: 2e-6, absolute: 1e-6 };
const COMPUTED = { relative: 2e-5, absolute: 2e-5 };

for (const [test, tolerance] of [[oracleTest, ROUNDED], [gpuTest, COMPUTED]] as const) {
  test("productKeyMemory() reads and learns as if it had scored every value", async () => {
    for (const one of cases) await checkCase(one, tolerance);
  });
}
