/**
 * Primitives of the body `segment`: the product of each assignment's token with its expert's matrix, and the gradient of the
 * tokens. The gradients of matrices and biases are those of `execute` (`execute_backward.ts`).
 *
 * Letters: T tokens, A assignments, E experts, I inputs, O outputs.
 *
 * @module
 */
import type { KernelContext, Operand } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { dispatchKernelText, variantOf } from "../ops/kernel_text.ts";
import { textureOf } from "../ops/texture_matrix.ts";
import { expertBiasGradientPrimitive, expertMatrixGradientPrimitive } from "./execute_backward.ts";
import { dispatchCombine } from "./execute_combine.ts";
import type { ExpertRows } from "./execute_gradient_kernel.ts";
import { segmentsInSteps, segmentTokensInSteps } from "./execute_meaning.ts";
import {
  SEGMENT_INPUTS,
  segmentFits,
  segmentKernel,
  type SegmentProduct,
  type SegmentShape,
  segmentTextures,
} from "./segment_kernel.ts";

/** Operands by name, all floats f32; a primitive's list has them in this order, without those that are missing. */
interface SegmentOperands<X> {
  /** What is multiplied: tokens [T, I], or by the gradient the result's cotangent [A, O]. */
  readonly rows: X;
  /** [E, I, O]. */
  readonly matrix: X;
  /** u32[E + 1]. */
  readonly expertOffsets: X;
  /** u32[A]. */
  readonly rowToken: X;
  /** u32[A]. */
  readonly rowAssign: X;
  /** u32[A]. */
  readonly assignRow: X;
  /** u32[T + 1], where tokens have different numbers of assignments. */
  readonly tokenOffsets?: X;
  /** [E, O]. */
  readonly bias?: X;
}

interface SegmentAttrs {
  /** Assignments of every token, or null where `tokenOffsets` has them. */
  readonly perToken: number | null;
  readonly bias: boolean;
}

interface TokenAttrs extends SegmentAttrs {
  /** T. */
  readonly tokens: number;
}

function namesOf({ perToken, bias }: SegmentAttrs): readonly (keyof SegmentOperands<unknown>)[] {
  return [
    ...["rows", "matrix", "expertOffsets", "rowToken", "rowAssign", "assignRow"] as const,
    ...(perToken === null ? ["tokenOffsets"] as const : []),
    ...(bias ? ["bias"] as const : []),
  ];
}

function named<X>(list: readonly X[], attrs: SegmentAttrs): SegmentOperands<X> {
  return Object.fromEntries(namesOf(attrs).map((name, i) => [name, list[i]!])) as unknown as SegmentOperands<X>;
}

function listed<X>(operands: Partial<SegmentOperands<X>>, attrs: SegmentAttrs): (X | null)[] {
  return namesOf(attrs).map((name) => operands[name] ?? null);
}

type Sized = { readonly shape: readonly number[] };

function shapeOf({ matrix, rowToken }: SegmentOperands<Sized>, pass: "forward" | "backward"): SegmentShape {
  const [experts, inputs, outputs] = matrix.shape as readonly [number, number, number];
  const [depth, width] = pass === "forward" ? [inputs, outputs] : [outputs, inputs];
  return { assignments: rowToken.shape[0]!, experts, depth, width };
}

function hasElements({ assignments, experts, depth, width }: SegmentShape): boolean {
  return assignments * experts * depth * width > 0;
}

function dispatchProduct(
  kernel: KernelContext,
  operands: SegmentOperands<Operand>,
  product: Pick<SegmentProduct, "pass" | "target" | "bias">,
  out: Operand,
): void {
  const shape = shapeOf(operands, product.pass);
  const { assignments, experts, depth, width } = shape;
  const label = `segments ${product.pass} ${assignments} rows, ${experts} x ${depth}x${width}`;
  const { rows, matrix } = operands;
  const layouts = segmentTextures(shape, [rows.shape, matrix.shape], kernel.adapter);
  const textures = layouts === null
    ? []
    : [textureOf(kernel, rows, layouts.rows), textureOf(kernel, matrix, layouts.matrix)];
  const text = segmentKernel(shape, { ...product, variant: variantOf(kernel.adapter), textures: layouts });
  const byName: Readonly<Record<string, Operand | undefined>> = { ...operands };
  dispatchKernelText(kernel, label, text, SEGMENT_INPUTS.map((name) => byName[name] ?? null), [out], textures);
}

/** The product of each assignment's token with its expert's matrix: operands as named -> [A, O]. */
export function multiplySegments(operands: SegmentOperands<Tensor>, perToken: number | null): Tensor {
  const attrs: SegmentAttrs = { perToken, bias: operands.bias !== undefined };
  return apply(segmentsPrimitive, listed(operands, attrs) as Tensor[], attrs);
}

