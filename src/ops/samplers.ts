/**
 * Random numbers by distribution. Each function consumes its key; equal keys and shapes draw equal numbers on every
 * device, under jit and under vmap.
 *
 * The numbers are JAX's, exactly for uniform, bernoulli, randomInt and permutation, and up to the rounding of log and
 * sqrt for the others.
 *
 * @module
 */
import { castTo, iota } from "../core/arithmetic.ts";
import type { DType } from "../core/dtype.ts";
import { DTypeError, expectNoProblems } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { normalizeAxis, type Shape } from "../core/shape.ts";
import { Tensor } from "../core/tensor.ts";
import { add, mul } from "./binary.ts";
import { less } from "./compare.ts";
import { erfInv, erfPrimitive } from "./error_function.ts";
import { argmax } from "./extremum.ts";
import { take } from "./gather.ts";
import { expectFloat } from "./operand.ts";
import { bitsFromWords, splitWords } from "./random_words.ts";
import { clamp, where } from "./select.ts";
import { slice } from "./slice.ts";
import { argsort } from "./sort.ts";
import { integerFromBits, uniformFromBits } from "./threefry.ts";
import { log, log1p, neg } from "./unary.ts";
import { broadcastTo } from "./view.ts";

/** Options of samplers of floats. */
export interface SamplerOptions {
  /** A float type, f32 by default. Half precision is drawn in f32 and rounded. */
  readonly dtype?: DType;
}

/** Options of {@linkcode uniform}. */
export interface UniformOptions extends SamplerOptions {
  /** Smallest value, 0 by default. */
  readonly min?: number;
  /** Value above all that are drawn, 1 by default. */
  readonly max?: number;
}

/** The smallest positive normal f32. */
const TINY = 2 ** -126;
/** The f32 after -1. */
const ABOVE_MINUS_ONE = -1 + 2 ** -24;

function uniformFromWords(op: string, words: Tensor, shape: Shape, min: number, max: number): Tensor {
  return uniformFromBits(bitsFromWords(op, words, shape), min, max);
}

/** Casts what was drawn in f32. */
function asFloat(op: string, drawn: Tensor, dtype: DType): Tensor {
  if (dtype === "f32" || dtype === "f16" || dtype === "bf16") return castTo(drawn, dtype);
  throw new DTypeError("dtype/sampler", {
    summary: `Cannot draw ${dtype} from ${op}: its values are fractions`,
    facts: [["op", `${op}(key, shape, { dtype })`]],
    fix: "use a float type, or randomInt for integers",
    details: { op, dtype },
  });
}

/**
 * Uniform random numbers in [min, max), multiples of 2^-23 before they are scaled.
 *
 * @throws {ConfigError} If `min` is not below `max`.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 *
 * @example Within bounds
 * ```ts
 * import { assert } from "@std/assert";
 * import { init, key, uniform } from "@switchyard/switchyard";
 *
 * await init();
 * const x = await uniform(key(0), [100], { min: 2, max: 3 }).data();
 * assert(x.every((value) => value >= 2 && value < 3));
 * ```
 */
export function uniform(key: Key, shape: Shape, options: UniformOptions = {}): Tensor {
  const { min = 0, max = 1, dtype = "f32" } = options;
  expectNoProblems("uniform", min < max ? [] : [["min", min, `must be below max, which is ${max}`]]);
  return asFloat("uniform", uniformFromWords("uniform", key.consume("uniform"), shape, min, max), dtype);
}

/**
 * Random numbers of the normal distribution with mean 0 and deviation 1.
 *
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 *
 * @example A key is a seed
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, key, normal } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals(await normal(key(3), [2, 2]).data(), await normal(key(3), [2, 2]).data());
 * ```
 */
