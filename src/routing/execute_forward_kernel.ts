/**
 * Kernels of the experts' forward pass.
 *
 *   z = x[rowToken[row]] up[e] + upBias[e]    h = act(z)    gated: g likewise from gate[e], h = act(g) · z
 *   y = weight[rowAssign[row]] · (h down[e] + downBias[e])
 *
 * Fused: a workgroup computes h of its block, keeps it on chip where BM · F numbers fit (in a scratch buffer otherwise)
 * and goes on to the second product: gather, both products, activation, weighting and scatter in one dispatch. Pair: two
 * dispatches cut their columns over more workgroups. On software adapters, where a texture is far cheaper to read than a
 * buffer, the pair reads its operands from textures.
 * Where a token has one expert, y is its row of the result, and the same dispatch clears the rows of tokens without one;
 * otherwise y goes to its assignment's row, and `execute_combine.ts` adds each token's rows. What a block is stands in
 * `execute_block.ts`.
 *
 * @module
 */
import type { KernelText, Variant } from "../ops/kernel_text.ts";
import { type BlockShape, ExpertBlock, hardwareBlockRows, softwareBlockRows } from "./execute_block.ts";
import type { BlockProduct, BlockRow, Columns } from "./execute_product.ts";
import { activationText, type ExpertShape } from "./execute_shape.ts";
import { type ExecuteTextures, textureBlock } from "./execute_textures.ts";

/** How a forward kernel is laid out. */
export interface ForwardOptions {
  /** Class of adapters. */
  readonly variant: Variant;
  /** Row of the result: the token where each has one expert, the assignment otherwise. */
  readonly target: "token" | "assignment";
  /** Whether z is stored for the backward pass. */
  readonly keeps: "preactivation" | "nothing";
  /** Workgroup memory a kernel may take. */
  readonly workgroupBytes: number;
}

/** Operands of the forward kernels by accessor number; `hidden` is read by the second kernel of the pair. */
export const FORWARD_INPUTS: readonly string[] = [
  ...["hidden", "up", "upBias", "down", "downBias"],
  ...["weight", "expertOffsets", "rowToken", "rowAssign", "assignRow"],
  ...["gate", "gateBias", "innerRows"],
];
/** Outputs by accessor number: y; z [A, F] or [A, 2F] with the gate's first; scratch [A, F] for h. */
export const FORWARD_OUTPUTS: readonly string[] = ["out", "preactivation", "innerRows"];

/** Accessors of what is read. */
export const FORWARD_LOAD = {
  hidden: "ld0",
  up: "ld1",
  upBias: "ld2",
  down: "ld3",
  downBias: "ld4",
  gate: "ld10",
  gateBias: "ld11",
};
/** Accessors of what is stored. */
export const FORWARD_STORE = { out: "st0", preactivation: "st1" };

/** Where a product finds its operands. */
type ProductOperands = Pick<BlockProduct, "rows" | "matrix">;
/** A matrix of the first product. */
type FirstMatrix = "up" | "gate";

/** Where h of a block is. */
export interface InnerRows {
  readonly load: string;
  readonly store: string;
  /** First element of a block row that exists. */
  at(local: string): string;
}

/** Rows of h in a buffer [A, F]: written by accessor `st2`, and read back by the same workgroup. */
function rowsInBuffer(inner: number): InnerRows {
  return { load: "rd2", store: "st2", at: (local) => `(first + ${local}) * ${inner}u` };
}

function fusedBlock(shape: ExpertShape, variant: Variant): ExpertBlock {
  return new ExpertBlock(shape, variant, variant === "software" ? softwareBlockRows(shape) : 16);
}

/** A block of the pair's kernels, or of the pre-activation's. */
function pairBlock(shape: ExpertShape, variant: Variant, tiledWidth: number): ExpertBlock {
  const rows = variant === "software" ? softwareBlockRows(shape) : hardwareBlockRows(shape, tiledWidth);
  return new ExpertBlock(shape, variant, rows, tiledWidth);
}

/** Whether the fused kernel keeps h on chip; otherwise it needs a buffer [A, F] for it. */
export function keepsInnerOnChip(shape: ExpertShape, { variant, workgroupBytes }: ForwardOptions): boolean {
  const block = fusedBlock(shape, variant);
  return block.rows * shape.inner * 4 + block.ownBytes() <= workgroupBytes;
}

/** Whether one invocation may run both products. */
export function fusedFits(shape: ExpertShape, variant: Variant): boolean {
  const { width, inner, body } = shape;
  const up = { depth: width, width: inner };
  return fusedBlock(shape, variant).canRun([...(body === "glu" ? [up, up] : [up]), { depth: inner, width }]);
}

