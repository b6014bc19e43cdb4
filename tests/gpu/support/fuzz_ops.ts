/**
 * Small ops that a random program may apply. Each takes operands chosen at random and says null where they do not fit, so
 * that any list of instructions is a valid program and stays one while it shrinks.
 *
 * @module
 */
import { type DType, isFloat } from "../../../src/core/dtype.ts";
import { type Shape, sizeOf } from "../../../src/core/shape.ts";
import type { Tensor } from "../../../src/core/tensor.ts";
import {
  abs,
  add,
  all,
  any,
  arange,
  argmax,
  broadcastTo,
  cast,
  concat,
  cumsum,
  div,
  equal,
  exp,
  eye,
  flip,
  full,
  gelu,
  layerNorm,
  less,
  log,
  logicalNot,
  logicalOr,
  logSoftmax,
  matmul,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  neg,
  pad,
  prod,
  relu,
  remainder,
  reshape,
  sigmoid,
  sin,
  slice,
  softmax,
  sort,
  sqrt,
  square,
  sub,
  sum,
  take,
  tanh,
  tensor,
  transpose,
  variance,
  where,
} from "../../../src/ops/mod.ts";
import { asFloat, beside, type Draw, type FuzzOp, isInteger, made } from "./fuzz_values.ts";

function unary(apply: (x: Tensor) => Tensor, bound: (x: number) => number): FuzzOp {
  return (x) => made(apply(asFloat(x).tensor), bound(x.bound), false);
}

function binary(
  apply: (x: Tensor, y: Tensor) => Tensor,
  bound: (x: number, y: number) => number,
  isExact = false,
): FuzzOp {
  return (x, other) => {
    const y = beside(x, other);
    if (isExact && x.exact && y.exact && x.tensor.dtype === y.tensor.dtype && x.tensor.dtype !== "bool") {
      return made(apply(x.tensor, y.tensor), bound(x.bound, y.bound), true);
    }
    return made(apply(asFloat(x).tensor, asFloat(y).tensor), bound(x.bound, y.bound), false);
  };
}

/** Integers stay small by their remainder, so that no sum of them overflows. */
function integers(apply: (x: Tensor, y: Tensor) => Tensor): FuzzOp {
  return (x, other) => {
    const y = beside(x, other);
    if (!isInteger(x) || y.tensor.dtype !== x.tensor.dtype) return null;
    return made(remainder(apply(x.tensor, y.tensor), 7), 7, true);
  };
}

/** Some axes, at least one where there is one. */
function drawAxes(shape: Shape, draw: Draw): number[] {
  const bits = 1 + draw(2 ** shape.length - 1);
  return shape.flatMap((_, axis) => (bits >> axis) & 1 ? [axis] : []);
}

function reduction(
  apply: (x: Tensor, options: { axis: number[]; keepDims: boolean }) => Tensor,
  bound: (x: number, count: number) => number,
  { isExact = false, mayBeEmpty = true } = {},
): FuzzOp {
  return (x, _, draw) => {
    const { shape } = x.tensor;
    if (shape.length === 0) return null;
    const axis = drawAxes(shape, draw);
    const keepDims = draw(2) === 1;
    const count = sizeOf(axis.map((at) => shape[at]!));
    if (!mayBeEmpty && count === 0) return null;
    const source = isExact && x.exact && x.tensor.dtype !== "bool" ? x : asFloat(x);
    const result = apply(source.tensor, { axis, keepDims });
    return made(
      result,
      bound(x.bound, Math.max(1, count)),
      isExact && x.exact,
      `axis [${axis}]${keepDims ? " kept" : ""}`,
    );
  };
}

/** A view of one value: exactness and bound pass through. */
function view(apply: (x: Tensor, draw: Draw) => readonly [Tensor, string] | null): FuzzOp {
  return (x, _, draw) => {
    const found = apply(x.tensor, draw);
    return found && made(found[0], x.bound, x.exact, found[1]);
  };
}

function drawReshape(shape: Shape, draw: Draw): Shape {
  const size = sizeOf(shape);
  const at = draw(shape.length + 1);
  switch (draw(4)) {
    case 0:
      return [size];
    case 1:
      return shape.toSpliced(at, 0, 1);
    case 2:
      return shape.length < 2 ? [...shape, 1] : shape.toSpliced(
        at % (shape.length - 1),
        2,
        shape[at % (shape.length - 1)]! * shape[at % (shape.length - 1) + 1]!,
      );
    default: {
      const axis = at % Math.max(1, shape.length);
      const n = shape[axis] ?? 1;
      const factor = [2, 3, 4, 5].find((divisor) => n > divisor && n % divisor === 0) ?? 1;
      return shape.length === 0
        ? [1]
        : shape.toSpliced(axis, 1, ...draw(2) ? [factor, n / factor] : [n / factor, factor]);
    }
  }
}

function drawOrder(rank: number, draw: Draw): number[] {
  const left = Array.from({ length: rank }, (_, axis) => axis);
  return Array.from({ length: rank }, () => left.splice(draw(left.length), 1)[0]!);
}

