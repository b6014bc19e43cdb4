/**
 * Primitives of the experts' backward pass: to tokens and weights in one kernel, and the gradients of parameters as sums
 * over each expert's rows, each a node of its own so that a gradient nobody asks for is not computed.
 *
 * @module
 */
import type { KernelContext, Operand } from "../core/kernel.ts";
import { definePrimitive, type MaybeTensors, type Primitive } from "../core/primitive.ts";
import type { Aval } from "../core/shape.ts";
import { apply, applyAll, type Tensor } from "../core/tensor.ts";
import { dispatchKernelText, variantOf } from "../ops/kernel_text.ts";
import { textureOf } from "../ops/texture_matrix.ts";
import { matmulSplitSum } from "../ops/matmul_kernel.ts";
import {
  BACKWARD_INPUTS,
  backwardFits,
  backwardKernel,
  hiddenFromTextures,
  innerFromTextures,
} from "./execute_backward_kernel.ts";
import { dispatchCombine } from "./execute_combine.ts";
import {
  biasGradientFits,
  biasGradientKernel,
  type ExpertRows,
  gradientParts,
  gradientTextures,
  matrixGradientKernel,
} from "./execute_gradient_kernel.ts";
import { biasGradientInSteps, dataGradientsInSteps, matrixGradientInSteps } from "./execute_meaning.ts";
import {
  CAST_PLACES,
  type ExecuteAttrs,
  type ExecuteOperands,
  expertShape,
  listed,
  named,
  type OperandName,
  operandNames,
  preactivationWidth,
} from "./execute_operands.ts";
import { hasElements, labelOf } from "./execute_shape.ts";
import { executeTextures } from "./execute_textures.ts";

function buildBackward(kernel: KernelContext, attrs: ExecuteAttrs): void {
  const operands = named(kernel.inputs, attrs);
  const shape = expertShape(operands, attrs);
  const [dOut, preactivation] = kernel.inputs.slice(-2) as [Operand, Operand];
  const [dHidden, dWeight, dPreactivation, innerWeighted] = kernel.outputs as [Operand, Operand, Operand, Operand];
  const target = attrs.perToken === 1 ? "token" : "assignment";
  const rows = target === "token" ? dHidden : kernel.scratch([shape.assignments, shape.width], "f32");
  const byName: Readonly<Record<string, Operand | undefined>> = { ...operands, dOut, preactivation };
  const inputs = BACKWARD_INPUTS.map((name) => byName[name] ?? null);
  const textures = executeTextures(shape, dOut.shape[0]!, kernel.adapter);
  if (textures === null) {
    const text = backwardKernel(shape, { variant: variantOf(kernel.adapter), target });
    dispatchKernelText(kernel, `experts backward ${labelOf(shape)}`, text, inputs, [
      dPreactivation,
      innerWeighted,
      rows,
      dWeight,
    ]);
  } else {
    const { up, gate, down } = operands;
    const downMatrix = textureOf(kernel, down, textures.down);
    const tokens = textureOf(kernel, dOut, textures.tokens);
    dispatchKernelText(
      kernel,
      `experts backward ${labelOf(shape)}`,
      innerFromTextures(shape, textures),
      inputs,
      [dPreactivation, innerWeighted, null, dWeight],
      [tokens, downMatrix],
    );
    const dz = textureOf(kernel, dPreactivation, textures.preactivation);
    const upMatrix = textureOf(kernel, up, textures.up);
    const gateMatrix = gate ? textureOf(kernel, gate, textures.up) : null;
    dispatchKernelText(
      kernel,
      `experts backward to tokens ${labelOf(shape)}`,
      hiddenFromTextures(shape, { target, textures }),
      inputs,
      [null, null, rows],
      [dz, upMatrix, gateMatrix],
    );
  }
  if (rows !== dHidden) dispatchCombine(kernel, operands, attrs, rows, dHidden);
}