/** Whether one invocation may run either half of the pair. */
export function pairFits(shape: ExpertShape, variant: Variant): boolean {
  const { width, inner, body } = shape;
  const up = { depth: width, width: inner };
  return pairBlock(shape, variant, inner).canRun(body === "glu" ? [up, up] : [up]) &&
    pairBlock(shape, variant, width).canRun([{ depth: inner, width }]);
}

/** Both products in one dispatch. */
export function fusedForward(shape: ExpertShape, options: ForwardOptions): KernelText {
  const block = fusedBlock(shape, options.variant);
  const { inner, width, activation } = shape;
  const isOnChip = keepsInnerOnChip(shape, options);
  const rows = isOnChip
    ? { load: "getInner", store: "putInner", at: (local: string) => `(${local}) * ${inner}u` }
    : rowsInBuffer(inner);
  const first = (matrix: FirstMatrix) => upOperands(shape, matrix);
  const up = block.eachTile(inner, (columns) => upStage(block, columns, rows, options, first));
  const down = block.eachTile(width, (columns) =>
    downStage(block, columns, options, {
      rows: {
        load: rows.load,
        width: inner,
        // A row past the block's last one is computed from whatever a valid one holds and thrown away.
        at: (row) => isOnChip ? rows.at(row.local) : `${row.place} * ${inner}u`,
      },
      matrix: { load: FORWARD_LOAD.down, layout: "N" },
    }));
  return block.kernel({
    inputs: FORWARD_INPUTS,
    outputs: FORWARD_OUTPUTS,
    preludes: activationText(activation) + (isOnChip ? chipMemory(block) : ""),
    weighted: true,
    ...clearing(block, options),
    body: `${up}${isOnChip ? "workgroupBarrier" : "storageBarrier"}();\n${down}`,
  });
}

/** First dispatch of the pair: h, and z where it is kept. */
export function upForward(shape: ExpertShape, options: ForwardOptions): KernelText {
  return upKernel(pairBlock(shape, options.variant, shape.inner), options, (matrix) => upOperands(shape, matrix));
}

function upKernel(
  block: ExpertBlock,
  options: ForwardOptions,
  operandsOf: (matrix: FirstMatrix) => ProductOperands,
): KernelText {
  const { inner, activation } = block.shape;
  return block.kernel({
    inputs: FORWARD_INPUTS,
    outputs: FORWARD_OUTPUTS,
    preludes: activationText(activation),
    weighted: false,
    body: block.eachTile(inner, (columns) => upStage(block, columns, rowsInBuffer(inner), options, operandsOf)),
  });
}

/** z alone, for a backward pass that finds nothing kept. */
export function preactivationForward(shape: ExpertShape, options: ForwardOptions): KernelText {
  const block = pairBlock(shape, options.variant, shape.inner);
  const kept: ForwardOptions = { ...options, keeps: "preactivation" };
  return block.kernel({
    inputs: FORWARD_INPUTS,
    outputs: FORWARD_OUTPUTS,
    weighted: false,
    body: block.eachTile(
      shape.inner,
      (columns) => upStage(block, columns, null, kept, (matrix) => upOperands(shape, matrix)),
    ),
  });
}

/** First dispatch of the pair with operands in textures 0 (tokens), 1 (up) and, if there is one, 2 (gate). */
export function upFromTextures(shape: ExpertShape, options: ForwardOptions, textures: ExecuteTextures): KernelText {
  return upKernel(textureBlock(shape, textures, shape.inner), options, (matrix) => ({
    rows: { load: "tx0", texture: textures.tokens, offset: 0, line: ({ token }) => token },
    matrix: { load: matrix === "up" ? "tx1" : "tx2", layout: "N", texture: textures.up },
  }));
}

/** Second dispatch of the pair with operands in textures 0 (h) and 1 (down). */
export function downFromTextures(shape: ExpertShape, options: ForwardOptions, textures: ExecuteTextures): KernelText {
  return downKernel(textureBlock(shape, textures, shape.width), options, {
    rows: { load: "tx0", texture: textures.inner, offset: 0, line: ({ place }) => place },
    matrix: { load: "tx1", layout: "N", texture: textures.down },
  });
}

/** Second dispatch of the pair: y from h. */
export function downForward(shape: ExpertShape, options: ForwardOptions): KernelText {
  return downKernel(pairBlock(shape, options.variant, shape.width), options, {
    rows: { load: "ld12", width: shape.inner, at: (row) => `${row.place} * ${shape.inner}u` },
    matrix: { load: FORWARD_LOAD.down, layout: "N" },
  });
}

function downKernel(
  block: ExpertBlock,
  options: ForwardOptions,
  operands: ProductOperands,
): KernelText {
  return block.kernel({
    inputs: FORWARD_INPUTS,
    outputs: FORWARD_OUTPUTS,
    weighted: true,
    ...clearing(block, options),
    body: block.eachTile(block.shape.width, (columns) => downStage(block, columns, options, operands)),
  });
}

