/**
 * Kernels of the experts' backward pass to tokens and weights: one dispatch over the forward's blocks, or two that read
 * their operands from textures.
 *
 *   dh = dOut[token] downᵀ    dWeight = h·dh + downBias·dOut    dz = weight dh act'(z), and the gate's likewise
 *   dx = dz upᵀ (+ dg gateᵀ)  innerWeighted = weight h, which the gradient of `down` multiplies by dOut
 *
 * Needs x, z and the plan, nothing else of the forward. dx goes to the token's row where a token has one expert (and the
 * rows of tokens without one are cleared), to the assignment's row otherwise.
 *
 * Source: the identity for dWeight and what is kept are SonicMoE's (Guo et al. 2025, arXiv 2512.14080).
 *
 * @module
 */
import type { KernelText, Variant } from "../ops/kernel_text.ts";
import { ExpertBlock, PLAN, softwareBlockRows } from "./execute_block.ts";
import { clearRow } from "./execute_forward_kernel.ts";
import type { BlockProduct, Columns } from "./execute_product.ts";
import { activationText, type ExpertShape } from "./execute_shape.ts";
import { type ExecuteTextures, textureBlock } from "./execute_textures.ts";

/** Operands by accessor number. */
export const BACKWARD_INPUTS: readonly string[] = [
  ...["dOut", "up", "preactivation", "down", "downBias"],
  ...["weight", "expertOffsets", "rowToken", "rowAssign", "assignRow"],
  "gate",
];
/** Outputs by accessor number: dz [A, F] or [A, 2F] with the gate's first, weight · h [A, F], dx rows, dWeight [A]. */
const OUTPUTS = ["dPreactivation", "innerWeighted", "dHidden", "dWeight"] as const;

const LOAD = { dOut: "ld0", up: "ld1", preactivation: "ld2", down: "ld3", downBias: "ld4", gate: "ld10" };
const STORE = { dPreactivation: "st0", innerWeighted: "st1", dHidden: "st2", dWeight: "st3" };
/** Reads dz back. */
const READ_BACK = "rd0";

function blockOf(shape: ExpertShape, variant: Variant): ExpertBlock {
  return new ExpertBlock(shape, variant, variant === "software" ? softwareBlockRows(shape) : 16);
}

/** Elements of a row of dz. */
function preactivationSpan({ inner, body }: ExpertShape): number {
  return body === "glu" ? 2 * inner : inner;
}

/** Whether one invocation may run both products of a block. */
export function backwardFits(shape: ExpertShape, variant: Variant): boolean {
  const { width, inner, body } = shape;
  const out = { depth: inner, width };
  return blockOf(shape, variant).canRun([{ depth: width, width: inner }, ...(body === "glu" ? [out, out] : [out])]);
}

/** Generates the kernel. */
export function backwardKernel(
  shape: ExpertShape,
  { variant, target }: { readonly variant: Variant; readonly target: "token" | "assignment" },
): KernelText {
  const block = blockOf(shape, variant);
  const { width, inner } = shape;
  const clearWeight = `${STORE.dWeight}(item, 0.0);\n`;
  return block.kernel({
    inputs: BACKWARD_INPUTS,
    outputs: OUTPUTS,
    preludes: innerPreludes(block),
    dropped: target === "token" ? clearWeight + clearRow(block, STORE.dHidden) : clearWeight,
    weighted: true,
    body: block.eachRow(`${weightPart(block, "row")} = 0.0;\n`) +
      block.eachTile(inner, (columns) => innerStage(block, columns, null)) +
      "workgroupBarrier();\nstorageBarrier();\n" + sumWeightParts(block) +
      block.eachTile(width, (columns) =>
        hiddenStage(block, columns, target, (matrix, offset) => ({
          rows: {
            load: READ_BACK,
            width: inner,
            at: ({ place }) => `${place} * ${preactivationSpan(shape)}u + ${offset}u`,
          },
          matrix: { load: LOAD[matrix], layout: "T" },
        }))),
  });
}

/** First of two dispatches with operands in textures 0 (dOut) and 1 (down): dz, weight · h and dWeight. */
export function innerFromTextures(shape: ExpertShape, textures: ExecuteTextures): KernelText {
  const block = textureBlock(shape, textures);
  return block.kernel({
    inputs: BACKWARD_INPUTS,
    outputs: OUTPUTS,
    preludes: innerPreludes(block),
    dropped: `${STORE.dWeight}(item, 0.0);\n`,
    weighted: true,
    body: block.eachRow(`${weightPart(block, "row")} = 0.0;\n`) +
      block.eachTile(shape.inner, (columns) => innerStage(block, columns, textures)) +
      "workgroupBarrier();\n" + sumWeightParts(block),
  });
}

