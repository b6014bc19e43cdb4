/**
 * Output-resident kernels of the experts, for hardware adapters: a block's rows of the result stay in registers, while h is
 * made and used up a chunk of its columns at a time.
 *
 *   forward:  for each chunk of F:  h = act(x up[:, chunk])                       y  += h down[chunk, :]
 *   backward: for each chunk of F:  dh = dOut down[chunk, :]ᵀ, dz is stored       dx += dz up[:, chunk]ᵀ
 *
 * They are for few rows an expert, as in decoding: there a GPU waits for the experts' matrices, of which a block reads every
 * element once, and blocks alone are too few to keep it busy. So the chunks of a block are cut over several workgroups,
 * whose partial rows [parts, A, D] are added in order afterwards (`execute_combine.ts`). D is bounded by the registers that
 * hold a row.
 *
 * Source: accumulators that stay while a chain of two products goes by are FlashAttention's (Dao et al. 2022), here with
 * an expert's products in the place of scores and values. Not timed on hardware yet.
 *
 * @module
 */
import { ceilDiv, type KernelText, times } from "../ops/kernel_text.ts";
import { accumulatorsOf } from "../ops/shared_tile.ts";
import {
  BACKWARD_INPUTS,
  BACKWARD_LOAD,
  BACKWARD_OUTPUTS,
  BACKWARD_STORE,
  hiddenProducts,
  innerStage,
  preactivationSpan,
  READ_BACK,
  storeHidden,
  sumWeightParts,
} from "./execute_backward_kernel.ts";
import { ExpertBlock, WANTED_WORKGROUPS } from "./execute_block.ts";
import {
  clearRow,
  FORWARD_INPUTS,
  FORWARD_LOAD,
  FORWARD_OUTPUTS,
  FORWARD_STORE,
  type ForwardOptions,
  storeStage,
  upOperands,
  upStage,
} from "./execute_forward_kernel.ts";
import type { BlockRow, Columns, DepthSlice } from "./execute_product.ts";
import { activationText, type ExpertShape } from "./execute_shape.ts";

/** BM. */
export const BLOCK_ROWS = 16;
/** Columns of h that are made at once: those of the block's tile. */
const CHUNK = 64;
/** D up to which a row of the result stays in registers: a quarter of an invocation's 255, for two operands' sakes. */
const MOST_WIDTH = 256;

/** Whether the rows of the result fit into registers. */
export function fitsRegisters({ width }: ExpertShape): boolean {
  return width <= MOST_WIDTH;
}

/** Blocks with rows that are to be expected: each expert's last one may have few. */
export function expectedBlocks({ assignments, experts }: ExpertShape): number {
  return Math.max(Math.min(assignments, experts), ceilDiv(assignments, BLOCK_ROWS));
}

/** Chunks of h that one workgroup goes through. */
function chunksEach(shape: ExpertShape): number {
  const wantedParts = ceilDiv(WANTED_WORKGROUPS, expectedBlocks(shape));
  return Math.max(1, Math.floor(ceilDiv(shape.inner, CHUNK) / wantedParts));
}

/** Workgroups of a block, each of which leaves a partial row. */
export function outputParts(shape: ExpertShape): number {
  return ceilDiv(ceilDiv(shape.inner, CHUNK), chunksEach(shape));
}

/** y, or where a block has several parts the partial rows [parts, A, D]. */
export function outputForward(shape: ExpertShape, options: ForwardOptions): KernelText {
  const { inner, activation } = shape;
  const block = blockOf(shape);
  const parts = outputParts(shape);
  const chunkRows = {
    load: "getChunk",
    store: "putChunk",
    // Columns are counted from the row's begin; a chunk's memory starts at its own first one.
    at: (local: string) => `((${local}) * ${CHUNK}u - columnTile * ${CHUNK}u)`,
  };
  const target = targetOf(shape, options);
  return block.kernel({
    inputs: FORWARD_INPUTS,
    outputs: FORWARD_OUTPUTS,
    preludes: activationText(activation) + chunkMemory(block),
    weighted: true,
    parts,
    ...(parts === 1 && options.target === "token" ? { dropped: clearRow(block, FORWARD_STORE.out) } : {}),
    body: overChunks(
      block,
      block.atTile(
        inner,
        "chunk",
        (columns) => upStage(block, columns, chunkRows, options, (matrix) => upOperands(shape, matrix)),
      ) + "workgroupBarrier();\n",
      (name, columns) =>
        block.product({
          name,
          depth: inner,
          slice: chunkSlice(shape),
          columns,
          accumulate: true,
          rows: {
            load: "getChunk",
            width: block.isVector(inner) ? CHUNK : 1,
            at: ({ local }) => `(${local}) * ${CHUNK}u`,
          },
          matrix: { load: FORWARD_LOAD.down, layout: "N" },
        }),
    ) + eachTile(block, (name, columns) =>
      storeStage(block, name, columns, target, parts === 1 ? undefined : "part == 0u")),
  });
}