export function normal(key: Key, shape: Shape, { dtype = "f32" }: SamplerOptions = {}): Tensor {
  const v = uniformFromWords("normal", key.consume("normal"), shape, ABOVE_MINUS_ONE, 1);
  return asFloat("normal", mul(erfInv(v), Math.SQRT2), dtype);
}

/** Options of {@linkcode truncatedNormal}. */
export interface TruncatedNormalOptions extends SamplerOptions {
  /** Values are above this, -2 by default. */
  readonly low?: number;
  /** Values are below this, 2 by default. */
  readonly high?: number;
}

/**
 * Random numbers of the normal distribution (mean 0, deviation 1) given that they lie strictly between two bounds.
 *
 * The bounds' probabilities are f32, so bounds beyond ±5 are as good as none.
 *
 * @throws {ConfigError} If `low` is not below `high`.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 */
export function truncatedNormal(key: Key, shape: Shape, options: TruncatedNormalOptions = {}): Tensor {
  const { low = -2, high = 2, dtype = "f32" } = options;
  expectNoProblems("truncatedNormal", low < high ? [] : [["low", low, `must be below high, which is ${high}`]]);
  const words = key.consume("truncatedNormal");
  const v = uniformFromWords("truncatedNormal", words, shape, erfOf(low / Math.SQRT2), erfOf(high / Math.SQRT2));
  return asFloat("truncatedNormal", clamp(mul(erfInv(v), Math.SQRT2), nextFloat(low, 1), nextFloat(high, -1)), dtype);
}

function erfOf(x: number): number {
  const [value] = erfPrimitive.host!([{ shape: [], dtype: "f32", data: Float64Array.of(x) }], null);
  return value!.data[0]!;
}

/** The f32 next to a number, upwards or downwards. */
function nextFloat(value: number, direction: 1 | -1): number {
  const start = Math.fround(value);
  if (start === 0) return direction * 2 ** -149;
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setFloat32(0, start);
  bytes.setUint32(0, bytes.getUint32(0) + direction * Math.sign(start));
  return bytes.getFloat32(0);
}

/** Options of {@linkcode bernoulli}. */
export interface BernoulliOptions {
  /** Probability of true, 0.5 by default; a tensor broadcasts to the shape. */
  readonly probability?: number | Tensor;
}

/**
 * Random booleans.
 *
 * @returns bool of the shape.
 * @throws {ConfigError} If a number is not in 0..1.
 * @throws {ShapeError} If a tensor of probabilities does not broadcast to the shape.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 */
export function bernoulli(key: Key, shape: Shape, { probability = 0.5 }: BernoulliOptions = {}): Tensor {
  const isNumber = !(probability instanceof Tensor);
  const isInvalid = isNumber && !(probability >= 0 && probability <= 1);
  expectNoProblems("bernoulli", isInvalid ? [["probability", probability, "must be from 0 to 1"]] : []);
  const drawn = uniformFromWords("bernoulli", key.consume("bernoulli"), shape, 0, 1);
  return less(drawn, isNumber ? probability : broadcastTo(castTo(probability, "f32"), shape));
}

/**
 * Random numbers of the standard Gumbel distribution: added to log-probabilities, they make the largest a sample.
 *
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 */
export function gumbel(key: Key, shape: Shape, { dtype = "f32" }: SamplerOptions = {}): Tensor {
  return asFloat("gumbel", gumbelFromWords("gumbel", key.consume("gumbel"), shape), dtype);
}

function gumbelFromWords(op: string, words: Tensor, shape: Shape): Tensor {
  const v = uniformFromWords(op, words, shape, TINY, 1);
  // WGSL's log has only an absolute accuracy near 1, where the logarithm is the small number wanted.
  const logarithm = where(less(v, 0.5), log(v), log1p(add(v, -1)));
  return neg(log(neg(logarithm)));
}

/** Options of {@linkcode categorical}. */
export interface CategoricalOptions {
  /** Axis of the categories, the last by default. */
  readonly axis?: number;
  /** Axes put in front of the result: so many independent samples from the same logits. */
  readonly sampleShape?: Shape;
}

