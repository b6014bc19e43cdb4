/**
 * Kernels of the experts' backward pass to tokens and weights: one dispatch over the forward's blocks, or two: on software
 * adapters if they read their operands from textures, on hardware where experts have rows enough for larger blocks.
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
import { ExpertBlock, hardwareBlockRows, PLAN, softwareBlockRows } from "./execute_block.ts";
import { clearRow } from "./execute_forward_kernel.ts";
import type { BlockProduct, BlockRow, Columns } from "./execute_product.ts";
import { activationText, type ExpertShape } from "./execute_shape.ts";
import { type ExecuteTextures, textureBlock } from "./execute_textures.ts";

/** Operands by accessor number. */
export const BACKWARD_INPUTS: readonly string[] = [
  ...["dOut", "up", "preactivation", "down", "downBias"],
  ...["weight", "expertOffsets", "rowToken", "rowAssign", "assignRow"],
  ...["gate", "weightParts"],
];
/**
 * Outputs by accessor number: dz [A, F] or [A, 2F] with the gate's first, weight · h [A, F], dx rows, dWeight [A], and
 * what the first of two dispatches leaves for the second to add up to dWeight.
 */
export const BACKWARD_OUTPUTS: readonly string[] = [
  ...["dPreactivation", "innerWeighted", "dHidden", "dWeight", "weightParts"],
];

/** Accessors of what is read. */
export const BACKWARD_LOAD = {
  dOut: "ld0",
  up: "ld1",
  preactivation: "ld2",
  down: "ld3",
  downBias: "ld4",
  gate: "ld10",
};
/** Reads the parts of dWeight that the first of two dispatches stored. */
const LOAD_PART = "ld11";
/** Accessors of what is stored. */
export const BACKWARD_STORE = {
  dPreactivation: "st0",
  innerWeighted: "st1",
  dHidden: "st2",
  dWeight: "st3",
  weightParts: "st4",
};
/** Reads dz back. */
export const READ_BACK = "rd0";

function blockOf(shape: ExpertShape, variant: Variant): ExpertBlock {
  return new ExpertBlock(shape, variant, variant === "software" ? softwareBlockRows(shape) : 16);
}

/** Elements of a row of dz. */
export function preactivationSpan({ inner, body }: ExpertShape): number {
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
  /** Part of a row's dWeight: the sum over the columns of one of the lanes side by side. */
  const part = (row: string, j: string) => `weightParts[${row} * ${block.lanesAcross}u + ${j}]`;
  const own = (row: string) => part(row, `lane % ${block.lanesAcross}u`);
  return block.kernel({
    inputs: BACKWARD_INPUTS,
    outputs: BACKWARD_OUTPUTS,
    preludes: activationText(shape.activation) +
      `var<workgroup> weightParts: array<f32, ${block.lanesAcross * block.rows}>;\n`,
    dropped: clearing(block, target),
    weighted: true,
    body: block.eachRow(`${own("row")} = 0.0;\n`) +
      block.eachTile(
        inner,
        (columns) => innerStage(block, columns, null, ({ local }, share) => `${own(local)} += ${share};\n`),
      ) +
      "workgroupBarrier();\nstorageBarrier();\n" +
      sumWeightParts(block, `for (var j = 0u; j < ${block.lanesAcross}u; j++) { sum += ${part("i", "j")}; }\n`) +
      block.eachTile(width, (columns) =>
        hiddenStage(block, columns, target, (matrix, offset) => ({
          rows: {
            load: READ_BACK,
            width: inner,
            at: ({ place }) => `${place} * ${preactivationSpan(shape)}u + ${offset}u`,
          },
          matrix: { load: BACKWARD_LOAD[matrix], layout: "T" },
        }))),
  });
}

/** The block of the first of two dispatches. */
function innerBlock(shape: ExpertShape, textures: ExecuteTextures | null): ExpertBlock {
  const { inner } = shape;
  return textures === null
    ? new ExpertBlock(shape, "hardware", hardwareBlockRows(shape, inner), inner)
    : textureBlock(shape, textures, inner);
}

/** Parts of a row's dWeight that {@linkcode innerBackward} leaves: one for each tile and each of the lanes side by side. */
export function weightPartsOf(shape: ExpertShape, textures: ExecuteTextures | null): number {
  const block = innerBlock(shape, textures);
  return block.tiles(shape.inner) * block.lanesAcross;
}

