/**
 * Primitives of the experts' forward pass: the fused op itself, and the pre-activations alone for a backward pass that
 * finds nothing kept.
 *
 * @module
 */
import type { AdapterTraits, KernelContext, Operand } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import type { Aval } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { dispatchKernelText, variantOf } from "../ops/kernel_text.ts";
import { textureOf } from "../ops/texture_matrix.ts";
import { executeGradients } from "./execute_backward.ts";
import { forwardKernelFor } from "./execute_choice.ts";
import { dispatchCombine, rowsToCombine } from "./execute_combine.ts";
import {
  downForward,
  downFromTextures,
  FORWARD_INPUTS,
  type ForwardOptions,
  fusedFits,
  fusedForward,
  keepsInnerOnChip,
  pairFits,
  preactivationForward,
  upForward,
  upFromTextures,
} from "./execute_forward_kernel.ts";
import { outputForward, outputParts } from "./execute_output_kernel.ts";
import { executeInSteps, preactivationInSteps } from "./execute_meaning.ts";
import {
  CAST_PLACES,
  type ExecuteAttrs,
  expertShape,
  named,
  PARAMETER_PLACES,
  preactivationWidth,
  storesFours,
} from "./execute_operands.ts";
import { type ExpertShape, hasElements, labelOf } from "./execute_shape.ts";
import { type ExecuteTextures, executeTextures } from "./execute_textures.ts";

/** Workgroup memory a GPU kernel takes at most: more would leave room for too few workgroups beside it. */
const HARDWARE_WORKGROUP_BYTES = 16384;

/** What a kernel is told apart from sizes. */
function optionsFor(
  adapter: AdapterTraits,
  { perToken, keeps }: Pick<ExecuteAttrs, "perToken" | "keeps">,
): ForwardOptions {
  const variant = variantOf(adapter);
  const { workgroupBytes } = adapter;
  return {
    variant,
    target: perToken === 1 ? "token" : "assignment",
    keeps,
    workgroupBytes: variant === "software" ? workgroupBytes : Math.min(workgroupBytes, HARDWARE_WORKGROUP_BYTES),
  };
}

function preactivationAval(inputs: readonly Aval[], attrs: ExecuteAttrs): Aval {
  const shape = expertShape(named(inputs, attrs), attrs);
  return { shape: [shape.assignments, preactivationWidth(shape)], dtype: inputs[0]!.dtype };
}

/** Buffers by accessor number. */
function readable(kernel: KernelContext, attrs: ExecuteAttrs, innerRows: Operand | null): (Operand | null)[] {
  const operands: Readonly<Record<string, Operand | undefined>> = { ...named(kernel.inputs, attrs) };
  return FORWARD_INPUTS.map((name) => name === "innerRows" ? innerRows : operands[name] ?? null);
}

function buildForward(kernel: KernelContext, attrs: ExecuteAttrs): void {
  const operands = named(kernel.inputs, attrs);
  const shape = expertShape(operands, attrs);
  const [out, kept = null] = kernel.outputs as readonly [Operand, Operand?];
  const preactivation = kept !== null && kernel.isRead(kept) ? kept : null;
  const keeps = preactivation === null ? "nothing" : "preactivation";
  const options = optionsFor(kernel.adapter, { ...attrs, keeps });
  const { assignments, inner } = shape;
  const form = forwardKernelFor(shape, options, kernel.adapter);
  const parts = form === "output-resident" ? outputParts(shape) : 1;
  const rows = rowsToCombine(kernel, shape, { target: options.target, parts, out });
  const label = labelOf(shape);
  const textures = pairFits(shape, options.variant)
    ? executeTextures(shape, operands.hidden.shape[0]!, kernel.adapter)
    : null;
  if (textures !== null) {
    dispatchFromTextures(kernel, attrs, { shape, options, textures, preactivation, rows });
  } else if (form === "output-resident") {
    const text = outputForward(shape, options);
    dispatchKernelText(kernel, `experts ${label}`, text, readable(kernel, attrs, null), [rows, preactivation]);
  } else if (form === "hidden-resident") {
    const text = fusedForward(shape, options);
    const innerRows = keepsInnerOnChip(shape, options) ? null : kernel.scratch([assignments, inner], out.dtype);
    dispatchKernelText(kernel, `experts ${label}`, text, readable(kernel, attrs, null), [
      rows,
      preactivation,
      innerRows,
    ]);
  } else {
    const innerRows = kernel.scratch([assignments, inner], out.dtype);
    const inputs = readable(kernel, attrs, innerRows);
    dispatchKernelText(
      kernel,
      `experts up ${label}`,
      upForward(shape, options),
      readable(kernel, attrs, null),
      [null, preactivation, innerRows],
    );
    dispatchKernelText(kernel, `experts down ${label}`, downForward(shape, options), inputs, [rows]);
  }
  if (rows !== out) dispatchCombine(kernel, operands, attrs, rows, out);
}

