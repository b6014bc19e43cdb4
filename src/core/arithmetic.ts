/**
 * The primitives the transforms themselves need: constants, sums of cotangents, products of tangents, spreading and
 * collapsing axes, reordering, reshaping and casting. `src/ops` wraps them with broadcasting and checks for users.
 *
 * @module
 */
import { bytesPerElement, type DType, isFloat, roundTo } from "./dtype.ts";
import { DTypeError, ShapeError } from "./errors.ts";
import { coordinatesOf, hostFill, hostMap, hostReduce, hostView } from "./host.ts";
import { definePrimitive, type Primitive } from "./primitive.ts";
import { type Aval, formatAval, sameShape, type Shape, sizeOf } from "./shape.ts";
import { apply, type Tensor } from "./tensor.ts";

/**
 * Checks that two operands of an elementwise op agree, which the public ops see to by broadcasting and promotion.
 *
 * @throws {ShapeError} Or {DTypeError} If they do not.
 */
export function expectSameAvals(op: string, inputs: readonly Aval[]): Aval {
  const [first, ...rest] = inputs;
  for (const other of rest) {
    if (!sameShape(first!.shape, other.shape)) {
      throw new ShapeError("shape/elementwise", {
        summary: `Cannot apply ${op}: shapes differ, ${formatAval(first!)} and ${formatAval(other)}`,
        facts: [["op", op]],
        fix: "broadcast the operands to one shape",
      });
    }
    if (first!.dtype !== other.dtype) {
      throw new DTypeError("dtype/elementwise", {
        summary: `Cannot apply ${op}: types differ, ${formatAval(first!)} and ${formatAval(other)}`,
        facts: [["op", op]],
        fix: `cast one of them, say cast(x, "${first!.dtype}")`,
      });
    }
  }
  return { shape: first!.shape, dtype: first!.dtype };
}

/** A number as a WGSL literal of a scalar type; infinities and NaN come from runtime bits, which WGSL constants forbid. */
export function wgslLiteral(value: number, dtype: DType): string {
  if (dtype === "bool") return value ? "true" : "false";
  if (dtype === "u32") return `${value >>> 0}u`;
  if (dtype === "i32") return value === -2147483648 ? "i32(-2147483647 - 1)" : `i32(${value | 0})`;
  if (Number.isNaN(value)) return "(inf() - inf())";
  if (value === Infinity) return "inf()";
  if (value === -Infinity) return "(-inf())";
  const rounded = Math.fround(value);
  if (!Number.isFinite(rounded)) return rounded > 0 ? "inf()" : "(-inf())";
  const text = String(rounded);
  return `f32(${/[.e]/.test(text) ? text : `${text}.0`})`;
}

/** Primitive behind `full`: every element the same number. */
export const fullPrimitive: Primitive = definePrimitive<{ shape: Shape; dtype: DType; value: number }>({
  name: "full",
  kind: "discrete",
  shape: (_, { shape, dtype }) => [{ shape, dtype }],
  host: (_, { shape, dtype, value }) => [hostFill({ shape, dtype }, () => value)],
  batch: (_inputs, _mapped, { shape, dtype, value }, n) => [fullLike([n, ...shape], dtype, value)],
  lower: { as: "index", uniform: true, wgsl: (_, { value, dtype }) => wgslLiteral(value, dtype) },
});

/** A constant tensor. */
export function fullLike(shape: Shape, dtype: DType, value: number): Tensor {
  return apply(fullPrimitive, [], { shape, dtype, value: isFloat(dtype) ? value : roundTo(dtype, value) });
}

/** Zeros of a tensor's shape and type. */
export function zerosLike(aval: Aval): Tensor {
  return fullLike(aval.shape, aval.dtype, 0);
}

/** Primitive behind aliases: a new node with the same value, so that a transform can tell its argument from the rest of the DAG. */
export const aliasPrimitive: Primitive = definePrimitive<null>({
  name: "alias",
  kind: "linear",
  shape: ([x]) => [x!],
  host: ([x]) => [x!],
  transpose: ([ct]) => [ct!],
  batch: ([x]) => [x!],
  lower: { as: "view", linear: true, sources: (index) => [{ input: 0, index }], lanes: () => "contiguous" },
});