/**
 * First of two dispatches: dz, weight · h and the parts of dWeight. Parts go through a buffer, so that columns are cut over
 * workgroups. And workgroup memory costs llvmpipe a loop over lanes for each access, and a barrier (measured: an eighth of
 * this kernel).
 *
 * @param textures Operands in textures 0 (dOut) and 1 (down), on software adapters; null on hardware ones.
 */
export function innerBackward(shape: ExpertShape, textures: ExecuteTextures | null): KernelText {
  const block = innerBlock(shape, textures);
  const { lanesAcross } = block;
  const place = (row: string) =>
    `(first + ${row}) * ${weightPartsOf(shape, textures)}u + columnTile * ${lanesAcross}u + lane % ${lanesAcross}u`;
  return block.kernel({
    inputs: BACKWARD_INPUTS,
    outputs: BACKWARD_OUTPUTS,
    preludes: activationText(shape.activation),
    weighted: true,
    body: block.eachTile(
      shape.inner,
      (columns) =>
        innerStage(
          block,
          columns,
          textures,
          ({ local }, share) => `${BACKWARD_STORE.weightParts}(${place(local)}, ${share});\n`,
        ),
    ),
  });
}

/**
 * Second of them: dx, and dWeight of its parts.
 *
 * @param options Where rows go; and dz in texture 0, the matrices up and gate in textures 1 and 2, on software adapters. On
 *   hardware ones, where textures are null, dz is bound in the place of the pre-activations.
 */
export function hiddenBackward(
  shape: ExpertShape,
  { target, textures }: { readonly target: "token" | "assignment"; readonly textures: ExecuteTextures | null },
): KernelText {
  const { width, inner } = shape;
  const block = textures === null
    ? new ExpertBlock(shape, "hardware", hardwareBlockRows(shape, width), width)
    : textureBlock(shape, textures, width);
  function operands(matrix: "up" | "gate", offset: number): Pick<BlockProduct, "rows" | "matrix"> {
    if (textures === null) {
      const span = preactivationSpan(shape);
      return {
        rows: {
          load: BACKWARD_LOAD.preactivation,
          width: inner,
          at: ({ place }) => `${place} * ${span}u + ${offset}u`,
        },
        matrix: { load: BACKWARD_LOAD[matrix], layout: "T" },
      };
    }
    return {
      rows: { load: "tx0", texture: textures.preactivation, offset, line: ({ place }) => place },
      matrix: { load: matrix === "up" ? "tx1" : "tx2", layout: "T", texture: textures.up },
    };
  }
  const parts = weightPartsOf(shape, textures);
  // Lanes side by side are a multiple of four.
  const four = `${LOAD_PART}v((first + i) * ${parts}u + j)`;
  const sums = sumWeightParts(
    block,
    `for (var j = 0u; j < ${parts}u; j += 4u) { sum += dot(${four}, vec4<f32>(1.0)); }\n`,
  );
  return block.kernel({
    inputs: BACKWARD_INPUTS,
    outputs: BACKWARD_OUTPUTS,
    dropped: clearing(block, target),
    weighted: false,
    assigned: true,
    body: block.eachTile(
      width,
      (columns) => `${hiddenStage(block, columns, target, operands)}if (columnTile == 0u) {\n${sums}}\n`,
    ),
  });
}

/** What becomes of assignments without a row: their weights get no gradient, nor do their tokens if these have one only. */
function clearing(block: ExpertBlock, target: "token" | "assignment"): string {
  const clearWeight = `${BACKWARD_STORE.dWeight}(item, 0.0);\n`;
  return target === "token" ? clearWeight + clearRow(block, BACKWARD_STORE.dHidden) : clearWeight;
}

/**
 * One tile of dz and weight · h.
 *
 * @param keepShare Statements that keep a row's share of dWeight, the sum over this lane's columns of the tile.
 */