/**
 * Primitive of the gradients of tokens and weights: the operands, the cotangent of the result and the pre-activations ->
 * dHidden [T, D], dWeight [A], and by row the cotangent of the pre-activations and weight · h, which the gradients of
 * parameters need. By its meaning it depends on the operands and the cotangent alone.
 */
export const executeDataGradientPrimitive: Primitive = definePrimitive<ExecuteAttrs>({
  name: "executeDataGradient",
  kind: "composite",
  shape(inputs, attrs) {
    const shape = expertShape(named(inputs, attrs), attrs);
    const f32 = (...sizes: number[]): Aval => ({ shape: sizes, dtype: "f32" });
    const { assignments, inner } = shape;
    return [
      inputs[0]!,
      f32(assignments),
      f32(assignments, preactivationWidth(shape)),
      f32(assignments, inner),
    ];
  },
  expand(inputs, attrs) {
    const found = dataGradientsInSteps(named(inputs, attrs), inputs.at(-2)!, attrs);
    return [found.dHidden, found.dWeight, found.dPreactivation, found.innerWeighted];
  },
  lower: {
    as: "kernel",
    build: buildBackward,
    prologue: CAST_PLACES,
    accepts(inputs, attrs, adapter) {
      const shape = expertShape(named(inputs, attrs), attrs);
      return hasElements(shape) && backwardFits(shape, variantOf(adapter));
    },
  },
});

interface MatrixAttrs {
  readonly left: ExpertRows;
  readonly right: ExpertRows;
}

/** Primitive Σ leftᵀ right over each expert's rows: left, right, expertOffsets, rowToken, rowAssign -> [E, left, right]. */
export const expertMatrixGradientPrimitive: Primitive = definePrimitive<MatrixAttrs>({
  name: "expertMatrixGradient",
  kind: "composite",
  shape: ([, , expertOffsets], { left, right }) => [
    { shape: [expertOffsets!.shape[0]! - 1, left.width, right.width], dtype: "f32" },
  ],
  expand: ([left, right, expertOffsets, rowToken, rowAssign], sides) => [
    matrixGradientInSteps([left!, right!], sides, {
      expertOffsets: expertOffsets!,
      rowToken: rowToken!,
      rowAssign: rowAssign!,
    }),
  ],
  lower: {
    as: "kernel",
    build(kernel, { left, right }) {
      const [gradient] = kernel.outputs as [Operand];
      const [experts, m, n] = gradient.shape as readonly [number, number, number];
      const parts = gradientParts(kernel.inputs[3]!.shape[0]!);
      const layouts = gradientTextures({ experts, left, right, parts }, kernel.inputs, kernel.adapter);
      const textures = layouts === null
        ? []
        : [textureOf(kernel, kernel.inputs[0]!, layouts.left), textureOf(kernel, kernel.inputs[1]!, layouts.right)];
      const text = matrixGradientKernel({ experts, left, right, parts, textures: layouts }, variantOf(kernel.adapter));
      const label = `experts gradient ${experts} x ${m}x${n}`;
      if (parts === 1) return dispatchKernelText(kernel, label, text, kernel.inputs, [gradient], textures);
      const partial = kernel.scratch([parts, experts, m, n], "f32");
      dispatchKernelText(kernel, label, text, kernel.inputs, [partial], textures);
      dispatchKernelText(kernel, `${label} parts`, matmulSplitSum(parts, experts * m * n), [partial], [gradient]);
    },
    prologue: [0, 1],
    accepts: ([, , expertOffsets, rowToken], { left, right }) =>
      (expertOffsets!.shape[0]! - 1) * rowToken!.shape[0]! * left.width * right.width > 0,
  },
});

interface BiasAttrs {
  readonly right: ExpertRows;
  readonly scale: "none" | "weight";
}