/** A new node with the same value. */
export function alias(x: Tensor): Tensor {
  return apply(aliasPrimitive, [x]);
}

/** Primitive behind `add`. */
export const addPrimitive: Primitive = definePrimitive<null>({
  name: "add",
  kind: "linear",
  shape: (inputs) => [expectSameAvals("add", inputs)],
  host: (inputs) => [hostMap(inputs, (a, b) => a + b)],
  transpose: ([ct]) => [ct!, ct!],
  lower: { as: "expr", wgsl: ([a, b]) => `(${a} + ${b})` },
});

/** Sum of two tensors of equal shape and type. */
export function plus(a: Tensor, b: Tensor): Tensor {
  return apply(addPrimitive, [a, b]);
}

/** Primitive behind `mul`. */
export const mulPrimitive: Primitive = definePrimitive<null>({
  name: "mul",
  kind: "bilinear",
  shape: (inputs) => [expectSameAvals("mul", inputs)],
  host: ([a, b]) => [
    a!.dtype === "u32" || a!.dtype === "i32"
      ? hostMap([a!, b!], (x, y) => Math.imul(x, y))
      : hostMap([a!, b!], (x, y) => x * y),
  ],
  transpose: ([ct], [a, b]) => [times(ct!, b!), times(ct!, a!)],
  lower: { as: "expr", wgsl: ([a, b]) => `(${a} * ${b})` },
});

/** Product of two tensors of equal shape and type. */
export function times(a: Tensor, b: Tensor): Tensor {
  return apply(mulPrimitive, [a, b]);
}

/** Primitive behind `reshape`. */
export const reshapePrimitive: Primitive = definePrimitive<{ shape: Shape }>({
  name: "reshape",
  kind: "linear",
  shape([x], { shape }) {
    if (sizeOf(x!.shape) !== sizeOf(shape)) {
      throw new ShapeError("shape/reshape", {
        summary: `Cannot reshape ${formatAval(x!)} to [${shape.join(", ")}]: ${sizeOf(x!.shape)} elements, not ${
          sizeOf(shape)
        }`,
        facts: [["op", "reshape(x, shape)"]],
        fix: "keep the number of elements; -1 stands for the one size that follows from the others",
      });
    }
    return [{ shape, dtype: x!.dtype }];
  },
  host: ([x], { shape }) => [{ shape, dtype: x!.dtype, data: x!.data }],
  transpose: ([ct], [x]) => [reshapeTo(ct!, x!.shape)],
  batch: ([x], _mapped, { shape }, n) => [reshapeTo(x!, [n, ...shape])],
  lower: {
    as: "view",
    linear: true,
    sources: (index, view, _, [x]) => [{ input: 0, index: view.linear(x!.shape, index.linear()) }],
    lanes: () => "contiguous",
  },
});

/** The same elements in another shape. */
export function reshapeTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : apply(reshapePrimitive, [x], { shape });
}

/** Primitive behind `expand`: axes of size 1 stretch; ranks are equal. */
export const expandPrimitive: Primitive = definePrimitive<{ shape: Shape }>({
  name: "expand",
  kind: "linear",
  shape([x], { shape }) {
    if (x!.shape.length !== shape.length || x!.shape.some((n, i) => n !== shape[i] && n !== 1)) {
      throw new ShapeError("shape/expand", {
        summary: `Cannot expand ${formatAval(x!)} to [${shape.join(", ")}]: only axes of size 1 stretch`,
        facts: [["op", "expand(x, shape)"]],
        fix: "reshape the tensor so that the axes to stretch have size 1",
      });
    }
    return [{ shape, dtype: x!.dtype }];
  },
  host: ([x], { shape }) => [hostView(x!, shape, (at) => at.map((c, i) => x!.shape[i] === 1 ? 0 : c))],
  transpose: ([ct], [x]) => [collapseTo(ct!, x!.shape)],
  batch: ([x], _mapped, { shape }, n) => [expandTo(x!, [n, ...shape])],
  lower: {
    as: "view",
    sources: (index, view, _, [x]) => [{
      input: 0,
      index: view.at(x!.shape, index.coords().map((c, i) => x!.shape[i] === 1 ? "0u" : c)),
    }],
    lanes(_, [x], output) {
      if (sizeOf(x!.shape) === 1) return "splat";
      // All axes behind the last that stretches, or behind the last that does not, are one run of elements.
      const stays = output.shape.slice(output.shape.findLastIndex((n, axis) => n !== x!.shape[axis]) + 1);
      if (stays.length > 0 && sizeOf(stays) % 4 === 0) return "contiguous";
      const stretches = output.shape.slice(x!.shape.findLastIndex((n) => n !== 1) + 1);
      return stretches.length > 0 && sizeOf(stretches) % 4 === 0 ? "splat" : "scattered";
    },
  },
});

