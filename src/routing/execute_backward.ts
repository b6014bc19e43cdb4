/**
 * Primitives of the experts' backward pass: to tokens and weights in one kernel, and the gradients of parameters as sums
 * over each expert's rows, each a node of its own so that a gradient nobody asks for is not computed.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { KernelContext, Operand, TextureOperand } from "../core/kernel.ts";
import { definePrimitive, type MaybeTensors, type Primitive } from "../core/primitive.ts";
import { apply, applyAll, type Tensor } from "../core/tensor.ts";
import { dispatchKernelText, variantOf } from "../ops/kernel_text.ts";
import { type TextureMatrix, textureOf } from "../ops/texture_matrix.ts";
import { matmulSplitSum } from "../ops/matmul_kernel.ts";
import {
  BACKWARD_INPUTS,
  backwardFits,
  backwardKernel,
  hiddenBackward,
  innerBackward,
  weightPartsOf,
} from "./execute_backward_kernel.ts";
import { backwardKernelFor } from "./execute_choice.ts";
import { dispatchCombine, rowsToCombine } from "./execute_combine.ts";
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
  PARAMETER_PLACES,
  preactivationWidth,
  storesFours,
} from "./execute_operands.ts";
import { outputBackward, outputParts } from "./execute_output_kernel.ts";
import { hasElements, labelOf } from "./execute_shape.ts";
import { executeTextures } from "./execute_textures.ts";

/**
 * The texture of an operand. Half precision is for saving memory, and textures are f32: what the forward pass has put into
 * one is not kept for the backward pass then, but filled again.
 */
function backwardTexture(kernel: KernelContext, operand: Operand, matrix: TextureMatrix): TextureOperand {
  return textureOf(kernel, operand, matrix, operand.dtype === "f32" ? "shared" : "again");
}

