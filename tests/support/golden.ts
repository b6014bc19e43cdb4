/**
 * Reading the reference values under `tests/golden`.
 *
 * @module
 */
import type { DType } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor } from "../../src/ops/creation.ts";

/** A tensor as the fixtures store it. */
export interface GoldenTensor {
  /** Element type. */
  readonly dtype: DType;
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** Elements in row-major order. */
  readonly data: readonly number[];
}

/** One differentiated operation of `ops.json`: gradients are those of sum(output · weights). */
export interface GoldenCase {
  /** What the case shows. */
  readonly name: string;
  /** The operation. */
  readonly op: string;
  /** Its options. */
  // deno-lint-ignore no-explicit-any -- every op has its own
  readonly options: any;
  /** Arguments by name, in order. */
  readonly inputs: Readonly<Record<string, GoldenTensor>>;
  /** Cotangent of the output. */
  readonly weights: GoldenTensor;
  /** Expected value. */
  readonly output: GoldenTensor;
  /** Expected gradients, by the name of the argument. */
  readonly gradients: Readonly<Record<string, GoldenTensor>>;
}

/** Reads a fixture file. */
export async function readGolden<T>(file: string): Promise<T> {
  return JSON.parse(await Deno.readTextFile(new URL(`../golden/${file}`, import.meta.url))) as T;
}

/** The cases of one op in `ops.json`. */
export async function goldenCases(op: string): Promise<readonly GoldenCase[]> {
  const { cases } = await readGolden<{ readonly cases: readonly GoldenCase[] }>("ops.json");
  return cases.filter((one) => one.op === op);
}

/** Makes the tensor a fixture describes; floats keep their float64 value on the oracle. */
export function fromGolden({ dtype, shape, data }: GoldenTensor): Tensor {
  return tensor(Float64Array.from(data), { dtype, shape });
}