/** Σ leftᵀ right over each expert's rows. */
function matrixGradient(left: Tensor, right: Tensor, plan: SegmentOperands<Tensor>): Tensor {
  const { expertOffsets, rowToken, rowAssign } = plan;
  const side = (by: "token" | "assign", { shape }: Tensor): ExpertRows => ({
    by,
    width: shape[1]!,
    offset: 0,
    stride: shape[1]!,
  });
  return apply(expertMatrixGradientPrimitive, [left, right, expertOffsets, rowToken, rowAssign], {
    left: side("token", left),
    right: side("assign", right),
  });
}

function biasGradient(dOut: Tensor, { expertOffsets, rowToken, rowAssign }: SegmentOperands<Tensor>): Tensor {
  const width = dOut.shape[1]!;
  // Nothing is weighted, so the operand in the place of the weights is not read.
  return apply(expertBiasGradientPrimitive, [dOut, dOut, expertOffsets, rowToken, rowAssign], {
    right: { by: "assign", width, offset: 0, stride: width },
    scale: "none",
  });
}

/** Primitive of the products. */
export const segmentsPrimitive: Primitive = definePrimitive<SegmentAttrs>({
  name: "segments",
  kind: "composite",
  shape(inputs, attrs) {
    const { matrix, rowToken } = named(inputs, attrs);
    return [{ shape: [rowToken.shape[0]!, matrix.shape[2]!], dtype: "f32" }];
  },
  expand(inputs, attrs) {
    const operands = named(inputs, attrs);
    return [segmentsInSteps([operands.rows, operands.matrix, operands.bias], operands, operands.assignRow)];
  },
  vjp([dOut], inputs, _outputs, { perToken, bias }) {
    const operands = named(inputs, { perToken, bias });
    const { bias: _bias, ...plan } = operands;
    const own: TokenAttrs = { perToken, bias: false, tokens: operands.rows.shape[0]! };
    return listed({
      rows: apply(segmentTokensPrimitive, listed({ ...plan, rows: dOut! }, own) as Tensor[], own),
      matrix: matrixGradient(operands.rows, dOut!, operands),
      ...(bias ? { bias: biasGradient(dOut!, operands) } : {}),
    }, { perToken, bias });
  },
  lower: {
    as: "kernel",
    build(kernel, attrs) {
      const product = { pass: "forward", target: "assignment", bias: attrs.bias } as const;
      dispatchProduct(kernel, named(kernel.inputs, attrs), product, kernel.outputs[0]!);
    },
    prologue: [0, 1],
    epilogue: true,
    accepts(inputs, attrs, adapter) {
      const shape = shapeOf(named(inputs, attrs), "forward");
      return hasElements(shape) && segmentFits(shape, variantOf(adapter));
    },
  },
});

/** Primitive of the gradient of the tokens: the same operands with the result's cotangent as rows, no bias -> [T, I]. */
export const segmentTokensPrimitive: Primitive = definePrimitive<TokenAttrs>({
  name: "segmentTokens",
  kind: "composite",
  shape: ([, matrix], { tokens }) => [{ shape: [tokens, matrix!.shape[1]!], dtype: "f32" }],
  expand(inputs, attrs) {
    const operands = named(inputs, attrs);
    return [segmentTokensInSteps(operands.rows, operands.matrix, operands, attrs.tokens)];
  },
  vjp([ct], inputs, _outputs, attrs) {
    const operands = named(inputs, attrs);
    return listed({
      rows: multiplySegments({ ...operands, rows: ct! }, attrs.perToken),
      matrix: matrixGradient(ct!, operands.rows, operands),
    }, attrs);
  },
  lower: {
    as: "kernel",
    build(kernel, attrs) {
      const operands = named(kernel.inputs, attrs);
      const [out] = kernel.outputs as [Operand];
      const shape = shapeOf(operands, "backward");
      const target = attrs.perToken === 1 ? "token" : "assignment";
      const rows = target === "token" ? out : kernel.scratch([shape.assignments, shape.width], "f32");
      dispatchProduct(kernel, operands, { pass: "backward", target, bias: false }, rows);
      if (rows !== out) dispatchCombine(kernel, operands, attrs, rows, out);
    },
    prologue: [0, 1],
    accepts(inputs, attrs, adapter) {
      const shape = shapeOf(named(inputs, attrs), "backward");
      return hasElements(shape) && segmentFits(shape, variantOf(adapter));
    },
  },
});