/** Primitive Σ right (· weight) over each expert's rows: right, weight, expertOffsets, rowToken, rowAssign -> [E, right]. */
export const expertBiasGradientPrimitive: Primitive = definePrimitive<BiasAttrs>({
  name: "expertBiasGradient",
  kind: "composite",
  shape: ([, , expertOffsets], { right }) => [
    { shape: [expertOffsets!.shape[0]! - 1, right.width], dtype: "f32" },
  ],
  expand([right, weight, expertOffsets, rowToken, rowAssign], attrs) {
    const tables = { expertOffsets: expertOffsets!, rowToken: rowToken!, rowAssign: rowAssign! };
    return [biasGradientInSteps(right!, attrs.right, tables, attrs.scale === "none" ? undefined : weight!)];
  },
  lower: {
    as: "kernel",
    build(kernel, { right, scale }) {
      const [gradient] = kernel.outputs as [Operand];
      const [experts, width] = gradient.shape as readonly [number, number];
      const text = biasGradientKernel(experts, right, scale);
      dispatchKernelText(kernel, `experts bias gradient ${experts}x${width}`, text, kernel.inputs, [gradient]);
    },
    accepts: ([, , expertOffsets, rowToken], { right }) =>
      (expertOffsets!.shape[0]! - 1) * rowToken!.shape[0]! * right.width > 0 && biasGradientFits(rowToken!.shape[0]!),
  },
});

/**
 * Cotangents of the fused op's operands.
 *
 * @param preactivation As the forward pass kept it, or computed again.
 */
export function executeGradients(
  inputs: readonly Tensor[],
  dOut: Tensor,
  preactivation: Tensor,
  attrs: ExecuteAttrs,
): MaybeTensors {
  const operands = named(inputs, attrs);
  const [dHidden, dWeight, dPreactivation, innerWeighted] = applyAll(
    executeDataGradientPrimitive,
    [...inputs.slice(0, operandNames(attrs).length), dOut, preactivation],
    attrs,
  ) as [Tensor, Tensor, Tensor, Tensor];
  const found = {
    hidden: dHidden,
    weight: dWeight,
    ...parameterGradients(operands, dOut, dPreactivation, innerWeighted, attrs),
  };
  return listed(found, attrs);
}

function parameterGradients(
  operands: ExecuteOperands<Tensor>,
  dOut: Tensor,
  dPreactivation: Tensor,
  innerWeighted: Tensor,
  attrs: ExecuteAttrs,
): { readonly [K in OperandName]?: Tensor } {
  const { hidden, weight, expertOffsets, rowToken, rowAssign } = operands;
  const shape = expertShape(operands, attrs);
  const { width, inner, bias } = shape;
  const stride = preactivationWidth(shape);
  const byToken: ExpertRows = { by: "token", width, offset: 0, stride: width };
  const ofGate: ExpertRows = { by: "row", width: inner, offset: 0, stride };
  const ofUp: ExpertRows = { by: "row", width: inner, offset: stride - inner, stride };
  const ofInner: ExpertRows = { by: "row", width: inner, offset: 0, stride: inner };
  function matrix(left: Tensor, right: Tensor, sides: MatrixAttrs): Tensor {
    return apply(expertMatrixGradientPrimitive, [left, right, expertOffsets, rowToken, rowAssign], sides);
  }
  function vector(right: Tensor, side: BiasAttrs): Tensor {
    return apply(expertBiasGradientPrimitive, [right, weight, expertOffsets, rowToken, rowAssign], side);
  }
  const isGated = attrs.body === "glu";
  return {
    up: matrix(hidden, dPreactivation, { left: byToken, right: ofUp }),
    down: matrix(innerWeighted, dOut, { left: ofInner, right: byToken }),
    ...(isGated ? { gate: matrix(hidden, dPreactivation, { left: byToken, right: ofGate }) } : {}),
    ...(bias
      ? {
        upBias: vector(dPreactivation, { right: ofUp, scale: "none" }),
        downBias: vector(dOut, { right: byToken, scale: "weight" }),
      }
      : {}),
    ...(isGated && bias ? { gateBias: vector(dPreactivation, { right: ofGate, scale: "none" }) } : {}),
  };
}