export function innerStage(
  block: ExpertBlock,
  columns: Columns,
  textures: ExecuteTextures | null,
  keepShare: (row: BlockRow, share: string) => string,
): string {
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
        rows: { load: BACKWARD_LOAD.dOut, width, at: ({ token }) => `${token} * ${width}u` },
        matrix: { load: BACKWARD_LOAD.down, layout: "T" },
      }),
  });
  return product + block.eachOutput("p", columns, ({ local, weight }, column, dh) => {
    const put = (store: string, at: string, value: string) => block.put(store, at, column, columns, value);
    const base = `(first + ${local}) * ${span}u`;
    const upper = `${base} + ${inner}u`;
    return `let g = ${block.get(BACKWARD_LOAD.preactivation, base, column, columns)};\nlet open = activate(g);\n` +
      (isGated
        ? `let z = ${block.get(BACKWARD_LOAD.preactivation, upper, column, columns)};\nlet h = open * z;\n`
        : "let h = open;\n") +
      `share += dot(${columns.exact ? "h" : `h * ${insideMask(column, inner)}`}, ${dh});\n` +
      `let scaled = ${weight} * ${dh};\nlet dz = scaled * ${isGated ? "z * " : ""}slope(g);\n` +
      put(BACKWARD_STORE.dPreactivation, base, "dz") +
      (isGated ? put(BACKWARD_STORE.dPreactivation, upper, "scaled * open") : "") +
      put(BACKWARD_STORE.innerWeighted, `(first + ${local}) * ${inner}u`, `${weight} * h`);
  }, { before: "var share = 0.0;\n", after: (row) => keepShare(row, "share") });
}

/** 1 for columns inside the row, 0 outside, where clamped loads repeat the last column. */
function insideMask(column: string, width: number): string {
  const columns = `vec4<u32>(${column}) + vec4<u32>(0u, 1u, 2u, 3u)`;
  return `select(vec4<f32>(), vec4<f32>(1.0), ${columns} < vec4<u32>(${width}u))`;
}

/**
 * One lane a row adds the parts of dWeight of row `i` to `sum` by some statements, and then the bias's share.
 *
 * @param part Number of the workgroup among those of a block, if each stores a dWeight [A] of its own.
 */
export function sumWeightParts(block: ExpertBlock, addParts: string, part?: string): string {
  const { assignments, width, bias } = block.shape;
  const [unit, suffix, product] = block.isVector(width) ? [4, "v", "dot"] : [1, "", ""];
  const [left, right] = [
    `${BACKWARD_LOAD.downBias}${suffix}(expert * ${width}u + j)`,
    `${BACKWARD_LOAD.dOut}${suffix}(dOutRow + j)`,
  ];
  const share = bias
    ? `let dOutRow = ${PLAN.rowToken}(first + i) * ${width}u;\n` +
      `for (var j = ${
        part === undefined ? "0u" : `select(${width}u, 0u, ${part} == 0u)`
      }; j < ${width}u; j += ${unit}u) { sum += ${product}(${left}${product ? ", " : " * "}${right}); }\n`
    : "";
  return `for (var i = lane; i < ${block.rows}u; i += ${block.size}u) { if (first + i < last) {\nvar sum = 0.0;\n` +
    `${addParts}${share}` +
    `${BACKWARD_STORE.dWeight}(${
      part === undefined ? "" : `${part} * ${assignments}u + `
    }${PLAN.rowAssign}(first + i), sum);\n} }\n`;
}

/** One tile of dx. */
function hiddenStage(
  block: ExpertBlock,
  columns: Columns,
  target: "token" | "assignment",
  operands: HiddenOperands,
): string {
  return hiddenProducts(block, { name: "q", columns }, operands) +
    storeHidden(block, "q", columns, (row) => target === "token" ? row.token : row.assign);
}

/** Where the products of dx find the rows of dz, from an offset on, and the matrix they are multiplied by. */
type HiddenOperands = (matrix: "up" | "gate", offset: number) => Pick<BlockProduct, "rows" | "matrix">;

/** The products of a tile of dx; those of the gated body add up. */
export function hiddenProducts(
  block: ExpertBlock,
  product: Pick<BlockProduct, "name" | "columns" | "slice" | "accumulate">,
  operands: HiddenOperands,
): string {
  const { inner, body } = block.shape;
  function half(offset: number, matrix: "up" | "gate"): string {
    return block.product({
      ...product,
      depth: inner,
      ...(offset > 0 ? { accumulate: true } : {}),
      ...operands(matrix, offset),
    });
  }
  return body === "glu" ? half(0, "gate") + half(inner, "up") : half(0, "up");
}

/** Stores a tile of dx; `target` is the row that a row of the block goes to. */
export function storeHidden(
  block: ExpertBlock,
  name: string,
  columns: Columns,
  target: (row: BlockRow) => string,
): string {
  const base = (row: BlockRow) => `${target(row)} * ${block.shape.width}u`;
  return block.eachOutput(
    name,
    columns,
    (row, column, value) => block.put(BACKWARD_STORE.dHidden, base(row), column, columns, value),
  );
}
