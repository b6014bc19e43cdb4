/**
 * The error function and its inverse, which turns uniform numbers into normal ones.
 *
 * @module
 */
import { fullLike, times } from "../core/arithmetic.ts";
import type { Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { functionName, unaryPrimitive, wgslIsNaN, wgslPolynomial } from "./elementwise.ts";
import { expectFloat } from "./operand.ts";
import { exp, neg, square, wgslLog1p } from "./unary.ts";

/** 2/√π, the slope of erf at 0. */
const SLOPE = 2 / Math.sqrt(Math.PI);

/**
 * erf in float64: 2/√π e^(-x²) Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)), whose terms all have one sign, so that nothing cancels.
 */
function hostErf(x: number): number {
  if (Number.isNaN(x)) return NaN;
  // Beyond 6 the distance to 1 is below 3e-17.
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= 2 * x * x / (2 * n + 1);
    sum += term;
  }
  return SLOPE * Math.exp(-x * x) * sum;
}

/**
 * Rational approximation of erf on ±ERF_LIMIT, x · P(x²) / Q(x²), highest power first; beyond it erf is 1 in f32.
 * These are the coefficients of XLA and Eigen.
 */
const ERF_NUMERATOR: readonly number[] = [
  2.2905065861350646e-4,
  3.4082910107109506e-3,
  5.0955695062380861e-2,
  1.8520832239976145e-1,
  1.128379143519084,
];
const ERF_DENOMINATOR: readonly number[] = [
  -1.1791602954361697e-7,
  2.3547966471313185e-5,
  1.0179625278914885e-3,
  1.4070470171167667e-2,
  1.1098505178285362e-1,
  4.9746925110067538e-1,
  1,
];
const ERF_LIMIT = 3.832506856900711;

/** Primitive behind {@linkcode erf}. */
export const erfPrimitive: Primitive = unaryPrimitive({
  name: "erf",
  host: hostErf,
  partial: (x) => times(exp(neg(square(x))), fullLike(x.shape, x.dtype, SLOPE)),
  wgsl: (x, { t }) => `${functionName("erf", t)}(${x})`,
  prelude: ({ t }) =>
    `fn ${functionName("erf", t)}(x: ${t}) -> ${t} {
  let c = clamp(x, ${t}(-${ERF_LIMIT}), ${t}(${ERF_LIMIT}));
  let s = c * c;
  let y = c * ${wgslPolynomial("s", ERF_NUMERATOR, t)} / ${wgslPolynomial("s", ERF_DENOMINATOR, t)};
  return select(clamp(y, ${t}(-1), ${t}(1)), x, ${wgslIsNaN("x", t)});
}`,
  cost: 24,
});

/** The error function: 2/√π times the integral of exp(-t²) from 0 to x. */
export function erf(x: Tensor): Tensor {
  return apply(erfPrimitive, [expectFloat("erf", x)]);
}

/** Giles' coefficients for w = -log(1 - y²) below 5, in w - 2.5, highest power first. */
const ERFINV_CENTRAL: readonly number[] = [
  2.81022636e-8,
  3.43273939e-7,
  -3.5233877e-6,
  -4.39150654e-6,
  2.1858087e-4,
  -1.25372503e-3,
  -4.17768164e-3,
  2.46640727e-1,
  1.50140941,
];
/** The same from 5 up, in √w - 3. */
const ERFINV_TAIL: readonly number[] = [
  -2.00214257e-4,
  1.00950558e-4,
  1.34934322e-3,
  -3.67342844e-3,
  5.73950773e-3,
  -7.6224613e-3,
  9.43887047e-3,
  1.00167406,
  2.83297682,
];

function horner(x: number, coefficients: readonly number[]): number {
  return coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);
}

/** Giles' polynomial, good to single precision. */
function approximateErfInv(y: number): number {
  const w = -Math.log1p(-y * y);
  return y * (w < 5 ? horner(w - 2.5, ERFINV_CENTRAL) : horner(Math.sqrt(w) - 3, ERFINV_TAIL));
}

/** Giles' polynomial, refined to float64 by two steps of Newton's method. */
function hostErfInv(y: number): number {
  if (!(Math.abs(y) < 1)) return Math.abs(y) === 1 ? y * Infinity : NaN;
  let x = approximateErfInv(y);
  for (let step = 0; step < 2; step++) x -= (hostErf(x) - y) * Math.exp(x * x) / SLOPE;
  return x;
}

/** Primitive behind {@linkcode erfInv}. */
export const erfInvPrimitive: Primitive = unaryPrimitive({
  name: "erfInv",
  host: hostErfInv,
  partial: (_, y) => times(exp(square(y)), fullLike(y.shape, y.dtype, 1 / SLOPE)),
  wgsl: (y, { t }) => `${functionName("erfInv", t)}(${y})`,
  prelude: ({ t }) =>
    `${wgslLog1p(functionName("erfInvLog1p", t), t)}
fn ${functionName("erfInv", t)}(y: ${t}) -> ${t} {
  let w = -${functionName("erfInvLog1p", t)}(-y * y);
  let central = ${wgslPolynomial(`(w - ${t}(2.5))`, ERFINV_CENTRAL, t)};
  let tail = ${wgslPolynomial(`(sqrt(w) - ${t}(3))`, ERFINV_TAIL, t)};
  let inside = y * select(tail, central, w < ${t}(5));
  return select(inside, y * inf(), abs(y) == ${t}(1));
}`,
  cost: 48,
});

/**
 * The inverse of the error function: infinite at ±1 and NaN beyond. `sqrt(2) · erfInv(u)` is normal for `u` uniform in
 * (-1, 1).
 *
 * Source: Giles 2012, the single-precision polynomial, as XLA has it.
 */
export function erfInv(x: Tensor): Tensor {
  return apply(erfInvPrimitive, [expectFloat("erfInv", x)]);
}
