/**
 * Arithmetic of two tensors, broadcasting and promoting types. Powers are in `power.ts`, bits in `bitwise.ts`.
 *
 * @module
 */
import { addPrimitive, castTo, expectSameAvals, fullLike, mulPrimitive, times } from "../core/arithmetic.ts";
import { type DType, isFloat } from "../core/dtype.ts";
import { hostMap } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { greater, greaterEqual } from "./compare.ts";
import { binaryPrimitive, functionName, isFloatType, unifyNumbers, wgslIsNaN } from "./elementwise.ts";
import { expectFloat, type TensorLike } from "./operand.ts";
import { neg, reciprocal } from "./unary.ts";

/**
 * Adds two tensors.
 *
 * @throws {ShapeError} If the operands do not broadcast.
 * @throws {DTypeError} If both are boolean.
 *
 * @example A row is added to every row of a matrix
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { add, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await add(tensor([[1, 2], [3, 4]]), tensor([10, 20])).data()], [11, 22, 13, 24]);
 * ```
 */
export function add(a: TensorLike, b: TensorLike): Tensor {
  return apply(addPrimitive, unifyNumbers("add", a, b));
}

/** Primitive behind {@linkcode sub}. */
export const subPrimitive: Primitive = definePrimitive<null>({
  name: "sub",
  kind: "linear",
  shape: (inputs) => [expectSameAvals("sub", inputs)],
  host: (inputs) => [hostMap(inputs, (a, b) => a - b)],
  transpose: ([ct]) => [ct!, neg(ct!)],
  lower: { as: "expr", wgsl: ([a, b]) => `(${a} - ${b})` },
});

/** Subtracts `b` from `a`. Integers wrap around. */
export function sub(a: TensorLike, b: TensorLike): Tensor {
  return apply(subPrimitive, unifyNumbers("sub", a, b));
}

/** Multiplies two tensors element by element. Integers wrap around. */
export function mul(a: TensorLike, b: TensorLike): Tensor {
  return apply(mulPrimitive, unifyNumbers("mul", a, b));
}

function hostDivide(a: number, b: number, dtype: DType): number {
  if (isFloat(dtype)) return a / b;
  // What WGSL says of integers: no trap, the dividend stays.
  return b === 0 ? a : Math.trunc(a / b);
}

/** Primitive behind {@linkcode div}. */
export const divPrimitive: Primitive = binaryPrimitive({
  name: "div",
  host: hostDivide,
  partials(_, b, y) {
    const inverse = reciprocal(b);
    return [inverse, neg(times(y, inverse))];
  },
  wgsl: (a, b) => `(${a} / ${b})`,
  cost: 4,
});

/**
 * Divides `a` by `b`. Integer division truncates toward zero, and by zero it gives `a`; cast first for a fraction.
 *
 * @example Floats and integers
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { div, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await div(tensor([7, -7]), 2).data()], [3.5, -3.5]);
 * assertEquals([...await div(tensor([7, -7], { dtype: "i32" }), 2).data()], [3, -3]);
 * ```
 */
export function div(a: TensorLike, b: TensorLike): Tensor {
  return apply(divPrimitive, unifyNumbers("div", a, b));
}

function extremum(name: "maximum" | "minimum"): Primitive {
  const isMaximum = name === "maximum";
  return binaryPrimitive({
    name,
    host: (a, b) => isMaximum ? Math.max(a, b) : Math.min(a, b),
    partials(a, b) {
      const [high, low] = isMaximum ? [a, b] : [b, a];
      // 1 where a wins, 1/2 on a tie, 0 where it loses.
      const share = times(
        castTo(
          apply(addPrimitive, [castTo(greater(high, low), "f32"), castTo(greaterEqual(high, low), "f32")]),
          a.dtype,
        ),
        fullLike(a.shape, a.dtype, 0.5),
      );
      return [share, apply(subPrimitive, [fullLike(a.shape, a.dtype, 1), share])];
    },
    wgsl: (a, b, { t }) =>
      isFloatType(t) ? `${functionName(name, t)}(${a}, ${b})` : `${isMaximum ? "max" : "min"}(${a}, ${b})`,
    // The built-in functions may drop NaN. If b is NaN, both comparisons are false and b is taken.
    prelude: ({ t }) =>
      isFloatType(t)
        ? `fn ${functionName(name, t)}(a: ${t}, b: ${t}) -> ${t} { return select(b, a, (a ${
          isMaximum ? ">" : "<"
        } b) | ${wgslIsNaN("a", t)}); }`
        : "",
    cost: 2,
  });
}