function buildBackward(kernel: KernelContext, attrs: ExecuteAttrs): void {
  const operands = named(kernel.inputs, attrs);
  const shape = expertShape(operands, attrs);
  const [dOut, preactivation] = kernel.inputs.slice(-2) as [Operand, Operand];
  const [dHidden, dWeight, dPreactivation, innerWeighted] = kernel.outputs as [Operand, Operand, Operand, Operand];
  const target = attrs.perToken === 1 ? "token" : "assignment";
  const variant = variantOf(kernel.adapter);
  const textures = executeTextures(shape, dOut.shape[0]!, kernel.adapter);
  const form = backwardKernelFor(shape, kernel.adapter);
  const parts = form === "output-resident" ? outputParts(shape) : 1;
  const { assignments } = shape;
  const rows = rowsToCombine(kernel, shape, { target, parts, out: dHidden });
  const byName: Readonly<Record<string, Operand | undefined>> = { ...operands, dOut, preactivation };
  const inputs = BACKWARD_INPUTS.map((name) => byName[name] ?? null);
  if (textures === null && form === "output-resident") {
    const text = outputBackward(shape, { target });
    const weights = parts > 1 ? kernel.scratch([parts, assignments], "f32") : dWeight;
    const found = [dPreactivation, innerWeighted, rows, weights];
    dispatchKernelText(kernel, `experts backward ${labelOf(shape)}`, text, inputs, found);
    if (weights !== dWeight) {
      const sum = matmulSplitSum(parts, assignments);
      dispatchKernelText(kernel, `experts backward to weights ${assignments}`, sum, [weights], [dWeight]);
    }
  } else if (textures === null && form === "pair") {
    const weightParts = kernel.scratch([assignments, weightPartsOf(shape, null)], "f32");
    const first = [dPreactivation, innerWeighted, null, null, weightParts];
    dispatchKernelText(kernel, `experts backward ${labelOf(shape)}`, innerBackward(shape, null), inputs, first);
    const text = hiddenBackward(shape, { target, textures: null });
    const second = BACKWARD_INPUTS.map((name, i) =>
      name === "preactivation" ? dPreactivation : name === "weightParts" ? weightParts : inputs[i]!
    );
    dispatchKernelText(kernel, `experts backward to tokens ${labelOf(shape)}`, text, second, [
      null,
      null,
      rows,
      dWeight,
    ]);
  } else if (textures === null) {
    const text = backwardKernel(shape, { variant, target });
    dispatchKernelText(kernel, `experts backward ${labelOf(shape)}`, text, inputs, [
      dPreactivation,
      innerWeighted,
      rows,
      dWeight,
    ]);
  } else {
    const { up, gate, down } = operands;
    const downMatrix = backwardTexture(kernel, down, textures.down);
    const tokens = backwardTexture(kernel, dOut, textures.tokens);
    const weightParts = kernel.scratch([assignments, weightPartsOf(shape, textures)], "f32");
    dispatchKernelText(
      kernel,
      `experts backward ${labelOf(shape)}`,
      innerBackward(shape, textures),
      inputs,
      [dPreactivation, innerWeighted, null, null, weightParts],
      [tokens, downMatrix],
    );
    const dz = backwardTexture(kernel, dPreactivation, textures.preactivation);
    const upMatrix = backwardTexture(kernel, up, textures.up);
    const gateMatrix = gate ? backwardTexture(kernel, gate, textures.up) : null;
    dispatchKernelText(
      kernel,
      `experts backward to tokens ${labelOf(shape)}`,
      hiddenBackward(shape, { target, textures }),
      BACKWARD_INPUTS.map((name, i) => name === "weightParts" ? weightParts : inputs[i]!),
      [null, null, rows, dWeight],
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
    const { dtype } = inputs[0]!;
    const { assignments, inner } = shape;
    return [
      inputs[0]!,
      { shape: [assignments], dtype: "f32" },
      { shape: [assignments, preactivationWidth(shape)], dtype },
      { shape: [assignments, inner], dtype },
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
    unstored: PARAMETER_PLACES,
    accepts(inputs, attrs, adapter) {
      const shape = expertShape(named(inputs, attrs), attrs);
      return hasElements(shape) && backwardFits(shape, variantOf(adapter));
    },
    packs: (inputs, attrs) => storesFours(named(inputs, attrs)),
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
      const variant = variantOf(kernel.adapter);
      const parts = gradientParts(kernel.inputs[3]!.shape[0]!, { experts, left, right }, variant);
      const layouts = gradientTextures({ experts, left, right, parts }, kernel.inputs, kernel.adapter);
      const textures = layouts === null ? [] : [
        backwardTexture(kernel, kernel.inputs[0]!, layouts.left),
        backwardTexture(kernel, kernel.inputs[1]!, layouts.right),
      ];
      const text = matrixGradientKernel({ experts, left, right, parts, textures: layouts }, variant);
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
      const text = biasGradientKernel(experts, right, scale, variantOf(kernel.adapter));
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
  const { up, down, gate, upBias, downBias, gateBias } = operands;
  const shape = expertShape(operands, attrs);
  const { width, inner } = shape;
  const stride = preactivationWidth(shape);
  const byToken: ExpertRows = { by: "token", width, offset: 0, stride: width };
  const ofGate: ExpertRows = { by: "row", width: inner, offset: 0, stride };
  const ofUp: ExpertRows = { by: "row", width: inner, offset: stride - inner, stride };
  const ofInner: ExpertRows = { by: "row", width: inner, offset: 0, stride: inner };
  function matrix(of: Tensor, left: Tensor, right: Tensor, sides: MatrixAttrs): Tensor {
    return castTo(
      apply(expertMatrixGradientPrimitive, [left, right, expertOffsets, rowToken, rowAssign], sides),
      of.dtype,
    );
  }
  function vector(of: Tensor, right: Tensor, side: BiasAttrs): Tensor {
    const found = apply(expertBiasGradientPrimitive, [right, weight, expertOffsets, rowToken, rowAssign], side);
    return castTo(found, of.dtype);
  }
  return {
    up: matrix(up, hidden, dPreactivation, { left: byToken, right: ofUp }),
    down: matrix(down, innerWeighted, dOut, { left: ofInner, right: byToken }),
    ...(gate ? { gate: matrix(gate, hidden, dPreactivation, { left: byToken, right: ofGate }) } : {}),
    ...(upBias ? { upBias: vector(upBias, dPreactivation, { right: ofUp, scale: "none" }) } : {}),
    ...(downBias ? { downBias: vector(downBias, dOut, { right: byToken, scale: "weight" }) } : {}),
    ...(gateBias ? { gateBias: vector(gateBias, dPreactivation, { right: ofGate, scale: "none" }) } : {}),
  };
}
