/**
 * Comparing an op with the reference values of `ops.json`: its result, and its gradients for the given cotangent.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { isFloat } from "../../src/core/dtype.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { fromGolden, type GoldenCase, goldenCases, type GoldenTensor } from "./golden.ts";
import { gpuTest, oracleTest } from "./runtimes.ts";
import { assertClose, type Tolerance } from "./tolerance.ts";

/** The fixtures were computed in float64 and rounded to f32 once. */
const GOLDEN: Tolerance = { relative: 1e-5, absolute: 2e-6 };

/** Applies an op with a case's options to its inputs, by name. */
// deno-lint-ignore no-explicit-any -- every op has its own options
export type GoldenRun = (inputs: Record<string, Tensor>, options: any) => Tensor;

/**
 * Registers a test of every case of an op, on the oracle and where there is an adapter on that.
 *
 * @param op The op's name in `ops.json`.
 * @param gpuTolerance Allowed on the adapter where a case is ill-conditioned in f32.
 */
export function checkGolden(op: string, run: GoldenRun, gpuTolerance: Tolerance = GOLDEN): void {
  oracleTest(`${op}() agrees with the reference values`, () => checkCases(op, run, GOLDEN));
  gpuTest(`${op}() agrees with the reference values`, () => checkCases(op, run, gpuTolerance));
}

async function checkCases(op: string, run: GoldenRun, tolerance: Tolerance): Promise<void> {
  const cases = await goldenCases(op);
  assertEquals(cases.length > 0, true, `no cases of ${op} in ops.json`);
  for (const one of cases) await checkCase(one, run, tolerance);
}

/** The file prints f32 numbers as short as they can be; on the oracle the nearest f32 is meant, not that decimal. */
function rounded(golden: GoldenTensor): Tensor {
  return fromGolden({ ...golden, data: golden.data.map(Math.fround) });
}

async function checkCase(
  { name, options, inputs, weights, output, gradients }: GoldenCase,
  run: GoldenRun,
  tolerance: Tolerance,
): Promise<void> {
  const tensors = Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, rounded(input)]));
  const floats = Object.fromEntries(Object.entries(tensors).filter(([, { dtype }]) => isFloat(dtype)));
  const [value, pull] = vjp((some: Record<string, Tensor>) => run({ ...tensors, ...some }, options), floats);
  const found = await read({ value, gradients: pull(rounded(weights))[0] });
  assertEquals(value.shape, output.shape, name);
  assertClose(found.value, output.data, tolerance, name);
  for (const [key, gradient] of Object.entries(gradients)) {
    assertClose(found.gradients[key]!, gradient.data, tolerance, `${name}, gradient of ${key}`);
  }
}
