/**
 * What is asked of a random program: however it is run, differentiated, batched or compiled, it computes what the
 * float64 oracle computes, up to the rounding that the oracle itself shows to matter.
 *
 * @module
 */
import { bytesPerElement, isFloat } from "../../../src/core/dtype.ts";
import { jit } from "../../../src/core/jit.ts";
import type { HostArray } from "../../../src/core/primitive.ts";
import { read } from "../../../src/core/realize.ts";
import { installRuntime, type Runtime } from "../../../src/core/runtime.ts";
import type { Tensor } from "../../../src/core/tensor.ts";
import { vjp } from "../../../src/core/vjp.ts";
import { vmap } from "../../../src/core/vmap.ts";
import { tensor } from "../../../src/ops/mod.ts";
import { withOracle } from "../../support/runtimes.ts";
import { stackArrays } from "../../support/samples.ts";
import { assertClose, coarsest, EXACT, toleranceFor } from "../../support/tolerance.ts";
import { drawArguments, interpret, type Noise, type RandomProgram, toTensors } from "./random_program.ts";

/** The runtimes a program must agree on. */
export interface FuzzRuntimes {
  /** As users have it. */
  readonly fused: Runtime;
  /** Every value stored. */
  readonly unfused: Runtime;
  /** With few buffers for a kernel. */
  readonly narrow: Runtime;
  /** With kernels laid out for a GPU. */
  readonly hardware: Runtime;
  /** With bindings that show less than the larger tensors. */
  readonly windowed: Runtime;
  /** Each without one step of fusion; a program meets one of them. */
  readonly partial: readonly Runtime[];
}

/** A runtime, and how a failure names it. */
type Way = readonly [where: string, runtime: Runtime];
type Several = (...args: Tensor[]) => readonly Tensor[];
type Meaning = (noise?: Noise) => Several;

/** How many times the oracle's own reaction to noise a result may be off. */
const ROUNDING = 12;
const NOISES: readonly Noise[] = [{ seed: 1 }, { seed: 1001 }];
const BATCH = 3;

async function evaluate(f: Several, args: readonly HostArray[]): Promise<HostArray[]> {
  const outputs = f(...toTensors(args));
  const data = await read([...outputs]);
  return outputs.map(({ shape, dtype }, i) => ({ shape, dtype, data: Float64Array.from(data[i]! as Float32Array) }));
}

async function on<T>(runtime: Runtime, run: () => Promise<T>): Promise<T> {
  const previous = installRuntime(runtime);
  try {
    return await run();
  } finally {
    installRuntime(previous);
  }
}

/** What the oracle computes, and how much each output moves when what leads to it is rounded. */
interface Expected {
  readonly outputs: readonly HostArray[];
  readonly slack: readonly number[];
}

async function expect(meaning: Meaning, args: readonly HostArray[]): Promise<Expected> {
  return await withOracle(async () => {
    const outputs = await evaluate(meaning(), args);
    const slack = outputs.map(() => 0);
    for (const noise of NOISES) {
      const disturbed = await evaluate(meaning(noise), args);
      outputs.forEach(({ data }, i) =>
        data.forEach((value, k) => {
          const moved = Math.abs(value - disturbed[i]!.data[k]!);
          if (moved > slack[i]!) slack[i] = moved;
        })
      );
    }
    return { outputs, slack };
  });
}

function expectSame(
  label: string,
  actual: readonly HostArray[],
  { outputs, slack }: Expected,
  types: readonly HostArray[],
): void {
  outputs.forEach((array, i) => {
    const found = actual[i]!;
    if (String(found.shape) !== String(array.shape) || found.dtype !== array.dtype) {
      throw new Error(
        `${label}: output ${i} is ${found.dtype}[${found.shape}], expected ${array.dtype}[${array.shape}]`,
      );
    }
    if (!isFloat(array.dtype)) return assertClose(found.data, array.data, EXACT, `${label}, output ${i}`);
    const { relative, absolute } = coarsest(
      [array, ...types.filter(({ dtype }) => isFloat(dtype))].map(({ dtype }) => toleranceFor(dtype)),
    );
    assertClose(
      found.data,
      array.data,
      { relative, absolute: absolute + ROUNDING * slack[i]! },
      `${label}, output ${i}`,
    );
  });
}

