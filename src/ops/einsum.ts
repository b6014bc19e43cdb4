/**
 * Sums of products by named axes, lowered to diagonals, sums, transpositions, elementwise and matrix products.
 *
 * @module
 */
import { broadcastTo, castTo, reshapeTo, sumOver, times, transposeTo } from "../core/arithmetic.ts";
import { type DType, promote } from "../core/dtype.ts";
import { type Shape, sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { type Label, readEquation } from "./einsum_equation.ts";
import { matmul } from "./matmul.ts";
import { sliceAxis } from "./slice.ts";

/** A tensor whose axes have distinct labels. */
interface Term {
  readonly tensor: Tensor;
  readonly labels: readonly Label[];
}

/**
 * Evaluates an einsum equation: multiplies the operands along equal labels and sums over labels the result leaves out.
 *
 * Each operand has one term of letters, one letter for each axis; a letter that occurs twice in a term takes the
 * diagonal. `...` covers axes that broadcast. Without `->` the result has the letters that occur once, alphabetically,
 * after the axes under `...`. More than two operands are joined pair by pair, the cheapest product first. Float types
 * meet in the wider one; every pairwise product is summed in f32 and rounded to it once.
 *
 * @param equation Such as `"bij,bjk->bik"`.
 * @throws {ShapeError} If the equation is malformed or does not fit the operands.
 * @throws {DTypeError} If integer operands need a matrix product.
 *
 * @example A bilinear form
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { einsum, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const form = einsum("i,ij,j->", tensor([1, 2]), tensor([[1, 0], [0, 3]]), tensor([5, 1]));
 * assertEquals(await form.item(), 11);
 * ```
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  const { inputs, output, sizes } = readEquation(equation, operands);
  const dtype = operands.reduce<DType>((wide, { dtype }) => promote(wide, dtype), operands[0]!.dtype);
  let terms: readonly Term[] = operands.map((operand, i) =>
    withoutOnes(withDiagonals({ tensor: castTo(operand, dtype), labels: inputs[i]! }), sizes)
  );
  function isNeeded(label: Label, others: readonly Term[]): boolean {
    return output.includes(label) || others.some(({ labels }) => labels.includes(label));
  }
  terms = terms.map((term, i) => summed(term, (label) => isNeeded(label, terms.toSpliced(i, 1))));
  while (terms.length > 1) {
    const [i, j] = cheapestPair(terms, sizes);
    const others = terms.filter((_, k) => k !== i && k !== j);
    terms = [...others, joined(terms[i]!, terms[j]!, (label) => isNeeded(label, others))];
  }
  const [{ tensor, labels }] = terms as [Term];
  // Labels under an ellipsis that has size 1 in every operand were never dropped, so all of the output's are here.
  return transposeTo(tensor, output.map((label) => labels.indexOf(label)));
}

/** Takes diagonals until no label repeats. */
function withDiagonals({ tensor, labels }: Term): Term {
  const second = labels.findIndex((label, axis) => labels.indexOf(label) < axis);
  if (second < 0) return { tensor, labels };
  const first = labels.indexOf(labels[second]!);
  const rest = labels.map((_, axis) => axis).filter((axis) => axis !== first && axis !== second);
  const square = transposeTo(tensor, [...rest, first, second]); // [..., n, n]
  return withDiagonals({ tensor: diagonal(square), labels: [...rest, first].map((axis) => labels[axis]!) });
}

/** Diagonals of the last two axes: [..., n, n] -> [..., n]. */
function diagonal(square: Tensor): Tensor {
  const n = square.shape.at(-1)!;
  return sliceAxis(reshapeTo(square, [...square.shape.slice(0, -2), n * n]), -1, { step: n + 1 });
}

/** Drops axes of size 1 that broadcast against a larger axis of another operand. */
function withoutOnes({ tensor, labels }: Term, sizes: ReadonlyMap<Label, number>): Term {
  const kept = labels.map((_, axis) => axis).filter((axis) => tensor.shape[axis] === sizes.get(labels[axis]!));
  return {
    tensor: reshapeTo(tensor, kept.map((axis) => tensor.shape[axis]!)),
    labels: kept.map((axis) => labels[axis]!),
  };
}

/** Sums over the axes that nothing needs any more. */
function summed({ tensor, labels }: Term, isNeeded: (label: Label) => boolean): Term {
  const axes = labels.map((_, axis) => axis).filter((axis) => !isNeeded(labels[axis]!));
  return { tensor: sumOver(tensor, axes), labels: labels.filter(isNeeded) };
}

/** The pair whose product takes the fewest multiplications; the first of equals, so that the order is repeatable. */
function cheapestPair(terms: readonly Term[], sizes: ReadonlyMap<Label, number>): readonly [number, number] {
  let best: readonly [number, number] = [0, 1];
  let least = Infinity;
  for (let i = 0; i < terms.length; i++) {
    for (let j = i + 1; j < terms.length; j++) {
      const labels = new Set([...terms[i]!.labels, ...terms[j]!.labels]);
      const cost = sizeOf([...labels].map((label) => sizes.get(label)!));
      if (cost < least) [best, least] = [[i, j], cost];
    }
  }
  return best;
}

/** Multiplies two terms and sums over the shared labels that nothing else needs. */
function joined(a: Term, b: Term, isNeeded: (label: Label) => boolean): Term {
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const batch = shared.filter(isNeeded);
  const inner = shared.filter((label) => !isNeeded(label));
  const rows = a.labels.filter((label) => !shared.includes(label));
  const columns = b.labels.filter((label) => !shared.includes(label));
  const labels = [...batch, ...rows, ...columns];
  if (inner.length === 0) {
    const left = ordered(a, [...batch, ...rows]);
    const right = ordered(b, [...batch, ...columns]);
    const shape = [...left.shape, ...right.shape.slice(batch.length)];
    const padded = [...left.shape, ...columns.map(() => 1)];
    const spaced = [...right.shape.slice(0, batch.length), ...rows.map(() => 1), ...right.shape.slice(batch.length)];
    return {
      tensor: times(broadcastTo(reshapeTo(left, padded), shape), broadcastTo(reshapeTo(right, spaced), shape)),
      labels,
    };
  }
  // An operand that already lies transposed is read that way instead of being copied.
  const transposeA = isOrdered(a, [...batch, ...inner, ...rows]) && !isOrdered(a, [...batch, ...rows, ...inner]);
  const transposeB = isOrdered(b, [...batch, ...columns, ...inner]) && !isOrdered(b, [...batch, ...inner, ...columns]);
  const left = matrices(a, batch, transposeA ? inner : rows, transposeA ? rows : inner);
  const right = matrices(b, batch, transposeB ? columns : inner, transposeB ? inner : columns);
  const product = matmul(left, right, { transposeA, transposeB });
  return { tensor: reshapeTo(product, [...sizesIn(a, [...batch, ...rows]), ...sizesIn(b, columns)]), labels };
}

function isOrdered({ labels }: Term, wanted: readonly Label[]): boolean {
  return wanted.every((label, axis) => labels[axis] === label);
}

function ordered({ tensor, labels }: Term, wanted: readonly Label[]): Tensor {
  return transposeTo(tensor, wanted.map((label) => labels.indexOf(label)));
}

function sizesIn({ tensor, labels }: Term, wanted: readonly Label[]): Shape {
  return wanted.map((label) => tensor.shape[labels.indexOf(label)]!);
}

/** Lays a term out as [...batch, outer, inner] with each of the last two groups in one axis. */
function matrices(term: Term, batch: readonly Label[], outer: readonly Label[], inner: readonly Label[]): Tensor {
  const sizes = sizesIn(term, batch);
  return reshapeTo(ordered(term, [...batch, ...outer, ...inner]), [
    ...sizes,
    sizeOf(sizesIn(term, outer)),
    sizeOf(sizesIn(term, inner)),
  ]);
}