/** The pair with operands in textures. */
function dispatchFromTextures(
  kernel: KernelContext,
  attrs: ExecuteAttrs,
  { shape, options, textures, preactivation, rows }: {
    readonly shape: ExpertShape;
    readonly options: ForwardOptions;
    readonly textures: ExecuteTextures;
    readonly preactivation: Operand | null;
    readonly rows: Operand;
  },
): void {
  const { hidden, up, gate, down } = named(kernel.inputs, attrs);
  const { assignments, inner } = shape;
  const label = labelOf(shape);
  const inputs = readable(kernel, attrs, null);
  // The driver copies f32 to textures only.
  const innerRows = kernel.scratch([assignments, inner], "f32");
  const operands = [
    textureOf(kernel, hidden, textures.tokens),
    textureOf(kernel, up, textures.up),
    gate ? textureOf(kernel, gate, textures.up) : null,
  ];
  const upText = upFromTextures(shape, options, textures);
  dispatchKernelText(kernel, `experts up ${label}`, upText, inputs, [null, preactivation, innerRows], operands);
  const downText = downFromTextures(shape, options, textures);
  const factors = [textureOf(kernel, innerRows, textures.inner), textureOf(kernel, down, textures.down)];
  dispatchKernelText(kernel, `experts down ${label}`, downText, inputs, [rows], factors);
}

/**
 * Primitive behind {@linkcode execute}: the operands of `execute_operands.ts` -> the result [T, D], and where they are
 * kept the pre-activations, of which rows not in use hold anything.
 */
export const executePrimitive: Primitive = definePrimitive<ExecuteAttrs>({
  name: "execute",
  kind: "composite",
  shape(inputs, attrs) {
    const out = inputs[0]!;
    return attrs.keeps === "nothing" ? [out] : [out, preactivationAval(inputs, attrs)];
  },
  expand(inputs, attrs) {
    const operands = named(inputs, attrs);
    const out = executeInSteps(operands, attrs);
    return attrs.keeps === "nothing" ? [out] : [out, preactivationInSteps(operands)];
  },
  // The pre-activations stay inside this folder, so they have no cotangent.
  vjp: ([dOut], inputs, [, kept], attrs) =>
    executeGradients(inputs, dOut!, kept ?? preactivationOf(inputs, attrs), attrs),
  lower: {
    as: "kernel",
    build: buildForward,
    prologue: CAST_PLACES,
    unstored: PARAMETER_PLACES,
    accepts(inputs, attrs, adapter) {
      const shape = expertShape(named(inputs, attrs), attrs);
      const variant = variantOf(adapter);
      return hasElements(shape) && (fusedFits(shape, variant) || pairFits(shape, variant));
    },
    packs: (inputs, attrs) => storesFours(named(inputs, attrs)),
  },
});

/** Primitive that computes the pre-activations alone. */
export const executePreactivationPrimitive: Primitive = definePrimitive<ExecuteAttrs>({
  name: "executePreactivation",
  kind: "composite",
  shape: (inputs, attrs) => [preactivationAval(inputs, attrs)],
  expand: (inputs, attrs) => [preactivationInSteps(named(inputs, attrs))],
  lower: {
    as: "kernel",
    build(kernel, attrs) {
      const shape = expertShape(named(kernel.inputs, attrs), attrs);
      const text = preactivationForward(shape, optionsFor(kernel.adapter, attrs));
      const inputs = readable(kernel, attrs, null);
      dispatchKernelText(kernel, `experts pre-activations ${labelOf(shape)}`, text, inputs, [null, kernel.outputs[0]!]);
    },
    prologue: CAST_PLACES,
    unstored: PARAMETER_PLACES,
    accepts(inputs, attrs, adapter) {
      const shape = expertShape(named(inputs, attrs), attrs);
      return hasElements(shape) && pairFits(shape, variantOf(adapter));
    },
    packs: (inputs, attrs) => storesFours(named(inputs, attrs)),
  },
});

function preactivationOf(inputs: readonly Tensor[], attrs: ExecuteAttrs): Tensor {
  return apply(executePreactivationPrimitive, inputs, attrs);
}
