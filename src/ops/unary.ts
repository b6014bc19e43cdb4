/**
 * Elementary functions of one tensor. Activations are in `activations.ts`, the error function in `error_function.ts`,
 * bits in `bitwise.ts`.
 *
 * WGSL promises little accuracy near special points, so functions that cancel there are computed by series:
 * expm1 and log1p near 0, log near 1, tanh through expm1.
 *
 * @module
 */
import { fullLike, plus, times } from "../core/arithmetic.ts";
import { isFloat } from "../core/dtype.ts";
import { hostMap } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { bitsType, functionName, unaryPrimitive, wgslIsNaN, wgslPolynomial } from "./elementwise.ts";
import { expectFloat } from "./operand.ts";

/** A constant beside a tensor. */
function constant(x: Tensor, value: number): Tensor {
  return fullLike(x.shape, x.dtype, value);
}

function scaled(x: Tensor, factor: number): Tensor {
  return times(x, constant(x, factor));
}

/** Primitive behind {@linkcode neg}. */
export const negPrimitive: Primitive = definePrimitive<null>({
  name: "neg",
  kind: "linear",
  shape: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  host: ([x]) => [hostMap([x!], (value) => -value)],
  transpose: ([ct]) => [neg(ct!)],
  // WGSL has no minus for u32.
  lower: { as: "expr", wgsl: ([x], _, { t }) => t.includes("u32") ? `(${t}(0u) - ${x})` : `(-${x})` },
});

/** Changes the sign. u32 wraps around. */
export function neg(x: Tensor): Tensor {
  return apply(negPrimitive, [x]);
}

/** Primitive behind {@linkcode abs}. */
export const absPrimitive: Primitive = unaryPrimitive({
  name: "abs",
  host: Math.abs,
  partial: (x) => sign(x),
  wgsl: (x) => `abs(${x})`,
});

/** The absolute value. Its derivative at 0 is 0. */
export function abs(x: Tensor): Tensor {
  return apply(absPrimitive, [x]);
}

/** Primitive behind {@linkcode sign}. */
export const signPrimitive: Primitive = unaryPrimitive({
  name: "sign",
  host: Math.sign,
  partial: null,
  wgsl: (x, { t }) => t.includes("u32") ? `min(${x}, ${t}(1u))` : `sign(${x})`,
});

/** -1, 0 or 1 by the sign. Its derivative is 0. */
export function sign(x: Tensor): Tensor {
  return apply(signPrimitive, [x]);
}

/** Primitive behind {@linkcode square}. */
export const squarePrimitive: Primitive = unaryPrimitive({
  name: "square",
  host: (x) => x * x,
  partial: (x) => scaled(x, 2),
  wgsl: (x) => `(${x} * ${x})`,
});

/** The element times itself. */
export function square(x: Tensor): Tensor {
  // Large integers would lose their low bits in the float64 oracle; `times` multiplies them exactly.
  return isFloat(x.dtype) ? apply(squarePrimitive, [x]) : times(x, x);
}

/** Primitive behind {@linkcode reciprocal}. */
export const reciprocalPrimitive: Primitive = unaryPrimitive({
  name: "reciprocal",
  host: (x) => 1 / x,
  partial: (_, y) => neg(times(y, y)),
  wgsl: (x, { t }) => `(${t}(1) / ${x})`,
  cost: 4,
});

/**
 * One divided by the element.
 *
 * @throws {DTypeError} If `x` is not a float tensor.
 */
export function reciprocal(x: Tensor): Tensor {
  return apply(reciprocalPrimitive, [expectFloat("reciprocal", x)]);
}

/** Primitive behind {@linkcode sqrt}. */
export const sqrtPrimitive: Primitive = unaryPrimitive({
  name: "sqrt",
  host: Math.sqrt,
  partial: (_, y) => scaled(reciprocal(y), 0.5),
  wgsl: (x) => `sqrt(${x})`,
  cost: 4,
});

/** The square root; NaN below 0. Its derivative at 0 is infinite. */
export function sqrt(x: Tensor): Tensor {
  return apply(sqrtPrimitive, [expectFloat("sqrt", x)]);
}

/** Primitive behind {@linkcode rsqrt}. */
export const rsqrtPrimitive: Primitive = unaryPrimitive({
  name: "rsqrt",
  host: (x) => 1 / Math.sqrt(x),
  partial: (_, y) => scaled(times(y, times(y, y)), -0.5),
  wgsl: (x, { t }) => `(${t}(1) / sqrt(${x}))`,
  cost: 6,
});

/** One divided by the square root. */
export function rsqrt(x: Tensor): Tensor {
  return apply(rsqrtPrimitive, [expectFloat("rsqrt", x)]);
}

