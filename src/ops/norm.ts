/**
 * Layer and root-mean-square normalization over the last axis. Forward and backward are row-wise expressions of the
 * input: the backward pass recomputes the statistics, which is cheaper than keeping what it would need.
 *
 * @module
 */
import { castTo, reshapeTo, sumOver } from "../core/arithmetic.ts";
import { expectNoProblems, ShapeError } from "../core/errors.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, formatAval } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { spread } from "../core/vmap.ts";
import { add, mul, sub } from "./binary.ts";
import { expectFloat } from "./operand.ts";
import { mean } from "./reduce.ts";
import { rsqrt, square } from "./unary.ts";

/** What is subtracted and what is divided by: layer norm centers rows, rms norm only scales them. */
type Kind = "layerNorm" | "rmsNorm";

interface NormAttrs {
  readonly kind: Kind;
  readonly epsilon: number;
  /** Which optional inputs follow x, in this order. */
  readonly params: readonly ("scale" | "bias")[];
}

const ROW = { axis: -1, keepDims: true } as const;

/** Rows of mean square 1 (of mean 0 too for layer norm), and the factor that made them so. */
function normalizedRows(
  x: Tensor,
  { kind, epsilon }: NormAttrs,
): { readonly normed: Tensor; readonly inverse: Tensor } {
  // Two passes: the difference of two large sums would lose the variance of a nearly constant row.
  const centered = kind === "layerNorm" ? sub(x, mean(x, ROW)) : x;
  const inverse = rsqrt(add(mean(square(centered), ROW), epsilon));
  return { normed: mul(centered, inverse), inverse };
}

function paramsOf(
  inputs: readonly Tensor[],
  { params }: NormAttrs,
): { readonly scale?: Tensor; readonly bias?: Tensor } {
  return Object.fromEntries(params.map((name, i) => [name, inputs[i + 1]!]));
}

function withParams(normed: Tensor, { scale, bias }: { readonly scale?: Tensor; readonly bias?: Tensor }): Tensor {
  const scaled = scale ? mul(normed, scale) : normed;
  return bias ? add(scaled, bias) : scaled;
}

function shapeRule([x, ...params]: readonly Aval[], { kind, params: names }: NormAttrs): readonly Aval[] {
  const width = x!.shape.at(-1);
  const wrong = params.findIndex(({ shape }) => shape.length !== 1 || shape[0] !== width);
  if (width !== undefined && wrong < 0) return [x!];
  throw new ShapeError("shape/norm", {
    summary: width === undefined
      ? `Cannot normalize a scalar`
      : `Cannot normalize rows of ${width}: ${names[wrong]} is ${formatAval(params[wrong]!)}`,
    facts: [["op", `${kind}(x, { ${["scale", ...(kind === "layerNorm" ? ["bias"] : [])].join(", ")} })`], [
      "x",
      formatAval(x!),
    ]],
    fix: width === undefined ? "give it at least one axis" : `${names[wrong]} should be [${width}]`,
    details: { x: x!.shape },
  });
}

/** Primitive behind {@linkcode layerNorm} and {@linkcode rmsNorm}, for f32: x [..., D], then scale [D] and bias [D] if present. */
export const normPrimitive: Primitive = definePrimitive<NormAttrs>({
  name: "norm",
  kind: "composite",
  shape: shapeRule,
  expand: (inputs, attrs) => [withParams(normalizedRows(inputs[0]!, attrs).normed, paramsOf(inputs, attrs))],
  vjp([ct], inputs, _, attrs) {
    const { normed, inverse } = normalizedRows(inputs[0]!, attrs);
    const { scale } = paramsOf(inputs, attrs);
    const pulled = scale ? mul(ct!, scale) : ct!;
    const across = sub(pulled, mul(normed, mean(mul(pulled, normed), ROW)));
    // Normalized rows have mean 0, so centering last equals centering `pulled`, and keeps to one chain of reductions.
    const centered = attrs.kind === "layerNorm" ? sub(across, mean(across, ROW)) : across;
    const leading = ct!.shape.slice(0, -1).map((_, axis) => axis);
    const pulledParams = { scale: () => sumOver(mul(ct!, normed), leading), bias: () => sumOver(ct!, leading) };
    return [mul(inverse, centered), ...attrs.params.map((name) => pulledParams[name]())];
  },
  batch(inputs, [isMapped, ...mapped], attrs, batchSize) {
    const x = isMapped ? inputs[0]! : spread(inputs[0]!, batchSize);
    if (!mapped.includes(true)) return [apply(normPrimitive, [x, ...inputs.slice(1)], attrs)];
    const spaced = inputs.slice(1).map((param, i) =>
      mapped[i] ? reshapeTo(param, [batchSize, ...x.shape.slice(2).map(() => 1), x.shape.at(-1)!]) : param
    );
    return [withParams(apply(normPrimitive, [x], { ...attrs, params: [] }), paramsOf([x, ...spaced], attrs))];
  },
  lower: { as: "inline" },
});