/** Second of them, with dz in texture 0 and the matrices up and gate in textures 1 and 2: dx. */
export function hiddenFromTextures(
  shape: ExpertShape,
  { target, textures }: { readonly target: "token" | "assignment"; readonly textures: ExecuteTextures },
): KernelText {
  const { width } = shape;
  const block = textureBlock(shape, textures, width);
  return block.kernel({
    inputs: BACKWARD_INPUTS,
    outputs: OUTPUTS,
    ...(target === "token" ? { dropped: clearRow(block, STORE.dHidden) } : {}),
    weighted: false,
    assigned: true,
    body: block.eachTile(width, (columns) =>
      hiddenStage(block, columns, target, (matrix, offset) => ({
        rows: { load: "tx0", texture: textures.preactivation, offset, line: ({ place }) => place },
        matrix: { load: matrix === "up" ? "tx1" : "tx2", layout: "T", texture: textures.up },
      }))),
  });
}

function innerPreludes(block: ExpertBlock): string {
  return activationText(block.shape.activation) +
    `var<workgroup> weightParts: array<f32, ${block.lanesAcross * block.rows}>;\n`;
}

/** This lane's part of a row's dWeight: the sum over its own columns. */
function weightPart(block: ExpertBlock, row: string): string {
  return `weightParts[${row} * ${block.lanesAcross}u + lane % ${block.lanesAcross}u]`;
}

/** One tile of dz, weight · h and this lane's parts of dWeight. */
function innerStage(block: ExpertBlock, columns: Columns, textures: ExecuteTextures | null): string {
  const { width, inner, body } = block.shape;
  const isGated = body === "glu";
  const span = preactivationSpan(block.shape);
  const product = block.product({
    name: "p",
    depth: width,
    columns,
    ...(textures
      ? {
        rows: { load: "tx0", texture: textures.tokens, offset: 0, line: ({ token }) => token },
        matrix: { load: "tx1", layout: "T", texture: textures.down },
      }
      : {
        rows: { load: LOAD.dOut, width, at: ({ token }) => `${token} * ${width}u` },
        matrix: { load: LOAD.down, layout: "T" },
      }),
  });
  return product + block.eachOutput("p", columns, ({ local, weight }, column, dh) => {
    const put = (store: string, at: string, value: string) => block.put(store, at, column, columns, value);
    const base = `(first + ${local}) * ${span}u`;
    const upper = `${base} + ${inner}u`;
    return `let g = ${block.get(LOAD.preactivation, base, column, columns)};\nlet open = activate(g);\n` +
      (isGated
        ? `let z = ${block.get(LOAD.preactivation, upper, column, columns)};\nlet h = open * z;\n`
        : "let h = open;\n") +
      `${weightPart(block, local)} += dot(${columns.exact ? "h" : `h * ${insideMask(column, inner)}`}, ${dh});\n` +
      `let scaled = ${weight} * ${dh};\nlet dz = scaled * ${isGated ? "z * " : ""}slope(g);\n` +
      put(STORE.dPreactivation, base, "dz") +
      (isGated ? put(STORE.dPreactivation, upper, "scaled * open") : "") +
      put(STORE.innerWeighted, `(first + ${local}) * ${inner}u`, `${weight} * h`);
  });
}

/** 1 for columns inside the row, 0 outside, where clamped loads repeat the last column. */
function insideMask(column: string, width: number): string {
  const columns = `vec4<u32>(${column}) + vec4<u32>(0u, 1u, 2u, 3u)`;
  return `select(vec4<f32>(), vec4<f32>(1.0), ${columns} < vec4<u32>(${width}u))`;
}

/** One lane a row adds the parts of dWeight in the order of lanes, and the bias's share. */
function sumWeightParts(block: ExpertBlock): string {
  const { width, bias } = block.shape;
  const [unit, suffix, product] = block.isVector(width) ? [4, "v", "dot"] : [1, "", ""];
  const [left, right] = [`${LOAD.downBias}${suffix}(expert * ${width}u + j)`, `${LOAD.dOut}${suffix}(dOutRow + j)`];
  const share = bias
    ? `let dOutRow = ${PLAN.rowToken}(first + i) * ${width}u;\n` +
      `for (var j = 0u; j < ${width}u; j += ${unit}u) { sum += ${product}(${left}${
        product ? ", " : " * "
      }${right}); }\n`
    : "";
  return `for (var i = lane; i < ${block.rows}u; i += ${block.size}u) { if (first + i < last) {\nvar sum = 0.0;\n` +
    `for (var j = 0u; j < ${block.lanesAcross}u; j++) { sum += weightParts[i * ${block.lanesAcross}u + j]; }\n` +
    `${share}${STORE.dWeight}(${PLAN.rowAssign}(first + i), sum);\n} }\n`;
}

/** One tile of dx. */
function hiddenStage(
  block: ExpertBlock,
  columns: Columns,
  target: "token" | "assignment",
  operands: (matrix: "up" | "gate", offset: number) => Pick<BlockProduct, "rows" | "matrix">,
): string {
  const { width, inner, body } = block.shape;
  function half(offset: number, matrix: "up" | "gate"): string {
    return block.product({
      name: "q",
      depth: inner,
      columns,
      ...(offset > 0 ? { accumulate: true } : {}),
      ...operands(matrix, offset),
    });
  }
  const products = body === "glu" ? half(0, "gate") + half(inner, "up") : half(0, "up");
  return products + block.eachOutput("q", columns, (row, column, value) =>
    block.put(
      STORE.dHidden,
      `${target === "token" ? row.token : row.assign} * ${width}u`,
      column,
      columns,
      value,
    ));
}