/** Clears the rows of tokens without an expert; the combine takes care of them where tokens have several. */
function clearing(block: ExpertBlock, { target }: ForwardOptions): { readonly dropped?: string } {
  return target === "token" ? { dropped: clearRow(block, FORWARD_STORE.out) } : {};
}

/** Writes zeros to row `item`, D wide. */
export function clearRow(block: ExpertBlock<BlockShape & { readonly width: number }>, store: string): string {
  const { width } = block.shape;
  const [unit, zero] = block.isVector(width)
    ? [4, `${store}v(item * ${width}u + j, vec4<f32>())`]
    : [1, `${store}(item * ${width}u + j, 0.0)`];
  return `for (var j = 0u; j < ${width}u; j += ${unit}u) { ${zero}; }\n`;
}

function chipMemory(block: ExpertBlock): string {
  const { inner } = block.shape;
  const [type, suffix, unit] = block.isVector(inner) ? ["vec4<f32>", "v", 4] : ["f32", "", 1];
  return `var<workgroup> innerRows: array<${type}, ${block.rows * inner / Number(unit)}>;\n` +
    `fn getInner${suffix}(at: u32) -> ${type} { return innerRows[at / ${unit}u]; }\n` +
    `fn putInner${suffix}(at: u32, value: ${type}) { innerRows[at / ${unit}u] = value; }\n`;
}

/** One tile of columns of the first product. Without `rows`, only z is stored. */
export function upStage(
  block: ExpertBlock,
  columns: Columns,
  rows: InnerRows | null,
  options: ForwardOptions,
  operandsOf: (matrix: FirstMatrix) => ProductOperands,
): string {
  const { width, inner, body, bias } = block.shape;
  const isGated = body === "glu";
  const span = isGated ? 2 * inner : inner;
  /** One product; `finish` gives what goes to a place in `rows`, by z and by what is there. */
  function half(matrix: FirstMatrix, offset: number, finish: (z: string, there: string) => string): string {
    const product = block.product({ name: matrix, depth: width, columns, ...operandsOf(matrix) });
    const loadBias = matrix === "gate" ? FORWARD_LOAD.gateBias : FORWARD_LOAD.upBias;
    return product + block.eachOutput(matrix, columns, ({ local }, column, value) => {
      const z = bias ? `${value} + ${block.get(loadBias, `expert * ${inner}u`, column, columns)}` : value;
      const keep = options.keeps === "nothing"
        ? ""
        : block.put(FORWARD_STORE.preactivation, `(first + ${local}) * ${span}u + ${offset}u`, column, columns, "z");
      const text = `let z = ${z};\n${keep}`;
      if (rows === null) return text;
      const there = block.get(rows.load, rows.at(local), column, columns);
      return text + block.put(rows.store, rows.at(local), column, columns, finish("z", there));
    });
  }
  if (!isGated) return half("up", 0, (z) => `activate(${z})`);
  return half("gate", 0, (z) => `activate(${z})`) + half("up", inner, (z, there) => `${there} * ${z}`);
}

/** Tokens and matrices in buffers. */
export function upOperands({ width }: ExpertShape, matrix: FirstMatrix): ProductOperands {
  return {
    rows: { load: FORWARD_LOAD.hidden, width, at: ({ token }) => `${token} * ${width}u` },
    matrix: { load: FORWARD_LOAD[matrix], layout: "N" },
  };
}

/** One tile of columns of the second product, weighted and stored at its target. */
function downStage(
  block: ExpertBlock,
  columns: Columns,
  { target }: ForwardOptions,
  operands: ProductOperands,
): string {
  return block.product({ name: "y", depth: block.shape.inner, columns, ...operands }) +
    storeStage(block, "y", columns, (row) => target === "token" ? row.token : row.assign);
}

/**
 * Stores the second product of a tile, weighted.
 *
 * @param target Row of the result that a row of the block goes to.
 * @param withBias Boolean expression, if not every workgroup adds the bias.
 */
export function storeStage(
  block: ExpertBlock,
  name: string,
  columns: Columns,
  target: (row: BlockRow) => string,
  withBias?: string,
): string {
  const { width, bias } = block.shape;
  return block.eachOutput(name, columns, (row, column, value) => {
    const own = block.get(FORWARD_LOAD.downBias, `expert * ${width}u`, column, columns);
    const term = withBias === undefined ? own : `select(vec4<f32>(), ${own}, ${withBias})`;
    const sum = bias ? `(${value} + ${term})` : value;
    return block.put(FORWARD_STORE.out, `${target(row)} * ${width}u`, column, columns, `${row.weight} * ${sum}`);
  });
}