function normalize(
  kind: Kind,
  x: Tensor,
  given: { readonly scale?: Tensor | undefined; readonly bias?: Tensor | undefined },
  epsilon: number,
): Tensor {
  expectNoProblems(kind, epsilon >= 0 ? [] : [["epsilon", epsilon, "must be at least 0"]]);
  const params = (["scale", "bias"] as const).filter((name) => given[name] !== undefined);
  const inputs = [x, ...params.map((name) => given[name]!)].map((input) => castTo(expectFloat(kind, input), "f32"));
  return castTo(apply(normPrimitive, inputs, { kind, epsilon, params } satisfies NormAttrs), x.dtype);
}

/** Options of {@linkcode rmsNorm}. */
export interface RmsNormOptions {
  /** Factor of each element of a row, [D]. */
  readonly scale?: Tensor;
  /** Added to the mean square, 1e-6 by default. */
  readonly epsilon?: number;
}

/** Options of {@linkcode layerNorm}. */
export interface LayerNormOptions {
  /** Factor of each element of a row, [D]. */
  readonly scale?: Tensor;
  /** Added to each element of a row, [D]. */
  readonly bias?: Tensor;
  /** Added to the variance, 1e-5 by default. */
  readonly epsilon?: number;
}

/**
 * Gives every row (last axis) mean 0 and variance 1, then scales and shifts it.
 *
 * Shapes: `x` [..., D] -> [..., D]. Computed in f32 for every float type and rounded to that of `x` once. The variance
 * divides by D. A constant row gives the bias.
 *
 * @returns A tensor like `x`.
 * @throws {ShapeError} If `x` is a scalar, or `scale` or `bias` is not [D].
 * @throws {DTypeError} If a tensor is not of floats.
 *
 * @example Two elements
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, layerNorm, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const normed = layerNorm(tensor([[1, 3], [10, 30]]), { epsilon: 0 });
 * assertEquals([...await normed.data()].map(Math.round), [-1, 1, -1, 1]);
 * ```
 */
export function layerNorm(x: Tensor, { scale, bias, epsilon = 1e-5 }: LayerNormOptions = {}): Tensor {
  return normalize("layerNorm", x, { scale, bias }, epsilon);
}

/**
 * Divides every row (last axis) by the root of its mean square, then scales it.
 *
 * Shapes: `x` [..., D] -> [..., D]. Computed in f32 for every float type and rounded to that of `x` once. A row of
 * zeros stays zero.
 *
 * @returns A tensor like `x`.
 * @throws {ShapeError} If `x` is a scalar, or `scale` is not [D].
 * @throws {DTypeError} If a tensor is not of floats.
 *
 * @example Two elements
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, rmsNorm, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const normed = rmsNorm(tensor([3, -3]), { epsilon: 0 });
 * assertEquals([...await normed.data()].map(Math.round), [1, -1]);
 * ```
 *
 * Source: Zhang and Sennrich 2019.
 */
export function rmsNorm(x: Tensor, { scale, epsilon = 1e-6 }: RmsNormOptions = {}): Tensor {
  return normalize("rmsNorm", x, { scale }, epsilon);
}