/** Primitive behind {@linkcode exp}. */
export const expPrimitive: Primitive = unaryPrimitive({
  name: "exp",
  host: Math.exp,
  partial: (_, y) => y,
  wgsl: (x) => `exp(${x})`,
  cost: 8,
});

/**
 * e to the power of the element.
 *
 * @throws {DTypeError} If `x` is not a float tensor.
 *
 * @example At zero
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { exp, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await exp(tensor([0])).data()], [1]);
 * ```
 */
export function exp(x: Tensor): Tensor {
  return apply(expPrimitive, [expectFloat("exp", x)]);
}

/** 1/1!, 1/2!, … 1/8!, highest power first: enough for f32 where |x| < 1/2. */
const EXPM1_SERIES: readonly number[] = [1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1];

/** WGSL function that computes exp(x) - 1 without cancellation. */
export function wgslExpm1(name: string, t: string): string {
  return `fn ${name}(x: ${t}) -> ${t} {
  return select(exp(x) - ${t}(1), x * ${wgslPolynomial("x", EXPM1_SERIES, t)}, abs(x) < ${t}(0.5));
}`;
}

/** Primitive behind {@linkcode expm1}. */
export const expm1Primitive: Primitive = unaryPrimitive({
  name: "expm1",
  host: Math.expm1,
  partial: (_, y) => plus(y, constant(y, 1)),
  wgsl: (x, { t }) => `${functionName("expm1", t)}(${x})`,
  prelude: ({ t }) => wgslExpm1(functionName("expm1", t), t),
  cost: 16,
});

/** `exp(x) - 1`, accurate near 0. */
export function expm1(x: Tensor): Tensor {
  return apply(expm1Primitive, [expectFloat("expm1", x)]);
}

/** 2/1, 2/3, … 2/15, highest power first: log(1 + x) = s · series(s²) with s = x / (2 + x). */
const LOG1P_SERIES: readonly number[] = [2 / 15, 2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3, 2];

/** Primitive behind {@linkcode log}. */
export const logPrimitive: Primitive = unaryPrimitive({
  name: "log",
  host: Math.log,
  partial: (x) => reciprocal(x),
  wgsl: (x, { t }) => `${functionName("logarithm", t)}(${x})`,
  // WGSL promises 2^-21 between 1/2 and 2, which is nothing near 1, where the logarithm is small.
  prelude: ({ t }) =>
    `fn ${functionName("logarithm", t)}(x: ${t}) -> ${t} {
  let s = (x - ${t}(1)) / (x + ${t}(1));
  return select(log(x), s * ${wgslPolynomial("(s * s)", LOG1P_SERIES, t)}, abs(x - ${t}(1)) < ${t}(0.5));
}`,
  cost: 20,
});

/** The natural logarithm, accurate near 1; -Infinity at 0 and NaN below. */
export function log(x: Tensor): Tensor {
  return apply(logPrimitive, [expectFloat("log", x)]);
}

/** WGSL function that computes log(1 + x) without losing the small x beside 1. */
export function wgslLog1p(name: string, t: string): string {
  return `fn ${name}(x: ${t}) -> ${t} {
  let s = x / (x + ${t}(2));
  let near = s * ${wgslPolynomial("(s * s)", LOG1P_SERIES, t)};
  return select(log(${t}(1) + x), near, (x > ${t}(-0.5)) & (x <= ${t}(1)));
}`;
}

/** Primitive behind {@linkcode log1p}. */
export const log1pPrimitive: Primitive = unaryPrimitive({
  name: "log1p",
  host: Math.log1p,
  partial: (x) => reciprocal(plus(x, constant(x, 1))),
  wgsl: (x, { t }) => `${functionName("log1p", t)}(${x})`,
  prelude: ({ t }) => wgslLog1p(functionName("log1p", t), t),
  cost: 20,
});

/** `log(1 + x)`, accurate near 0. */
export function log1p(x: Tensor): Tensor {
  return apply(log1pPrimitive, [expectFloat("log1p", x)]);
}

/** Primitive behind {@linkcode sin}. */
export const sinPrimitive: Primitive = unaryPrimitive({
  name: "sin",
  host: Math.sin,
  partial: (x) => cos(x),
  wgsl: (x) => `sin(${x})`,
  cost: 8,
});

/** The sine of an angle in radians. Adapters lose accuracy for angles of many turns. */
export function sin(x: Tensor): Tensor {
  return apply(sinPrimitive, [expectFloat("sin", x)]);
}

/** Primitive behind {@linkcode cos}. */
export const cosPrimitive: Primitive = unaryPrimitive({
  name: "cos",
  host: Math.cos,
  partial: (x) => neg(sin(x)),
  wgsl: (x) => `cos(${x})`,
  cost: 8,
});