/** (floats, cotangents) -> gradients; arguments without derivative are held. */
function backward(
  f: Several,
  args: readonly HostArray[],
): { readonly f: Several; readonly args: readonly HostArray[] } {
  const floats = args.filter(({ dtype }) => isFloat(dtype));
  function restricted(...given: Tensor[]): readonly Tensor[] {
    let next = 0;
    const all = args.map((arg) =>
      isFloat(arg.dtype) ? given[next++]! : tensor(arg.data, { shape: arg.shape, dtype: arg.dtype })
    );
    return f(...all).filter(({ dtype }) => isFloat(dtype));
  }
  function gradients(...given: Tensor[]): readonly Tensor[] {
    const [outputs, pull] = vjp(restricted, ...given);
    const weights = outputs.map(({ shape, dtype, size }, i) =>
      tensor(Float64Array.from({ length: size }, (_, k) => ((k * 7 + i * 3) % 9 - 4) / 4), { shape, dtype })
    );
    return pull(weights);
  }
  return { f: gradients, args: floats };
}

/** Arguments whose buffers results can take over: each needs a result of its size. */
function donatable(args: readonly HostArray[], outputs: readonly HostArray[]): number[] {
  const bytes = ({ data, dtype }: HostArray) => data.length * bytesPerElement(dtype);
  const left = outputs.map(bytes);
  return args.flatMap((arg, i) => {
    const at = left.indexOf(bytes(arg));
    if (at < 0) return [];
    left.splice(at, 1);
    return [i];
  });
}

/**
 * Checks one program in every way.
 *
 * @param turn Chooses which step of fusion is left out in one of them, and where a few other checks run.
 */
export async function checkProgram(program: RandomProgram, runtimes: FuzzRuntimes, turn: number): Promise<void> {
  const { fused, unfused, narrow, hardware, windowed } = runtimes;
  const step = turn % runtimes.partial.length;
  const partial = runtimes.partial[step]!;
  const args = drawArguments(program);
  const meaning: Meaning = (noise) => (...tensors) => interpret(program, tensors, noise === undefined ? {} : { noise });
  const f = meaning();
  const expected = await expect(meaning, args);
  const types = [...args, ...expected.outputs];

  expectSame("eager", await on(fused, () => evaluate(f, args)), expected, types);
  const compiled = await on(fused, () => evaluate(jit(f, { name: "fuzz" }), args));
  expectSame("jit", compiled, expected, types);
  expectSame("jit without fusion", await on(unfused, () => evaluate(jit(f, { name: "fuzz" }), args)), expected, types);
  expectSame("jit with few buffers", await on(narrow, () => evaluate(jit(f, { name: "fuzz" }), args)), expected, types);
  expectSame("jit in windows", await on(windowed, () => evaluate(jit(f, { name: "fuzz" }), args)), expected, types);

  expectSame("jit for a GPU", await on(hardware, () => evaluate(jit(f, { name: "fuzz" }), args)), expected, types);
  expectSame(
    `jit without step ${step} of fusion`,
    await on(partial, () => evaluate(jit(f, { name: "fuzz" }), args)),
    expected,
    types,
  );

  const donate = donatable(args, expected.outputs);
  // Where results take over arguments, what else differs shows as well.
  const elsewhere: readonly Way[] = [["in windows", windowed], ["for a GPU", hardware], ["with few buffers", narrow]];
  for (const [where, runtime] of [["", fused], elsewhere[turn % elsewhere.length]!] as readonly Way[]) {
    const kept = runtime === fused ? compiled : await on(runtime, () => evaluate(jit(f, { name: "fuzz" }), args));
    const donating = jit(f, { name: "fuzz", donate });
    for (const round of [1, 2]) {
      const donated = await on(runtime, () => evaluate(donating, args));
      donated.forEach(({ data }, i) =>
        assertClose(data, kept[i]!.data, EXACT, `jit donating [${donate}] ${where}, round ${round}, output ${i}`)
      );
    }
  }

  const floats = backward(f, args).args;
  if (floats.length > 0) {
    const gradient: Meaning = (noise) => backward(meaning(noise), args).f;
    const slopes = await expect(gradient, floats);
    const ways: readonly Way[] = [
      ["", fused],
      [`without step ${step} of fusion`, partial],
      ["in windows", windowed],
      ["with few buffers", narrow],
      turn % 2 === 0 ? ["for a GPU", hardware] : ["without fusion", unfused],
    ];
    for (const [where, runtime] of ways) {
      const found = await on(runtime, () => evaluate(jit(gradient(), { name: "fuzzGradient" }), floats));
      expectSame(`gradient ${where}`, found, slopes, types);
    }
  }

  const batch = args.map((arg) => stackArrays(Array.from({ length: BATCH }, (_, turn) => rotated(arg, turn))));
  const batched: Meaning = (noise) => vmap(meaning(noise)) as Several;
  expectSame(
    "vmap",
    await on(fused, () => evaluate(jit(batched(), { name: "fuzzBatch" }), batch)),
    await expect(batched, batch),
    types,
  );
}

function rotated(array: HostArray, turn: number): HostArray {
  return { ...array, data: array.data.map((_, i) => array.data[(i + turn) % array.data.length]!) };
}