/** Comparing needs exact operands: rounding must not decide. */
function comparison(apply: (x: Tensor, y: Tensor) => Tensor): FuzzOp {
  return (x, other) => {
    const y = beside(x, other);
    return x.exact && y.exact ? made(apply(asFloat(x).tensor, asFloat(y).tensor), 1, true) : null;
  };
}

function castTo(dtype: DType): FuzzOp {
  return ({ tensor, exact, bound }) => {
    if (isFloat(dtype)) {
      // Numbers on the grid of the inputs fit every float type.
      return made(cast(tensor, dtype), bound, exact && bound <= 16);
    }
    if (!exact) return null;
    return made(
      cast(dtype === "u32" && tensor.dtype !== "bool" ? abs(asFloat({ tensor, exact, bound }).tensor) : tensor, dtype),
      bound,
      true,
    );
  };
}

/** Ops that the compiler writes kernels for, or fuses, by name. */
export const FUSED_OPS: Readonly<Record<string, FuzzOp>> = {
  neg: unary(neg, (x) => x),
  tanh: unary(tanh, () => 1),
  sin: unary(sin, () => 1),
  gelu: unary(gelu, (x) => x),
  relu: unary(relu, (x) => x),
  sigmoid: unary(sigmoid, () => 1),
  abs: unary(abs, (x) => x),
  expOfSin: unary((x) => exp(sin(x)), () => 3),
  rootOfSquare: unary((x) => sqrt(add(square(x), 0.5)), (x) => x + 1),
  logOfSquare: unary((x) => log(add(square(x), 1)), (x) => 2 * Math.log(x + 2)),
  scaled: unary((x) => mul(x, 0.375), (x) => x),
  shifted: unary((x) => sub(x, 0.625), (x) => x + 1),
  add: binary(add, (x, y) => x + y),
  sub: binary(sub, (x, y) => x + y),
  mul: binary(mul, (x, y) => x * y),
  div: binary((x, y) => div(x, add(square(y), 1)), (x) => x),
  maximum: binary(maximum, Math.max, true),
  minimum: binary(minimum, Math.max, true),
  addIntegers: integers(add),
  mulIntegers: integers(mul),
  less: comparison(less),
  equal: comparison(equal),
  not: (x) => x.tensor.dtype === "bool" ? made(logicalNot(x.tensor), 1, true) : null,
  or: (x, y) =>
    x.tensor.dtype === "bool" && y.tensor.dtype === "bool"
      ? made(logicalOr(x.tensor, beside(x, y).tensor), 1, true)
      : null,
  where: (x, y) => {
    if (!x.exact) return null;
    const other = beside(x, y);
    const flipped = asFloat(x);
    return made(
      where(less(asFloat(x).tensor, 0.5), flipped.tensor, asFloat(other).tensor),
      Math.max(x.bound, other.bound),
      other.exact,
    );
  },
  castF32: castTo("f32"),
  castF16: castTo("f16"),
  castBf16: castTo("bf16"),
  castI32: castTo("i32"),
  castU32: castTo("u32"),
  castBool: castTo("bool"),
  sum: reduction(sum, (x, count) => x * count),
  mean: reduction(mean, (x) => x, { mayBeEmpty: false }),
  max: reduction(max, (x) => x, { isExact: true, mayBeEmpty: false }),
  min: reduction(min, (x) => x, { isExact: true, mayBeEmpty: false }),
  variance: reduction(variance, (x) => x * x, { mayBeEmpty: false }),
  prod: reduction((x, options) => prod(add(mul(tanh(x), 0.25), 1), options), (_, count) => 1.3 ** count),
  any: (x, _, draw) =>
    x.exact && x.tensor.shape.length > 0
      ? made(any(x.tensor, { axis: drawAxes(x.tensor.shape, draw) }), 1, true)
      : null,
  all: (x, _, draw) =>
    x.exact && x.tensor.shape.length > 0
      ? made(all(x.tensor, { axis: drawAxes(x.tensor.shape, draw) }), 1, true)
      : null,
  argmax(x, _, draw) {
    const { shape } = x.tensor;
    if (!x.exact || shape.length === 0) return null;
    const axis = draw(shape.length);
    return shape[axis] === 0 ? null : made(argmax(asFloat(x).tensor, { axis }), shape[axis]!, true, `axis ${axis}`);
  },
  reshape: view((x, draw) => {
    const shape = drawReshape(x.shape, draw);
    return [reshape(x, shape), `[${shape}]`];
  }),
  transpose: view((x, draw) => {
    const order = drawOrder(x.shape.length, draw);
    return [transpose(x, order), `[${order}]`];
  }),
  expand: view((x, draw) => {
    const shape = [...draw(2) ? [1 + draw(3)] : [], ...x.shape.map((n) => n === 1 ? 1 + draw(5) : n)];
    return [broadcastTo(x, shape), `[${shape}]`];
  }),
  slice: view((x, draw) => {
    const ranges = x.shape.map((n) => {
      const step = [1, 1, 2, 3, -1, -2][draw(6)]!;
      const [low, high] = [draw(Math.max(1, n)), n - draw(Math.max(1, n >> 1))];
      return step > 0 ? { start: Math.min(low, n >> 1), stop: high, step } : { start: high - 1, step };
    });
    return [slice(x, ranges), JSON.stringify(ranges)];
  }),
  pick: view((x, draw) => {
    if (x.shape.length === 0 || x.shape[0] === 0) return null;
    const at = draw(x.shape[0]!);
    return [slice(x, [at]), `[${at}]`];
  }),
  pad: view((x, draw) => {
    const widths = x.shape.map(() => [draw(5), draw(5), draw(4) === 3 ? 1 : 0] as const);
    const value = draw(2);
    return [pad(x, widths, { value }), `${JSON.stringify(widths)} with ${value}`];
  }),
  flip: view((x, draw) => {
    if (x.shape.length === 0) return null;
    const axis = drawAxes(x.shape, draw);
    return [flip(x, { axis }), `axis [${axis}]`];
  }),
  concat(x, y, draw) {
    const { shape } = x.tensor;
    if (shape.length === 0) return null;
    const axis = draw(shape.length);
    const joins = y.tensor.shape.length === shape.length &&
      y.tensor.shape.every((n, i) => i === axis || n === shape[i]);
    const other = joins ? y : { ...x, tensor: flip(x.tensor, { axis }) };
    const parts = draw(3) === 0 ? [x, other, x] : [x, other];
    return made(
      concat(parts.map(({ tensor }) => tensor), { axis }),
      Math.max(x.bound, other.bound),
      x.exact && other.exact,
      `axis ${axis} of ${parts.length}`,
    );
  },
  matmul(x, y) {
    const [a, b] = [asFloat(x), asFloat(y)];
    const [left, right] = [a.tensor.shape, b.tensor.shape];
    if (left.length < 2) return null;
    const terms = left.at(-1)!;
    if (right.length === 2 && right[0] === terms) {
      return made(matmul(a.tensor, b.tensor), a.bound * b.bound * terms, false);
    }
    return made(
      matmul(a.tensor, a.tensor, { transposeB: true }),
      a.bound * a.bound * terms,
      false,
      "by its own transpose",
    );
  },
  take(x, y, draw) {
    const { shape } = x.tensor;
    if (shape.length === 0) return null;
    const axis = draw(shape.length);
    const count = shape[axis]!;
    if (count === 0) return null;
    const indices = isInteger(y) && y.tensor.size <= 64 ? y.tensor : remainder(mul(arange(5), 3), count);
    return made(take(x.tensor, indices, { axis }), x.bound, x.exact, `axis ${axis}`);
  },
  cumsum(x, _, draw) {
    const { shape } = x.tensor;
    if (shape.length === 0) return null;
    const options = { axis: draw(shape.length), reverse: draw(2) === 1, exclusive: draw(2) === 1 };
    const length = Math.max(1, shape[options.axis]!);
    return made(cumsum(asFloat(x).tensor, options), x.bound * length, false, JSON.stringify(options));
  },
  softmax(x, _, draw) {
    const { shape } = x.tensor;
    if (shape.length === 0) return null;
    const axis = draw(shape.length);
    return shape[axis] === 0 ? null : made(softmax(asFloat(x).tensor, { axis }), 1, false, `axis ${axis}`);
  },
  logSoftmax(x, _, draw) {
    const { shape } = x.tensor;
    if (shape.length === 0) return null;
    const axis = draw(shape.length);
    return shape[axis] === 0
      ? null
      : made(logSoftmax(asFloat(x).tensor, { axis }), 2 * x.bound + 8, false, `axis ${axis}`);
  },
  layerNorm(x) {
    const { shape } = x.tensor;
    // A row of equal elements has no direction: its normalization magnifies rounding.
    return (shape.at(-1) ?? 0) < 2 ? null : made(layerNorm(asFloat(x).tensor, { epsilon: 0.1 }), 8, false);
  },
  sort: (x) => (x.tensor.shape.at(-1) ?? 0) === 0 ? null : made(sort(asFloat(x).tensor), x.bound, false),
  full: (x) => made(full(x.tensor.shape, 0.75), 1, true),
  captured: (_x, _y, draw) => {
    const [rows, columns] = [1 + draw(3), 1 + draw(9)];
    const data = Float32Array.from({ length: rows * columns }, (_, i) => (i * 5 % 17 - 8) / 8);
    return made(tensor(data, { shape: [rows, columns] }), 1, true, `[${rows}, ${columns}]`);
  },
  eye: (_x, _y, draw) => {
    const size = 1 + draw(9);
    return made(eye(size), 1, true, String(size));
  },
  arange: (_x, _y, draw) => {
    const count = draw(12);
    return made(arange(count), 12, true, String(count));
  },
};
