/**
 * Triangles of matrices.
 *
 * @module
 */
import { ShapeError } from "../core/errors.ts";
import { hostView } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { formatAval } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";

interface TriangleAttrs {
  /** Which side of the diagonal to keep, with the diagonal itself. */
  readonly keep: "lower" | "upper";
  /** How far to the right of the main diagonal; negative is to the left. */
  readonly diagonal: number;
}

/** Primitive behind {@linkcode tril} and {@linkcode triu}: zero on the other side of a diagonal. */
export const trianglePrimitive: Primitive = definePrimitive<TriangleAttrs>({
  name: "triangle",
  kind: "linear",
  shape: ([x]) => [x!],
  host: ([x], { keep, diagonal }) => [hostView(x!, x!.shape, (at) => {
    const distance = at.at(-1)! - at.at(-2)! - diagonal;
    return (keep === "lower" ? distance <= 0 : distance >= 0) ? at : null;
  })],
  transpose: ([ct], _, attrs) => [apply(trianglePrimitive, [ct!], attrs)],
  batch: ([x], _mapped, attrs) => [apply(trianglePrimitive, [x!], attrs)],
  lower: {
    as: "view",
    sources(index, _view, { keep, diagonal }) {
      const [row, column] = index.coords().slice(-2);
      const distance = `i32(${column}) - i32(${row})`;
      return [{ input: 0, index, when: `(${distance} ${keep === "lower" ? "<=" : ">="} ${diagonal})` }];
    },
  },
});

function triangle(op: string, x: Tensor, attrs: TriangleAttrs): Tensor {
  if (x.shape.length >= 2 && Number.isInteger(attrs.diagonal)) return apply(trianglePrimitive, [x], attrs);
  throw new ShapeError("shape/triangle", {
    summary: x.shape.length < 2
      ? `Cannot take a triangle of ${formatAval(x)}: it is not a matrix`
      : `Cannot take a triangle of ${formatAval(x)}: diagonal ${attrs.diagonal} is not a whole number`,
    facts: [["op", `${op}(x, diagonal)`]],
    fix: "pass a tensor with two or more axes and a whole number",
    details: { shape: x.shape, diagonal: attrs.diagonal },
  });
}

/**
 * Keeps the lower triangle of each matrix `[..., rows, columns]` and makes the rest zero, whatever it was.
 *
 * @param diagonal Last diagonal kept: 0 is the main one, 1 the one right of it, -1 the one left of it.
 * @throws {ShapeError} If the tensor has fewer than two axes.
 *
 * @example A causal mask
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, ones, tril } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await tril(ones([2, 2])).data()], [1, 0, 1, 1]);
 * ```
 */
export function tril(x: Tensor, diagonal: number = 0): Tensor {
  return triangle("tril", x, { keep: "lower", diagonal });
}

/**
 * Keeps the upper triangle of each matrix `[..., rows, columns]` and makes the rest zero, whatever it was.
 *
 * @param diagonal First diagonal kept, counted as in {@linkcode tril}.
 * @throws {ShapeError} If the tensor has fewer than two axes.
 */
export function triu(x: Tensor, diagonal: number = 0): Tensor {
  return triangle("triu", x, { keep: "upper", diagonal });
}