/**
 * Draws categories with probabilities softmax(logits).
 *
 * Shapes: `logits` [..., C] -> [...sampleShape, ...]. Logits need not be normalized; one of -infinity is never drawn.
 *
 * @returns u32 indices of categories.
 * @throws {DTypeError} If the logits are not floats.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 *
 * @example A certain outcome
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { categorical, init, key, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const drawn = categorical(key(0), tensor([-Infinity, 0, -Infinity]), { sampleShape: [4] });
 * assertEquals([...await drawn.data()], [1, 1, 1, 1]);
 * ```
 */
export function categorical(key: Key, logits: Tensor, options: CategoricalOptions = {}): Tensor {
  const { axis = -1, sampleShape = [] } = options;
  const scores = castTo(expectFloat("categorical", logits), "f32");
  const at = normalizeAxis("categorical", axis, logits.shape.length);
  const noise = gumbelFromWords("categorical", key.consume("categorical"), [...sampleShape, ...logits.shape]);
  return argmax(add(noise, scores), { axis: sampleShape.length + at });
}

/** Options of {@linkcode randomInt}. */
export interface RandomIntOptions {
  /** Smallest value, 0 by default. */
  readonly min?: number;
  /** Value above all that are drawn. */
  readonly max: number;
  /** i32 (the default) or u32. */
  readonly dtype?: "i32" | "u32";
}

/**
 * Random integers in [min, max).
 *
 * Up to 2^16 values are as good as equally likely (a remainder of 64 bits); of more, some are favored by up to one part
 * in 2^32 / (max - min), as in JAX.
 *
 * @throws {ConfigError} If the bounds are not whole numbers of the type, or `min` is not below `max`.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 */
export function randomInt(key: Key, shape: Shape, { min = 0, max, dtype = "i32" }: RandomIntOptions): Tensor {
  const [least, most] = dtype === "i32" ? [-(2 ** 31), 2 ** 31] : [0, 2 ** 32];
  const requirement = `must be a whole number of ${dtype}`;
  const isValid = (value: number, high: number) => Number.isInteger(value) && value >= least && value <= high;
  expectNoProblems("randomInt", [
    ...(isValid(min, most - 1) ? [] : [["min", min, requirement] as const]),
    ...(isValid(max, most) ? [] : [["max", max, requirement] as const]),
    ...(min < max && max - min < 2 ** 32
      ? []
      : [["max", max, `must be above min, which is ${min}, by less than 2^32`] as const]),
  ]);
  const words = key.consume("randomInt");
  const pair = splitWords("randomInt", words, 2);
  const [high, low] = [0, 1].map((i) => bitsFromWords("randomInt", slice(pair, [i]), shape)) as [Tensor, Tensor];
  return integerFromBits(high, low, min, max, dtype);
}

/**
 * A random order: of the integers 0..n-1 for a number, of the entries along axis 0 for a tensor.
 *
 * @param x How many, or what to shuffle.
 * @returns u32[n], or a tensor like `x`.
 * @throws {KeyReuseError} If the key was consumed in the same traced function.
 */
export function permutation(key: Key, x: number | Tensor): Tensor {
  if (x instanceof Tensor) return take(x, permutation(key, x.shape[0] ?? 0), { axis: 0 });
  let words = key.consume("permutation");
  let order = iota([x], "u32", 0);
  // One sort by random bits is biased where bits tie; JAX repeats it until that is negligible.
  const rounds = Math.ceil(3 * Math.log(Math.max(1, x)) / Math.log(2 ** 32 - 1));
  for (let round = 0; round < rounds; round++) {
    const pair = splitWords("permutation", words, 2);
    words = slice(pair, [0]);
    order = take(order, argsort(bitsFromWords("permutation", slice(pair, [1]), [x])), { axis: 0 });
  }
  return order;
}
