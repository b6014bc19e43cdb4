/**
 * Experts with random parameters and a routing given token by token, and the naive loop over tokens and their experts
 * that says what the fused op has to return.
 *
 * @module
 */
import { fullLike } from "../../../src/core/arithmetic.ts";
import { sizeOf } from "../../../src/core/shape.ts";
import type { Tensor } from "../../../src/core/tensor.ts";
import { vjp } from "../../../src/core/vjp.ts";
import { tensor } from "../../../src/ops/creation.ts";
import { execute, type ExecuteOptions, type ExpertParams } from "../../../src/routing/execute.ts";
import { planFromAssignments, planFromTopK } from "../../../src/routing/plan.ts";
import type { DispatchPlan } from "../../../src/routing/plan_types.ts";
import { type RandomSource, randomSource } from "../../support/random.ts";

/** Sizes and body of a case. */
export interface ExpertCase extends ExecuteOptions {
  /** Experts of each token, best first; a number from `experts` up is no choice. */
  readonly choices: readonly (readonly number[])[];
  /** Number of experts. */
  readonly experts: number;
  /** D. */
  readonly width: number;
  /** F. */
  readonly inner: number;
  /** Which biases there are, none by default. */
  readonly biases?: readonly ("upBias" | "downBias" | "gateBias")[];
  /** Where the weight applies, `"output"` by default. */
  readonly scaleAt?: "output" | "input";
}

/** Random numbers of a case by operand. */
export interface CaseValues {
  /** [T, D]. */
  readonly hidden: Float32Array;
  /** By assignment. */
  readonly weight: Float32Array;
  /** Parameters by name. */
  readonly params: Readonly<Record<string, Float32Array>>;
}

/** Draws `k` different experts for each token; `share` of the choices, in turn, become no choice. */
export function randomChoices(
  { tokens, k, experts, drop = 0, seed = 1 }: {
    readonly tokens: number;
    readonly k: number;
    readonly experts: number;
    readonly drop?: number;
    readonly seed?: number;
  },
): number[][] {
  const random = randomSource(seed);
  return Array.from({ length: tokens }, () => {
    const pool = Array.from({ length: experts }, (_, e) => e);
    return Array.from({ length: k }, () => {
      const [expert] = pool.splice(random.integer(0, pool.length), 1);
      return random.uniform() < drop ? experts : expert ?? experts;
    });
  });
}

function paramShapes({ experts, width, inner, body, biases = [] }: ExpertCase): Record<string, number[]> {
  const all: Record<string, number[]> = { up: [experts, width, inner], down: [experts, inner, width] };
  if (body === "glu") all.gate = [experts, width, inner];
  const bias = { upBias: [experts, inner], downBias: [experts, width], gateBias: [experts, inner] };
  for (const name of biases) all[name] = bias[name];
  return all;
}

/** Draws the numbers of a case; activations stay of order 1 for every size. */
export function drawValues(one: ExpertCase, seed = 7): CaseValues {
  const random = randomSource(seed);
  const { choices, width, inner } = one;
  const draw = (count: number, scale: number) =>
    Float32Array.from({ length: count }, () => scale * random.uniform(-1, 1));
  const scale: Readonly<Record<string, number>> = {
    up: 2 / Math.sqrt(width),
    gate: 2 / Math.sqrt(width),
    down: 2 / Math.sqrt(inner),
  };
  const params = Object.entries(paramShapes(one)).map(([name, shape]) => [name, draw(sizeOf(shape), scale[name] ?? 1)]);
  return {
    hidden: draw(choices.length * width, 2),
    weight: draw(choices.flat().length, 1),
    params: Object.fromEntries(params),
  };
}

/** Tensors of a case: everything that has a gradient, by name. */
export interface CaseTensors {
  readonly hidden: Tensor;
  readonly weight: Tensor;
  readonly params: ExpertParams;
}

/** Makes the tensors. */
export function caseTensors(one: ExpertCase, { hidden, weight, params }: CaseValues): CaseTensors {
  const { choices, width } = one;
  const shapes = paramShapes(one);
  const tensors = Object.entries(params).map(([name, data]) => [name, tensor(data, { shape: shapes[name]! })]);
  return {
    hidden: tensor(hidden, { shape: [choices.length, width] }),
    weight: tensor(weight),
    params: Object.fromEntries(tensors) as ExpertParams,
  };
}

