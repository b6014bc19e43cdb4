/**
 * One call that checks an op against its definition: derivatives against differences, reverse against forward mode,
 * batches against a loop, and the kernels against the float64 oracle.
 *
 * @module
 */
import { read } from "../../src/core/realize.ts";
import { isFloat } from "../../src/core/dtype.ts";
import { jit } from "../../src/core/jit.ts";
import { jvp } from "../../src/core/jvp.ts";
import type { HostArray } from "../../src/core/primitive.ts";
import { currentRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { type InAxes, vmap } from "../../src/core/vmap.ts";
import { type RandomSource, randomSource } from "./random.ts";
import { gpuTest, oracleTest, withOracle } from "./runtimes.ts";
import { directionLike, drawInput, drawVariants, type InputSpec, moved, stackArrays, toTensorOf } from "./samples.ts";
import { assertClose, coarsest, type Tolerance, toleranceFor } from "./tolerance.ts";

export { fromGolden, type GoldenCase, goldenCases, type GoldenTensor, readGolden } from "./golden.ts";
export { type RandomSource, randomSource } from "./random.ts";
export { gpuAvailable, gpuTest, oracleTest, withGpu, withOracle } from "./runtimes.ts";
export type { InputSpec } from "./samples.ts";
export { assertClose, coarsest, EXACT, type Tolerance, toleranceFor } from "./tolerance.ts";

/** A function under test: positional tensors in, one tensor or several out. */
export type OpFunction = (...inputs: Tensor[]) => Tensor | readonly Tensor[];

/** One set of inputs. */
export interface OpSample {
  /** The inputs, in order. */
  readonly inputs: readonly InputSpec[];
  /** False leaves derivatives out, say at a kink. */
  readonly differentiable?: boolean;
}

/** An op and how to check it. */
export interface OpCheck {
  /** Name in test titles. */
  readonly name: string;
  /** The op. */
  readonly fn: OpFunction;
  /** Inputs to check it on; odd, unequal sizes find swapped axes. */
  readonly samples: readonly OpSample[];
  /** Allowed difference between kernel and oracle; by default that of the coarsest type involved. */
  readonly tolerance?: Tolerance;
}

type Several = (...inputs: Tensor[]) => readonly Tensor[];

const BATCH = 3;
/** Differences in float64: the truncation error is about STEP², the rounding error about 1e-16 / STEP. */
const STEP = 1e-5;
const NUMERIC: Tolerance = { relative: 1e-5, absolute: 1e-6 };
const ADJOINT: Tolerance = { relative: 1e-9, absolute: 1e-9 };
const SAME: Tolerance = { relative: 1e-11, absolute: 1e-11 };

/**
 * Registers tests that check an op: first and second derivatives and batching on the oracle, and where there is an
 * adapter its kernels (eager, under jit, their gradients, under vmap). Call it at the top level of a test file; inside
 * a test use {@linkcode checkOnOracle} and {@linkcode checkOnGpu}.
 */
export function checkOp(check: OpCheck): void {
  oracleTest(`${check.name}() has the derivatives and batches of its definition`, () => checkOnOracle(check));
  gpuTest(`${check.name}() has kernels that agree with its definition`, () => checkOnGpu(check));
}

/** Checks derivatives up to the second order, and vmap against a loop. The oracle must be installed. */
export async function checkOnOracle({ name, fn, samples }: OpCheck): Promise<void> {
  for (const [number, { inputs, differentiable = true }] of samples.entries()) {
    const label = `${name}, sample ${number}`;
    const random = randomSource(number + 1);
    const values = inputs.map((input) => drawInput(input, random));
    if (differentiable) await checkDerivatives(label, severally(fn), values, random);
    await checkBatches(label, severally(fn), inputs, random);
  }
}

/** Checks kernels against the oracle. The WebGPU runtime must be installed. */
export async function checkOnGpu({ name, fn, samples, tolerance }: OpCheck): Promise<void> {
  const { adapter } = currentRuntime("check kernels");
  for (const [number, { inputs, differentiable = true }] of samples.entries()) {
    // Not every adapter computes with f16; those that do check it.
    if (!adapter.f16 && inputs.some(({ dtype }) => dtype === "f16")) continue;
    const random = randomSource(number + 1);
    const values = inputs.map((input) => drawInput(input, random));
    const batch = inputs.map((input) => stackArrays(drawVariants(input, BATCH, random)));
    const f = severally(fn);
    const runs: [string, Several, readonly HostArray[]][] = [["", f, values]];
    if (inputs.length > 0) runs.push([", batched", vmap(f), batch]);
    if (differentiable) {
      const restricted = await withOracle(() => floatPart(f, values));
      if (restricted !== null) {
        const cotangents = restricted.outputs.map((output) => directionLike(output, random));
        runs.push([", gradient", backward(restricted.f, restricted.inputs.length), [
          ...restricted.inputs,
          ...cotangents,
        ]]);
      }
    }
    for (const [what, run, args] of runs) {
      const label = `${name}, sample ${number}${what}`;
      const expected = await withOracle(() => evaluate(run, args));
      await expectSame(`${label}, eager`, await evaluate(run, args), expected, args, tolerance);
      const compiled = jit(run, { name: `${name}Test` });
      await expectSame(`${label}, jit`, await evaluate(compiled, args), expected, args, tolerance);
    }
  }
}

function severally(fn: OpFunction): Several {
  return (...inputs) => {
    const result = fn(...inputs);
    return Array.isArray(result) ? result : [result as Tensor];
  };
}

async function evaluate(f: Several, values: readonly HostArray[]): Promise<readonly HostArray[]> {
  const outputs = f(...values.map(toTensorOf));
  const data = await read([...outputs]);
  return outputs.map(({ shape, dtype }, i) => ({ shape, dtype, data: Float64Array.from(data[i]! as Float32Array) }));
}

function expectSame(
  label: string,
  actual: readonly HostArray[],
  expected: readonly HostArray[],
  inputs: readonly HostArray[],
  tolerance?: Tolerance,
): void {
  expected.forEach((array, i) => {
    const place = expected.length > 1 ? `${label}, output ${i}` : label;
    if (String(actual[i]!.shape) !== String(array.shape) || actual[i]!.dtype !== array.dtype) {
      throw new Error(`${place}: ${actual[i]!.dtype}[${actual[i]!.shape}], expected ${array.dtype}[${array.shape}]`);
    }
    const types = isFloat(array.dtype) ? [array, ...inputs.filter(({ dtype }) => isFloat(dtype))] : [array];
    const allowed = isFloat(array.dtype) && tolerance || coarsest(types.map(({ dtype }) => toleranceFor(dtype)));
    assertClose(actual[i]!.data, array.data, allowed, place);
  });
}

/** A function of its float inputs and outputs alone, the others held fixed. */
interface FloatPart {
  readonly f: Several;
  readonly inputs: readonly HostArray[];
  readonly outputs: readonly HostArray[];
}

async function floatPart(f: Several, values: readonly HostArray[]): Promise<FloatPart | null> {
  const inputs = values.filter(({ dtype }) => isFloat(dtype));
  function restricted(...floats: Tensor[]): readonly Tensor[] {
    let next = 0;
    const all = values.map((value) => isFloat(value.dtype) ? floats[next++]! : toTensorOf(value));
    return f(...all).filter(({ dtype }) => isFloat(dtype));
  }
  const outputs = await evaluate(restricted, inputs);
  return inputs.length === 0 || outputs.length === 0 ? null : { f: restricted, inputs, outputs };
}

/** (inputs, cotangents) -> cotangents of the inputs. */
function backward(f: Several, count: number): Several {
  return (...args) => vjp(f, ...args.slice(0, count))[1](args.slice(count));
}

/** (inputs, tangents) -> tangents of the outputs. */
function forward(f: Several, count: number): Several {
  return (...args) => jvp(f, args.slice(0, count), args.slice(count))[1];
}

async function checkDerivatives(
  label: string,
  f: Several,
  values: readonly HostArray[],
  random: RandomSource,
): Promise<void> {
  const part = await floatPart(f, values);
  if (part === null) return;
  const { inputs, outputs } = part;
  const tangents = inputs.map((input) => directionLike(input, random));
  const cotangents = outputs.map((output) => directionLike(output, random));
  await checkFirstOrder(label, part.f, inputs, random);
  await checkFirstOrder(
    `${label}, second order by vjp`,
    backward(part.f, inputs.length),
    [...inputs, ...cotangents],
    random,
  );
  await checkFirstOrder(
    `${label}, second order by jvp`,
    forward(part.f, inputs.length),
    [...inputs, ...tangents],
    random,
  );
}

/** Compares jvp with central differences along a random direction, and vjp with jvp. */
async function checkFirstOrder(
  label: string,
  f: Several,
  inputs: readonly HostArray[],
  random: RandomSource,
): Promise<void> {
  const tangents = inputs.map((input) => directionLike(input, random));
  const above = await evaluate(f, inputs.map((input, i) => moved(input, tangents[i]!, STEP)));
  const below = await evaluate(f, inputs.map((input, i) => moved(input, tangents[i]!, -STEP)));
  const slopes = above.map((output, i) => output.data.map((value, k) => (value - below[i]!.data[k]!) / (2 * STEP)));
  const pushed = await evaluate(forward(f, inputs.length), [...inputs, ...tangents]);
  pushed.forEach((tangent, i) => assertClose(tangent.data, slopes[i]!, NUMERIC, `${label}, jvp of output ${i}`));

  const cotangents = pushed.map((tangent) => directionLike(tangent, random));
  const pulled = await evaluate(backward(f, inputs.length), [...inputs, ...cotangents]);
  assertClose([inner(pulled, tangents)], [inner(cotangents, pushed)], ADJOINT, `${label}, <vjp, v> against <ct, jvp>`);
}

function inner(a: readonly HostArray[], b: readonly HostArray[]): number {
  return a.reduce((sum, array, i) => array.data.reduce((total, value, k) => total + value * b[i]!.data[k]!, sum), 0);
}

/** Which inputs to map: every subset of up to three, else all together and each alone. */
function mappings(count: number): readonly (readonly boolean[])[] {
  const places = Array.from({ length: count }, (_, i) => i);
  if (count > 3) return [places.map(() => true), ...places.map((one) => places.map((i) => i === one))];
  return Array.from({ length: 2 ** count - 1 }, (_, bits) => places.map((i) => ((bits + 1) >> i) % 2 === 1));
}

async function checkBatches(
  label: string,
  f: Several,
  specs: readonly InputSpec[],
  random: RandomSource,
): Promise<void> {
  const variants = specs.map((spec) => drawVariants(spec, BATCH, random));
  for (const mapped of mappings(specs.length)) {
    const inAxes = mapped.map((isMapped): InAxes => isMapped ? 0 : null);
    const args = variants.map((versions, i) => mapped[i] ? stackArrays(versions) : versions[0]!);
    const together = await evaluate(vmap(f, inAxes), args);
    const one = Array.from(
      { length: BATCH },
      (_, b) => evaluate(f, variants.map((versions, i) => versions[mapped[i] ? b : 0]!)),
    );
    const apart = await Promise.all(one);
    together.forEach((output, i) => {
      const expected = stackArrays(apart.map((outputs) => outputs[i]!));
      const place = `${label}, vmap over inputs ${mapped.flatMap((isMapped, k) => isMapped ? [k] : [])}, output ${i}`;
      if (String(output.shape) !== String(expected.shape)) {
        throw new Error(`${place}: shape [${output.shape}], expected [${expected.shape}]`);
      }
      assertClose(output.data, expected.data, SAME, place);
    });
  }
}