/** dz, weight · h, and dx and dWeight, or where a block has several parts the partial rows of both. */
export function outputBackward(shape: ExpertShape, { target }: Pick<ForwardOptions, "target">): KernelText {
  const { inner, activation, assignments } = shape;
  const block = blockOf(shape);
  const parts = outputParts(shape);
  const span = preactivationSpan(shape);
  /** Part of a row's dWeight: the sum over the columns of one of the lanes side by side. */
  const share = (row: string, j: string) => `weightParts[${row} * ${block.lanesAcross}u + ${j}]`;
  const own = (row: string) => share(row, `lane % ${block.lanesAcross}u`);
  const clearWeight = times(parts, (part) => `${BACKWARD_STORE.dWeight}(${part * assignments}u + item, 0.0);\n`);
  const to = targetOf(shape, { target });
  return block.kernel({
    inputs: BACKWARD_INPUTS,
    outputs: BACKWARD_OUTPUTS,
    preludes: activationText(activation) +
      `var<workgroup> weightParts: array<f32, ${block.lanesAcross * block.rows}>;\n`,
    weighted: true,
    parts,
    dropped: clearWeight + (parts === 1 && target === "token" ? clearRow(block, BACKWARD_STORE.dHidden) : ""),
    body: block.eachRow(`${own("row")} = 0.0;\n`) + overChunks(
      block,
      block.atTile(
        inner,
        "chunk",
        (columns) => innerStage(block, columns, null, ({ local }, sum) => `${own(local)} += ${sum};\n`),
      ) + "storageBarrier();\n",
      (name, columns) =>
        hiddenProducts(block, { name, columns, slice: chunkSlice(shape), accumulate: true }, (matrix, offset) => ({
          rows: {
            load: READ_BACK,
            width: inner,
            at: ({ place }) => `${place} * ${span}u + ${offset}u + chunk * ${CHUNK}u`,
          },
          matrix: { load: BACKWARD_LOAD[matrix], layout: "T" },
        })),
    ) + "workgroupBarrier();\n" +
      sumWeightParts(
        block,
        `for (var j = 0u; j < ${block.lanesAcross}u; j++) { sum += ${share("i", "j")}; }\n`,
        parts === 1 ? undefined : "part",
      ) + eachTile(block, (name, columns) => storeHidden(block, name, columns, to)),
  });
}

/** Chunk memory is typed like rows of h: four elements at a time where they divide F. */
function chunkMemory(block: ExpertBlock): string {
  const [type, suffix, unit] = block.isVector(block.shape.inner)
    ? ["vec4<f32>", "v", 4] as const
    : ["f32", "", 1] as const;
  const count = block.rows * CHUNK / unit;
  // The bound is a power of two, so that the check of the index that WGSL demands folds away.
  const at = unit === 1 ? `at & ${count - 1}u` : `(at / ${unit}u) & ${count - 1}u`;
  return `var<workgroup> chunkRows: array<${type}, ${count}>;\n` +
    `fn getChunk${suffix}(at: u32) -> ${type} { return chunkRows[${at}]; }\n` +
    `fn putChunk${suffix}(at: u32, value: ${type}) { chunkRows[${at}] = value; }\n`;
}

function blockOf(shape: ExpertShape): ExpertBlock {
  return new ExpertBlock(shape, "hardware", BLOCK_ROWS);
}

/** The depths of the second product that a chunk is. */
function chunkSlice({ inner }: ExpertShape): DepthSlice {
  const isWhole = inner % CHUNK === 0;
  return {
    start: `chunk * ${CHUNK}u`,
    length: isWhole ? `${CHUNK}u` : `min(${CHUNK}u, ${inner}u - chunk * ${CHUNK}u)`,
    isWhole,
  };
}

/** Which row of the output a row of the block goes to. */
function targetOf(shape: ExpertShape, { target }: Pick<ForwardOptions, "target">): (row: BlockRow) => string {
  if (outputParts(shape) > 1) return ({ assign }) => `(part * ${shape.assignments}u + ${assign})`;
  return ({ token, assign }) => target === "token" ? token : assign;
}

/** Visits every tile of a row of the result; each has accumulators of its own. */
function eachTile(block: ExpertBlock, visit: (name: string, columns: Columns) => string): string {
  const { width } = block.shape;
  return times(block.tiles(width), (t) => block.atTile(width, `${t}u`, (columns) => visit(`tile${t}`, columns)));
}

/**
 * Goes through the chunks of this workgroup. The loops of the products begin with a barrier, so that nobody makes the next
 * chunk before everybody has used up this one.
 *
 * @param make Statements that make chunk number `chunk`, up to the barrier.
 * @param add Adds its products to the accumulators of a tile.
 */
function overChunks(block: ExpertBlock, make: string, add: (name: string, columns: Columns) => string): string {
  const { shape, tile } = block;
  const [chunks, each, parts] = [ceilDiv(shape.inner, CHUNK), chunksEach(shape), outputParts(shape)];
  const declare = times(block.tiles(shape.width), (t) =>
    times(block.rowsEach, (r) => {
      return accumulatorsOf(`tile${t}`, r, tile!).map((name) => `var ${name} = vec4<f32>();\n`).join("");
    }));
  const range = parts === 1
    ? `for (var chunk = 0u; chunk < ${chunks}u; chunk++) {\n`
    : `let part = group % ${parts}u;\nlet lastChunk = min((part + 1u) * ${each}u, ${chunks}u);\n` +
      `for (var chunk = part * ${each}u; chunk < lastChunk; chunk++) {\n`;
  return `${declare}${range}${make}${eachTile(block, add)}}\n`;
}