/** Makes the plan, with `weight` as its weights: as a fixed number of choices, or by offsets if tokens differ in it. */
export function casePlan({ choices, experts, scaleAt = "output" }: ExpertCase, weight: Tensor): DispatchPlan {
  const k = choices[0]!.length;
  const flat = tensor(Uint32Array.from(choices.flat()), { dtype: "u32" });
  // Dropped weights are kept as they are, so that a kernel that reads them would be found out.
  if (choices.every((own) => own.length === k)) {
    const indices = tensor(Uint32Array.from(choices.flat()), { dtype: "u32", shape: [choices.length, k] });
    const plan = planFromTopK({ experts, indices, weights: fullLike([choices.length, k], "f32", 1), scaleAt });
    return { ...plan, weight };
  }
  const offsets = [0];
  for (const own of choices) offsets.push(offsets.at(-1)! + own.length);
  const tokenOffsets = tensor(offsets, { dtype: "u32" });
  return {
    ...planFromAssignments({ experts, indices: flat, weights: fullLike(flat.shape, "f32", 1), tokenOffsets, scaleAt }),
    weight,
  };
}

/** The options of `execute` that a case names. */
export function caseOptions({ activation, body, preactivations }: ExpertCase): ExecuteOptions {
  return {
    ...(activation === undefined ? {} : { activation }),
    ...(body === undefined ? {} : { body }),
    ...(preactivations === undefined ? {} : { preactivations }),
  };
}

/** The fused op on a case. */
export function executeCase(one: ExpertCase, { hidden, weight, params }: CaseTensors): Tensor {
  return execute(casePlan(one, weight), hidden, params, caseOptions(one));
}

/** The result on random numbers, and the gradient of every operand by name for a random cotangent; nothing computed yet. */
export function caseGradients(one: ExpertCase): Readonly<Record<string, Tensor>> {
  const [out, pull] = vjp((own: CaseTensors) => executeCase(one, own), caseTensors(one, drawValues(one)));
  const [{ hidden, weight, params }] = pull(drawCotangent(one));
  return { out, hidden, weight, ...params };
}

const ACTIVATIONS = {
  relu: (z: number) => Math.max(z, 0),
  silu: (z: number) => z / (1 + Math.exp(-z)),
  gelu: (z: number) => 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3))),
};

/** The result by a loop over tokens and their experts, in float64. */
export function naiveExecute(one: ExpertCase, { hidden, weight, params }: CaseValues): Float64Array {
  const { choices, experts, width, inner, activation = "gelu", body = "ffn", scaleAt = "output" } = one;
  const act = ACTIVATIONS[activation];
  const out = new Float64Array(choices.length * width);
  function product(name: string, x: ArrayLike<number>, expert: number, [rows, columns]: readonly [number, number]) {
    const bias = params[`${name}Bias`];
    return Float64Array.from({ length: columns }, (_, j) => {
      let sum = bias?.[expert * columns + j] ?? 0;
      for (let i = 0; i < rows; i++) sum += x[i]! * params[name]![(expert * rows + i) * columns + j]!;
      return sum;
    });
  }
  let assignment = 0;
  choices.forEach((own, token) => {
    for (const expert of own) {
      const w = weight[assignment++]!;
      if (expert >= experts) continue;
      const [inside, outside] = scaleAt === "input" ? [w, 1] : [1, w];
      const x = Float64Array.from(hidden.subarray(token * width, (token + 1) * width), (v) => inside * v);
      const up = product("up", x, expert, [width, inner]);
      const gate = body === "glu" ? product("gate", x, expert, [width, inner]) : null;
      const h = up.map((u, j) => gate === null ? act(u) : act(gate[j]!) * u);
      product("down", h, expert, [inner, width]).forEach((y, j) => out[token * width + j]! += outside * y);
    }
  });
  return out;
}

/** A random cotangent of the result. */
export function drawCotangent({ choices, width }: ExpertCase, random: RandomSource = randomSource(3)): Tensor {
  const data = Float32Array.from({ length: choices.length * width }, () => random.uniform(-1, 1));
  return tensor(data, { shape: [choices.length, width] });
}