/** The cosine of an angle in radians. Adapters lose accuracy for angles of many turns. */
export function cos(x: Tensor): Tensor {
  return apply(cosPrimitive, [expectFloat("cos", x)]);
}

/** Primitive behind {@linkcode tan}. */
export const tanPrimitive: Primitive = unaryPrimitive({
  name: "tan",
  host: Math.tan,
  partial: (_, y) => plus(times(y, y), constant(y, 1)),
  wgsl: (x) => `tan(${x})`,
  cost: 16,
});

/** The tangent of an angle in radians. */
export function tan(x: Tensor): Tensor {
  return apply(tanPrimitive, [expectFloat("tan", x)]);
}

/** Primitive behind {@linkcode tanh}. */
export const tanhPrimitive: Primitive = unaryPrimitive({
  name: "tanh",
  host: Math.tanh,
  partial: (_, y) => plus(constant(y, 1), neg(times(y, y))),
  wgsl: (x, { t }) => `${functionName("tanh", t)}(${x})`,
  // Of -2|x|, so that nothing overflows: some adapters' own tanh is NaN for large arguments.
  prelude: ({ t }) =>
    `${wgslExpm1(functionName("tanhExpm1", t), t)}
fn ${functionName("tanh", t)}(x: ${t}) -> ${t} {
  let m = ${functionName("tanhExpm1", t)}(${t}(-2) * abs(x));
  return select(${t}(-1), ${t}(1), x < ${t}(0)) * m / (m + ${t}(2));
}`,
  cost: 20,
});

/** The hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return apply(tanhPrimitive, [expectFloat("tanh", x)]);
}

function hostRound(x: number): number {
  return Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/** Primitive behind {@linkcode floor}. */
export const floorPrimitive: Primitive = unaryPrimitive({
  name: "floor",
  host: Math.floor,
  partial: null,
  wgsl: (x) => `floor(${x})`,
});
/** Primitive behind {@linkcode ceil}. */
export const ceilPrimitive: Primitive = unaryPrimitive({
  name: "ceil",
  host: Math.ceil,
  partial: null,
  wgsl: (x) => `ceil(${x})`,
});
/** Primitive behind {@linkcode round}. */
export const roundPrimitive: Primitive = unaryPrimitive({
  name: "round",
  host: hostRound,
  partial: null,
  wgsl: (x) => `round(${x})`,
});

/** Integers are whole already. */
function rounded(primitive: Primitive, x: Tensor): Tensor {
  return isFloat(x.dtype) ? apply(primitive, [x]) : x;
}

/** Rounds down to a whole number of the same type. Its derivative is 0. */
export function floor(x: Tensor): Tensor {
  return rounded(floorPrimitive, x);
}

/** Rounds up to a whole number of the same type. Its derivative is 0. */
export function ceil(x: Tensor): Tensor {
  return rounded(ceilPrimitive, x);
}

/**
 * Rounds to the nearest whole number of the same type, halves to the even one. Its derivative is 0.
 *
 * @example Halves
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, round, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await round(tensor([0.5, 1.5, 2.4])).data()], [0, 2, 2]);
 * ```
 */
export function round(x: Tensor): Tensor {
  return rounded(roundPrimitive, x);
}

/** Primitive behind {@linkcode isNaN}. */
export const isNaNPrimitive: Primitive = unaryPrimitive({
  name: "isNaN",
  result: "bool",
  host: (x) => Number.isNaN(x) ? 1 : 0,
  partial: null,
  wgsl: (x, { inputs }) => wgslIsNaN(x, inputs[0]!),
  cost: 2,
});

/** Says which elements are NaN, as a bool tensor; none of an integer tensor is. */
export function isNaN(x: Tensor): Tensor {
  return isFloat(x.dtype) ? apply(isNaNPrimitive, [x]) : fullLike(x.shape, "bool", 0);
}

/** Primitive behind {@linkcode isFinite}. */
export const isFinitePrimitive: Primitive = unaryPrimitive({
  name: "isFinite",
  result: "bool",
  host: (x) => Number.isFinite(x) ? 1 : 0,
  partial: null,
  wgsl(x, { inputs }) {
    const bits = bitsType(inputs[0]!);
    return `((bitcast<${bits}>(${x}) & ${bits}(0x7f800000u)) != ${bits}(0x7f800000u))`;
  },
  cost: 2,
});

/** Says which elements are neither NaN nor infinite, as a bool tensor; every element of an integer tensor is finite. */
export function isFinite(x: Tensor): Tensor {
  return isFloat(x.dtype) ? apply(isFinitePrimitive, [x]) : fullLike(x.shape, "bool", 1);
}