/** Stretches axes of size 1 to a shape of the same rank. */
export function expandTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : apply(expandPrimitive, [x], { shape });
}

/** Broadcasts to a shape: aligns at the last axis, then stretches. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  const padded = [...new Array<number>(Math.max(0, shape.length - x.shape.length)).fill(1), ...x.shape];
  return expandTo(reshapeTo(x, padded), shape);
}

/** Primitive behind `transpose`: output axis i is input axis `order[i]`. */
export const transposePrimitive: Primitive = definePrimitive<{ order: readonly number[] }>({
  name: "transpose",
  kind: "linear",
  shape: ([x], { order }) => [{ shape: order.map((axis) => x!.shape[axis]!), dtype: x!.dtype }],
  host: ([x], { order }) => [
    hostView(x!, order.map((axis) => x!.shape[axis]!), (at) => order.map((_, axis) => at[order.indexOf(axis)]!)),
  ],
  transpose: ([ct], _, { order }) => [transposeTo(ct!, order.map((_, axis) => order.indexOf(axis)))],
  batch: ([x], _mapped, { order }) => [transposeTo(x!, [0, ...order.map((axis) => axis + 1)])],
  lower: {
    as: "view",
    sources(index, view, { order }, [x]) {
      const coords = index.coords();
      return [{ input: 0, index: view.at(x!.shape, order.map((_, axis) => coords[order.indexOf(axis)]!)) }];
    },
    lanes({ order }, _, output) {
      const unmoved = output.shape.slice(order.findLastIndex((from, axis) => from !== axis) + 1);
      return unmoved.length > 0 && sizeOf(unmoved) % 4 === 0 ? "contiguous" : "scattered";
    },
  },
});

/** Reorders axes; the same tensor if the order is the identity. */
export function transposeTo(x: Tensor, order: readonly number[]): Tensor {
  return order.every((axis, i) => axis === i) ? x : apply(transposePrimitive, [x], { order });
}

/** Primitive behind `arange`: start + step·i along one axis. */
export const iotaPrimitive: Primitive = definePrimitive<{ shape: Shape; dtype: DType; axis: number }>({
  name: "iota",
  kind: "discrete",
  shape: (_, { shape, dtype }) => [{ shape, dtype }],
  host: (_, { shape, dtype, axis }) => [hostFill({ shape, dtype }, (i) => coordinatesOf(i, shape)[axis]!)],
  batch: (_inputs, _mapped, { shape, dtype, axis }, n) => [iota([n, ...shape], dtype, axis + 1)],
  lower: { as: "index", wgsl: (index, { axis, dtype }) => `${computeType(dtype)}(${index.coords()[axis]})` },
});

/** Each element is its own coordinate along an axis. */
export function iota(shape: Shape, dtype: DType, axis: number): Tensor {
  return apply(iotaPrimitive, [], { shape, dtype, axis });
}

