/**
 * Activation functions of neural networks.
 *
 * @module
 */
import { castTo, fullLike, times } from "../core/arithmetic.ts";
import type { Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { add, mul } from "./binary.ts";
import { greater } from "./compare.ts";
import { functionName, unaryPrimitive } from "./elementwise.ts";
import { erf } from "./error_function.ts";
import { expectFloat } from "./operand.ts";
import { neg, wgslLog1p } from "./unary.ts";

/** Primitive behind {@linkcode relu}. */
export const reluPrimitive: Primitive = unaryPrimitive({
  name: "relu",
  // Written so that NaN passes through.
  host: (x) => x < 0 ? 0 : x,
  partial: (x) => castTo(greater(x, 0), x.dtype),
  wgsl: (x, { t }) => `select(${x}, ${t}(0), ${x} < ${t}(0))`,
});

/**
 * The element where it is positive and 0 elsewhere. Its derivative at 0 is 0.
 *
 * @example Negative elements vanish
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, relu, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await relu(tensor([-1, 2])).data()], [0, 2]);
 * ```
 */
export function relu(x: Tensor): Tensor {
  return apply(reluPrimitive, [expectFloat("relu", x)]);
}

function hostSigmoid(x: number): number {
  const small = Math.exp(-Math.abs(x));
  return (x < 0 ? small : 1) / (1 + small);
}

/** Primitive behind {@linkcode sigmoid}. */
export const sigmoidPrimitive: Primitive = unaryPrimitive({
  name: "sigmoid",
  host: hostSigmoid,
  // y (1 - y) would lose everything but the rounding error where y is near 1.
  partial: (x, y) => times(y, sigmoid(neg(x))),
  wgsl: (x, { t }) => `${functionName("sigmoid", t)}(${x})`,
  // The exponential of -|x| cannot overflow.
  prelude: ({ t }) =>
    `fn ${functionName("sigmoid", t)}(x: ${t}) -> ${t} {
  let small = exp(-abs(x));
  return select(${t}(1), small, x < ${t}(0)) / (${t}(1) + small);
}`,
  cost: 14,
});

/** `1 / (1 + exp(-x))`, without overflow. */
export function sigmoid(x: Tensor): Tensor {
  return apply(sigmoidPrimitive, [expectFloat("sigmoid", x)]);
}

/**
 * `x · sigmoid(inner(x))` as one primitive: its derivative is computed from x alone, so that a training step keeps x and
 * nothing of the way from x to the result.
 */
function gatedPrimitive(
  name: string,
  inner: {
    readonly host: (x: number) => number;
    readonly wgsl: (x: string) => string;
    readonly value: (x: Tensor) => Tensor;
    readonly slope: (x: Tensor) => Tensor;
  },
): Primitive {
  return unaryPrimitive({
    name,
    host: (x) => x * hostSigmoid(inner.host(x)),
    partial(x) {
      const at = inner.value(x);
      const gate = sigmoid(at);
      return add(gate, times(times(x, inner.slope(x)), times(gate, sigmoid(neg(at)))));
    },
    // The exponent is kept where the exponential is finite; beyond, the quotient is zero anyway.
    wgsl: (x, { t }) => `(${x} / (${t}(1) + exp(min(-(${inner.wgsl(x)}), ${t}(80)))))`,
    cost: 16,
  });
}

/** Primitive behind {@linkcode silu}. */
export const siluPrimitive: Primitive = gatedPrimitive("silu", {
  host: (x) => x,
  wgsl: (x) => x,
  value: (x) => x,
  slope: (x) => fullLike(x.shape, x.dtype, 1),
});

/** `x · sigmoid(x)`, also called swish. */
export function silu(x: Tensor): Tensor {
  return apply(siluPrimitive, [expectFloat("silu", x)]);
}

/** Primitive behind {@linkcode softplus}. */
export const softplusPrimitive: Primitive = unaryPrimitive({
  name: "softplus",
  host: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  partial: (x) => sigmoid(x),
  wgsl: (x, { t }) => `${functionName("softplus", t)}(${x})`,
  prelude: ({ t }) =>
    `${wgslLog1p(functionName("softplusLog1p", t), t)}
fn ${functionName("softplus", t)}(x: ${t}) -> ${t} {
  return select(x, ${t}(0), x < ${t}(0)) + ${functionName("softplusLog1p", t)}(exp(-abs(x)));
}`,
  cost: 28,
});

/** `log(1 + exp(x))`, without overflow: the smooth relu, and the integral of the sigmoid. */
export function softplus(x: Tensor): Tensor {
  return apply(softplusPrimitive, [expectFloat("softplus", x)]);
}

/** Twice √(2/π): half of 1 + tanh(u) is the sigmoid of 2u. */
const TANH_SCALE = 2 * Math.sqrt(2 / Math.PI);
const TANH_CUBE = 0.044715;

/** Primitive behind {@linkcode gelu} with `approximate: "tanh"`. */
export const geluTanhPrimitive: Primitive = gatedPrimitive("geluTanh", {
  host: (x) => TANH_SCALE * (x + TANH_CUBE * x * x * x),
  wgsl: (x) => `${TANH_SCALE} * ${x} * (1.0 + ${TANH_CUBE} * ${x} * ${x})`,
  value: (x) => mul(times(x, add(mul(times(x, x), TANH_CUBE), 1)), TANH_SCALE),
  slope: (x) => mul(add(mul(times(x, x), 3 * TANH_CUBE), 1), TANH_SCALE),
});

/** Options of {@linkcode gelu}. */
export interface GeluOptions {
  /** `"none"` (the default) weights by the normal distribution itself, `"tanh"` by its approximation of GPT-2. */
  readonly approximate?: "none" | "tanh";
}

/**
 * The element times the probability that a standard normal number is below it.
 *
 * @example Far from zero it is the relu
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gelu, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await gelu(tensor([0, 30])).data()], [0, 30]);
 * ```
 *
 * Source: Hendrycks and Gimpel 2016.
 */
export function gelu(x: Tensor, { approximate = "none" }: GeluOptions = {}): Tensor {
  expectFloat("gelu", x);
  if (approximate === "none") return mul(mul(x, 0.5), add(erf(mul(x, Math.SQRT1_2)), 1));
  return apply(geluTanhPrimitive, [x]);
}
