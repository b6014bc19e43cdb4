/**
 * The small problems that optimizer tests share, and the optimizers they are run with.
 *
 * @module
 */
import type { Tensor } from "../../src/core/tensor.ts";
import { mul, sub } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { mean } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import {
  accumulate,
  adafactor,
  adam,
  adamw,
  chain,
  clipByGlobalNorm,
  cosineSchedule,
  freeze,
  type GradientTransform,
  masked,
  scale,
  sgd,
} from "../../src/optim/mod.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

/** Parameters with a matrix, a stack of experts, a vector, a scalar and a table that is not trained. */
export interface Params {
  /** [3, 5] */
  readonly matrix: Tensor;
  /** [2, 3, 4] */
  readonly layers: readonly { readonly experts: Tensor; readonly bias: Tensor }[];
  /** [] */
  readonly gain: Tensor;
  /** u32[3] */
  readonly table: Tensor;
}

/** Numbers that are neither equal nor zero, the same at every call. */
export function wave(shape: readonly number[], phase: number): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  const values = Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + phase) + 0.1);
  return tensor(values, { shape });
}

/** Fresh parameters. */
export function makeParams(phase = 0): Params {
  return {
    matrix: wave([3, 5], phase),
    layers: [{ experts: wave([2, 3, 4], phase + 1), bias: wave([1], phase + 2) }],
    gain: wave([], phase + 3),
    table: tensor([3, 0, 7], { dtype: "u32" }),
  };
}

/** Mean squared distance to other parameters, leaf by leaf, steeper in some leaves than in others. */
export function distance(params: Params, target: Params): Tensor {
  const parts = [
    mul(mean(square(sub(params.matrix, target.matrix))), 3),
    mean(square(sub(params.layers[0]!.experts, target.layers[0]!.experts))),
    mul(mean(square(sub(params.layers[0]!.bias, target.layers[0]!.bias))), 0.5),
    square(sub(params.gain, target.gain)),
  ];
  return parts.reduce((total, part) => sub(total, mul(part, -1)));
}

/** An optimizer that every optimizer test runs with. */
export interface Subject {
  /** For the test's name. */
  readonly name: string;
  /** Makes it. */
  readonly make: () => GradientTransform;
  /** Steps in which it must have come near the target. */
  readonly steps: number;
}

/** Every optimizer, with the options that change its structure. */
export const SUBJECTS: readonly Subject[] = [
  { name: "sgd", make: () => sgd({ learningRate: 0.5 }), steps: 80 },
  { name: "sgd with momentum", make: () => sgd({ learningRate: 0.1, momentum: 0.9 }), steps: 120 },
  { name: "sgd with nesterov", make: () => sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true }), steps: 120 },
  { name: "adam", make: () => adam({ learningRate: cosineSchedule({ peak: 0.2, steps: 100 }) }), steps: 100 },
  {
    name: "adamw after clipping, with a schedule",
    make: () =>
      chain(
        clipByGlobalNorm(1),
        adamw({ learningRate: cosineSchedule({ peak: 0.2, steps: 100, warmupSteps: 5 }), weightDecay: 1e-4 }),
      ),
    steps: 100,
  },
  {
    name: "adafactor",
    make: () =>
      adafactor({
        learningRate: cosineSchedule({ peak: 0.2, steps: 150 }),
        minFactoredSize: 2,
        multiplyByParameterScale: false,
      }),
    steps: 150,
  },
  {
    name: "adafactor with relative steps, momentum and decay",
    make: () =>
      adafactor({
        learningRate: cosineSchedule({ peak: 0.3, steps: 200 }),
        minFactoredSize: 2,
        momentum: 0.5,
        weightDecay: 1e-6,
      }),
    steps: 200,
  },
  { name: "accumulation", make: () => accumulate(2, sgd({ learningRate: 0.5 })), steps: 160 },
  {
    name: "masks",
    make: () => chain(masked(scale(2), (path) => path === ".matrix"), freeze(sgd({ learningRate: 0.25 }), () => false)),
    steps: 160,
  },
];

/** Registers a test on the oracle and on the adapter. */
export function everywhere(name: string, run: () => Promise<void>): void {
  oracleTest(name, run);
  gpuTest(name, run);
}