/** Primitive behind {@linkcode maximum}. */
export const maximumPrimitive: Primitive = extremum("maximum");
/** Primitive behind {@linkcode minimum}. */
export const minimumPrimitive: Primitive = extremum("minimum");

/**
 * Takes the larger of two elements; NaN if either is. On a tie each operand gets half of the gradient.
 *
 * @example Clipping from below
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, maximum, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await maximum(tensor([-1, 0, 2]), 0).data()], [0, 0, 2]);
 * ```
 */
export function maximum(a: TensorLike, b: TensorLike): Tensor {
  return apply(maximumPrimitive, unifyNumbers("maximum", a, b));
}

/** Takes the smaller of two elements; NaN if either is. On a tie each operand gets half of the gradient. */
export function minimum(a: TensorLike, b: TensorLike): Tensor {
  return apply(minimumPrimitive, unifyNumbers("minimum", a, b));
}

function hostRemainder(a: number, b: number, dtype: DType): number {
  if (b === 0 && !isFloat(dtype)) return 0;
  const rest = a % b;
  return rest !== 0 && (rest < 0) !== (b < 0) ? rest + b : rest;
}

/** Primitive behind {@linkcode remainder}. */
export const remainderPrimitive: Primitive = binaryPrimitive({
  name: "remainder",
  host: hostRemainder,
  // a = q·b + y with a whole q, so ∂y/∂b = -q.
  partials: (a, b, y) => [
    fullLike(a.shape, a.dtype, 1),
    times(apply(subPrimitive, [y, a]), reciprocal(b)),
  ],
  wgsl: (a, b, { t }) => t.includes("u32") ? `(${a} % ${b})` : `${functionName("remainder", t)}(${a}, ${b})`,
  prelude({ t }) {
    if (t.includes("u32")) return "";
    // A float quotient rounds, which can leave the rest one divisor away: the last line brings it back.
    const settle = isFloatType(t) ? `rest = select(rest, rest - b, abs(rest) >= abs(b));` : "";
    return `fn ${functionName("remainder", t)}(a: ${t}, b: ${t}) -> ${t} {
  var rest = a % b;
  rest = select(rest, rest + b, (rest != ${t}(0)) & ((rest < ${t}(0)) != (b < ${t}(0))));
  ${settle}
  return rest;
}`;
  },
  cost: 6,
});

/**
 * Takes the remainder of a division rounded down: it has the divisor's sign, as in Python. Integers modulo 0 give 0.
 *
 * @example Negative dividends
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, remainder, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await remainder(tensor([-1, 5]), 3).data()], [2, 2]);
 * ```
 */
export function remainder(a: TensorLike, b: TensorLike): Tensor {
  return apply(remainderPrimitive, unifyNumbers("remainder", a, b));
}

/** Primitive behind {@linkcode atan2}. */
export const atan2Primitive: Primitive = binaryPrimitive({
  name: "atan2",
  host: Math.atan2,
  partials(y, x) {
    const inverse = reciprocal(apply(addPrimitive, [times(y, y), times(x, x)]));
    return [times(x, inverse), neg(times(y, inverse))];
  },
  wgsl: (y, x) => `atan2(${y}, ${x})`,
  cost: 16,
});

/** The angle of the point (x, y) in -π..π. */
export function atan2(y: TensorLike, x: TensorLike): Tensor {
  const [left, right] = unifyNumbers("atan2", y, x);
  return apply(atan2Primitive, [expectFloat("atan2", left), right]);
}
