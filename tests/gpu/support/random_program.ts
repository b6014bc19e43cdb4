/**
 * Random programs: a list of instructions that any shrinking leaves valid, what it means as a function of tensors, and
 * how it reads.
 *
 * @module
 */
import * as fc from "fast-check";
import { type DType, isFloat } from "../../../src/core/dtype.ts";
import type { HostArray } from "../../../src/core/primitive.ts";
import { formatAval, sizeOf } from "../../../src/core/shape.ts";
import { fromHost, type Tensor } from "../../../src/core/tensor.ts";
import { mul, tensor } from "../../../src/ops/mod.ts";
import { randomSource } from "../../support/random.ts";
import { KERNEL_OPS } from "./fuzz_kernels.ts";
import { FUSED_OPS } from "./fuzz_ops.ts";
import type { Draw, FuzzOp, FuzzValue } from "./fuzz_values.ts";

/** Every op by name. */
const FUZZ_OPS: Readonly<Record<string, FuzzOp>> = { ...FUSED_OPS, ...KERNEL_OPS };

/** One argument of a random program. */
export interface InputDraw {
  /** Its shape. */
  readonly shape: readonly number[];
  /** Its type. */
  readonly dtype: DType;
}

/** One instruction: an op, which earlier values it reads, and numbers that settle its options. */
export interface Instruction {
  /** Name of an op. */
  readonly op: string;
  /** First operand, modulo the number of values. */
  readonly x: number;
  /** Second operand. */
  readonly y: number;
  /** Seed of its options. */
  readonly options: number;
}

/** A random program. */
export interface RandomProgram {
  /** Arguments. */
  readonly inputs: readonly InputDraw[];
  /** Instructions; those that do not fit their operands are skipped. */
  readonly instructions: readonly Instruction[];
  /** Values returned, modulo their number; may repeat, and may be arguments. */
  readonly outputs: readonly number[];
  /** Seed of the arguments' elements. */
  readonly seed: number;
}

/** What makes inexact values a little wrong, to learn how much the results depend on rounding. */
export interface Noise {
  /** Seed of the errors. */
  readonly seed: number;
}

/** Sizes that meet the compiler's cases: odd tails, whole vec4s, rows by the dozen, ones, and now and then nothing. */
const SIZES = [1, 2, 3, 4, 5, 7, 8, 12, 33, 36];
const EMPTY_SHARE = 40;

const sizeDraw: fc.Arbitrary<number> = fc.oneof(
  { weight: EMPTY_SHARE, arbitrary: fc.constantFrom(...SIZES) },
  { weight: 1, arbitrary: fc.constant(0) },
);
const inputDraw: fc.Arbitrary<InputDraw> = fc.record({
  shape: fc.array(sizeDraw, { maxLength: 4 }).filter((shape) => sizeOf(shape) <= 1500),
  dtype: fc.oneof(
    { weight: 5, arbitrary: fc.constant<DType>("f32") },
    { weight: 3, arbitrary: fc.constantFrom<DType>("f16", "bf16", "i32", "u32", "bool") },
  ),
});
const instructionDraw: fc.Arbitrary<Instruction> = fc.record({
  op: fc.constantFrom(...Object.keys(FUZZ_OPS)),
  x: fc.nat(30),
  y: fc.nat(30),
  options: fc.nat(9999),
});

/** Draws random programs. */
export const randomPrograms: fc.Arbitrary<RandomProgram> = fc.record({
  inputs: fc.array(inputDraw, { minLength: 1, maxLength: 4 }),
  instructions: fc.array(instructionDraw, { minLength: 1, maxLength: 16 }),
  outputs: fc.array(fc.nat(30), { minLength: 1, maxLength: 4 }),
  seed: fc.nat(9999),
});

/** Elements of an argument: eighths for floats, small whole numbers else, so that every type holds them exactly. */
export function drawArguments({ inputs, seed }: RandomProgram): readonly HostArray[] {
  const random = randomSource(seed);
  return inputs.map(({ shape, dtype }) => ({
    shape,
    dtype,
    data: Float64Array.from({ length: sizeOf(shape) }, () => {
      if (isFloat(dtype)) return random.integer(-16, 17) / 8;
      return dtype === "bool" ? random.integer(0, 2) : random.integer(dtype === "i32" ? -4 : 0, 5);
    }),
  }));
}

/** Arguments as tensors. */
export function toTensors(args: readonly HostArray[]): Tensor[] {
  return args.map(({ data, shape, dtype }) => tensor(data, { shape, dtype }));
}

/** Rounding of a stored value: half a unit in the last place, twice that for what is computed before. */
const NOISE: Readonly<Partial<Record<DType, number>>> = { f32: 2 ** -22, f16: 2 ** -11, bf16: 2 ** -8 };
/** Values with larger elements are scaled down. */
const MAX_BOUND = 32;

function disturb({ tensor: x, exact, bound }: FuzzValue, seed: number): FuzzValue {
  const size = NOISE[x.dtype];
  if (exact || size === undefined) return { tensor: x, exact, bound };
  const random = randomSource(seed);
  const factors = Float64Array.from({ length: x.size }, () => 1 + size * random.uniform(-1, 1));
  return { tensor: mul(x, fromHost({ shape: x.shape, dtype: x.dtype }, factors)), exact, bound };
}

/** Runs a program's instructions on tensors; `print` hears each value. */
export function interpret(
  program: RandomProgram,
  args: readonly Tensor[],
  { noise, print }: { readonly noise?: Noise; readonly print?: (line: string) => void } = {},
): readonly Tensor[] {
  const values: FuzzValue[] = args.map((argument) => ({ tensor: argument, exact: true, bound: 4 }));
  args.forEach((argument, i) => print?.(`%${i} = argument ${i}  ${formatAval(argument)}`));
  for (const { op, x, y, options } of program.instructions) {
    const random = randomSource(options);
    const draw: Draw = (count) => random.integer(0, count);
    const [left, right] = [x % values.length, y % values.length];
    const found = FUZZ_OPS[op]!(values[left]!, values[right]!, draw);
    if (found === null) continue;
    let { value } = found;
    if (value.bound > MAX_BOUND && isFloat(value.tensor.dtype)) {
      value = { tensor: mul(value.tensor, 4 / value.bound), bound: 4, exact: false };
    }
    if (noise !== undefined) value = disturb(value, noise.seed + values.length);
    print?.(`%${values.length} = ${op}(%${left}, %${right}) ${found.text}  ${formatAval(value.tensor)}`);
    values.push(value);
  }
  const outputs = program.outputs.map((output) => output % values.length);
  print?.(`return ${[...outputs, values.length - 1].map((output) => `%${output}`).join(", ")}`);
  return [...outputs, values.length - 1].map((output) => values[output]!.tensor);
}

/** A program as text, one value a line. */
export function describeProgram(program: RandomProgram): string {
  const lines: string[] = [];
  interpret(program, toTensors(drawArguments(program)), { print: (line) => lines.push(`  ${line}`) });
  return [...lines, `  elements drawn with seed ${program.seed}`].join("\n");
}