/** Primitive behind `eye`: one where the last two coordinates are equal. */
export const identityPrimitive: Primitive = definePrimitive<{ shape: Shape; dtype: DType }>({
  name: "identity",
  kind: "discrete",
  shape: (_, { shape, dtype }) => [{ shape, dtype }],
  host: (_, { shape, dtype }) => [
    hostFill({ shape, dtype }, (i) => {
      const at = coordinatesOf(i, shape);
      return at.at(-1) === at.at(-2) ? 1 : 0;
    }),
  ],
  batch: (_inputs, _mapped, { shape, dtype }, n) => [apply(identityPrimitive, [], { shape: [n, ...shape], dtype })],
  lower: {
    as: "index",
    wgsl(index, { dtype }) {
      const t = computeType(dtype);
      return `select(${t}(0), ${t}(1), ${index.coords().at(-1)} == ${index.coords().at(-2)})`;
    },
  },
});

/** Primitive behind `sum`: adds over axes and drops them. Sums of f32 only are accumulated; {@linkcode sumOver} casts. */
export const sumPrimitive: Primitive = definePrimitive<{ axes: readonly number[] }>({
  name: "sum",
  kind: "linear",
  shape: ([x], { axes }) => [{ shape: x!.shape.filter((_, i) => !axes.includes(i)), dtype: x!.dtype }],
  host: ([x], { axes }) => [hostReduce(x!, axes, 0, (a, b) => a + b)],
  transpose([ct], [x], { axes }) {
    const kept = x!.shape.map((n, i) => axes.includes(i) ? 1 : n);
    return [expandTo(reshapeTo(ct!, kept), x!.shape)];
  },
  batch: ([x], _mapped, { axes }) => [apply(sumPrimitive, [x!], { axes: axes.map((axis) => axis + 1) })],
  lower: {
    as: "reduce",
    axes: ({ axes }) => axes,
    identity: (dtype) => wgslLiteral(0, dtype),
    combine: (a, b) => `(${a} + ${b})`,
  },
});

/** Sum over axes, which are dropped. Half precision is summed in f32 and rounded once; axes of size 1 cost nothing. */
export function sumOver(x: Tensor, axes: readonly number[]): Tensor {
  const summed = axes.filter((axis) => x.shape[axis] !== 1);
  const shape = x.shape.filter((_, axis) => !axes.includes(axis));
  if (summed.length === 0) return reshapeTo(x, shape);
  const wide = bytesPerElement(x.dtype) === 2 ? castTo(x, "f32") : x;
  return reshapeTo(castTo(apply(sumPrimitive, [wide], { axes: summed }), x.dtype), shape);
}

/** Sums a tensor down to a shape of the same rank whose axes are equal or 1: the transpose of expanding. */
export function collapseTo(x: Tensor, shape: Shape): Tensor {
  const axes = x.shape.map((_, i) => i).filter((i) => shape[i] === 1 && x.shape[i] !== 1);
  return reshapeTo(sumOver(x, axes), shape);
}

/** WGSL scalar type in which a dtype is computed. */
export function computeType(dtype: DType): "f32" | "i32" | "u32" | "bool" {
  return dtype === "f16" || dtype === "bf16" ? "f32" : dtype;
}

/** Primitive behind `cast`. Floats truncate toward zero when they become integers; anything but 0 becomes true. */
export const castPrimitive: Primitive = definePrimitive<{ dtype: DType }>({
  name: "cast",
  kind: "linear",
  shape: ([x], { dtype }) => [{ shape: x!.shape, dtype }],
  host: ([x], { dtype }) => [
    hostFill({ shape: x!.shape, dtype }, (i) => {
      const value = x!.data[i]!;
      if (dtype === "bool") return value !== 0 ? 1 : 0;
      return isFloat(dtype) ? value : roundTo(dtype, Math.trunc(value));
    }),
  ],
  transpose: ([ct], [x]) => [isFloat(x!.dtype) ? castTo(ct!, x!.dtype) : null],
  lower: {
    as: "expr",
    cost: 0,
    wgsl([x], { dtype }, { t, inputs }) {
      if (dtype === "bool") return inputs[0]!.includes("bool") ? x! : `(${x} != ${inputs[0]}(0))`;
      // f16 and bf16 round when they are stored; a value that stays inside a kernel keeps its f32.
      return inputs[0] === t ? x! : `${t}(${x})`;
    },
  },
});

/** Converts to another type; the same tensor if it has that type. */
export function castTo(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : apply(castPrimitive, [x], { dtype });
}
