/**
 * Batched matrix product for software adapters: 8 lanes; a lane owns `rows` x `columns`*4 outputs; no workgroup memory, no
 * barrier. Operands are read from their buffers, or from textures they were copied to (see texture_matrix.ts).
 *
 * Hazards: edge tiles mask the store. From buffers they read clamped (valid) rows and columns; from textures, whose reads
 * outside are harmless, they read what is there.
 *
 * @module
 */
import type { KernelTuning, TileChoice } from "../core/kernel.ts";
import { ceilDiv, type KernelText, times } from "./kernel_text.ts";
import {
  header,
  matmulClass,
  type MatmulOptions,
  type MatmulShape,
  type MatmulTextures,
  type MatmulTile,
  OPERANDS,
} from "./matmul_shape.ts";
import { textureLine, type TextureMatrix } from "./texture_matrix.ts";
import { registerTile, type TileOperand } from "./tile.ts";
import { forEachRow } from "./tile_store.ts";

/** Lanes of a software workgroup: one SIMD group of llvmpipe. */
const LANES = 8;

/** Workgroups below which the two or more cores of a software adapter would idle. */
const MIN_WORKGROUPS = 4;

/** Makes a tile smaller until it fits the product and there is work for all cores, but not less than some rows. */
function fitted(shape: MatmulShape, most: TileChoice, leastRows: number): TileChoice {
  const groups = ceilDiv(shape.n, 4);
  let { rows, columns, lanesN } = most;
  while (columns > 1 && columns / 2 >= groups) columns /= 2;
  while (lanesN > 1 && lanesN / 2 * columns >= groups) lanesN /= 2;
  while (rows > leastRows && rows / 2 * (LANES / lanesN) >= shape.m) rows /= 2;
  const workgroups = (): number =>
    shape.batch * ceilDiv(shape.m, rows * LANES / lanesN) * ceilDiv(shape.n, columns * 4 * lanesN);
  while (workgroups() < MIN_WORKGROUPS && columns > 1) columns /= 2;
  while (workgroups() < MIN_WORKGROUPS && rows > 4) rows /= 2;
  return { rows, columns, lanesN };
}

/** Groups of four columns up to which a lane takes whole rows of the result. */
const NARROW_GROUPS = 4;

/**
 * Returns the register tile that measured best on llvmpipe for operands in buffers: 16 x 16 where B is read along its
 * columns, 16 x 8 where B is transposed (its loads are spread over the columns), smaller where the product is. Narrow
 * products take 8 x 4, which runs as fast and compiles in half the time.
 *
 * @param choices Tiles that replace these for wide products, as calibration found them.
 */
export function storageTile(shape: MatmulShape, choices: KernelTuning["bufferTiles"] = {}): MatmulTile {
  const groups = ceilDiv(shape.n, 4);
  const [form, wide] = shape.layoutB === "N" ? ["plain", 32] as const : ["transposed", 16] as const;
  const columns = groups >= wide && form === "plain" ? 4 : groups >= 16 ? 2 : 1;
  const chosen = groups >= wide ? choices[form] : undefined;
  const builtIn = groups <= NARROW_GROUPS ? { rows: 8, columns: 1, lanesN: 1 } : { rows: 16, columns, lanesN: LANES };
  return { ...fitted(shape, chosen ?? builtIn, 1), order: "columns" };
}

/** Rows a tile is a multiple of where a texel of a transposed left operand holds that many. */
const ROWS_OF_A_TEXEL = 4;

/** Best register tiles for operands in textures, measured on llvmpipe. */
const TEXTURE_TILES = {
  small: { rows: 8, columns: 2, lanesN: 4 },
  medium: { rows: 8, columns: 4, lanesN: 4 },
  large: { rows: 16, columns: 4, lanesN: 4 },
} as const;

/**
 * Returns the register tile for operands in textures, of the size class of the product and not larger than it.
 *
 * @param choices Tiles by class that replace the built-in ones, as calibration found them.
 */
export function textureTile(shape: MatmulShape, choices: KernelTuning["textureTiles"] = {}): MatmulTile {
  const size = matmulClass(shape);
  return { ...fitted(shape, choices[size] ?? TEXTURE_TILES[size], ROWS_OF_A_TEXEL), order: "rows" };
}

/**
 * Rows of a tile up to which plain stores are a loop too: it compiles a quarter faster and runs as fast. Tiles of 16 rows,
 * which large products have, run 4 % slower with it.
 */
const ROWS_IN_LOOP = 8;

/** Generates one batched product with register tiles. */
export function softwareMatmul(shape: MatmulShape, options: MatmulOptions): KernelText {
  const { m, n } = shape;
  const splits = options.splits ?? 1;
  const { textures } = options;
  const tile = options.tile ?? (textures ? textureTile(shape) : storageTile(shape));
  const { rows, columns, lanesN, order } = tile;
  const lanesM = LANES / lanesN;
  const tilesM = ceilDiv(m, rows * lanesM), tilesN = ceilDiv(n, columns * 4 * lanesN);
  const { a, b } = textures ? textureOperands(shape, tile, textures) : storageOperands(shape, tile);
  const step = a.operand.along === "depth" || b.operand.along === "depth" || textures ? 4 : 1;
  const { text, workgroups } = header(shape, splits, tilesM, tilesN, order, step);
  const edgeM = m % (rows * lanesM) !== 0, edgeN = n % (columns * 4 * lanesN) !== 0;
  // Lanes interleave their column groups so that one load of the eight lanes covers one stretch of memory.
  let body = `${text}let m0 = (tm * ${lanesM}u + lane / ${lanesN}u) * ${rows}u;\n` +
    `let n0 = tn * ${columns * 4 * lanesN}u + (lane % ${lanesN}u) * 4u;\n` + a.text + b.text +
    registerTile({ name: "c", rows, columns, start: "first", end: "last", step, a: a.operand, b: b.operand });
  const put = (row: string, c: number, value: string): string => {
    const column = `n0 + ${c * 4 * lanesN}u`;
    const at = `c0 + (m0 + ${row}) * ${n}u + ${column}`;
    if (n % 4 === 0) {
      const store = `st0v(${at}, ${value});`;
      return edgeN ? `if (${column} < ${n}u) { ${store} }\n` : `${store}\n`;
    }
    return ["x", "y", "z", "w"].map((part, j) =>
      `if (${column} + ${j}u < ${n}u) { st0(${at} + ${j}u, ${value}.${part}); }\n`
    )
      .join("");
  };
  const unrolled = rows > ROWS_IN_LOOP && !options.longStores;
  body += forEachRow({ name: "c", rows, columns, unrolled }, (row, accumulators) => {
    const stores = accumulators.map((value, c) => put(row, c, value)).join("");
    return edgeM ? `if (m0 + ${row} < ${m}u) {\n${stores}}\n` : stores;
  });
  return { ...OPERANDS, preludes: "", body, workgroupSize: [LANES, 1, 1], workgroups };
}

/** How an operand of a tile is read, and declarations that this needs. */
interface Source {
  readonly text: string;
  readonly operand: TileOperand;
}

function storageOperands(shape: MatmulShape, { rows, columns, lanesN }: MatmulTile): { a: Source; b: Source } {
  const { m, n, k, layoutA, layoutB } = shape;
  const edgeM = m % (rows * LANES / lanesN) !== 0, edgeN = n % (columns * 4 * lanesN) !== 0;
  const alongA = layoutA === "N" ? (k % 4 === 0 ? "depth" : "none") : m % 4 === 0 && rows % 4 === 0 ? "tile" : "none";
  const alongB = layoutB === "T" ? (k % 4 === 0 ? "depth" : "none") : n % 4 === 0 ? "tile" : "none";
  const strideA = layoutA === "N" ? k : 1, strideB = layoutB === "N" ? 1 : k;
  let textA = "", textB = "";
  const rowStep = alongA === "tile" ? 4 : 1;
  for (let r = 0; r < rows; r += rowStep) {
    const row = edgeM ? `min(m0 + ${r}u, ${m - rowStep}u)` : `(m0 + ${r}u)`;
    textA += `let ar${r} = a0 + ${row} * ${strideA}u;\n`;
  }
  const columnStep = alongB === "tile" ? 4 : 1;
  for (let j = 0; j < columns * 4; j += columnStep) {
    const column = `n0 + ${(j >> 2) * 4 * lanesN + (j & 3)}u`;
    textB += `let bc${j} = b0 + ${edgeN ? `min(${column}, ${n - columnStep}u)` : `(${column})`} * ${strideB}u;\n`;
  }
  return {
    a: {
      text: textA,
      operand: {
        load: "ld0",
        along: alongA,
        index: (r, at) => layoutA === "N" ? `ar${r} + ${at}` : `ar${r} + ${at} * ${m}u`,
      },
    },
    b: {
      text: textB,
      operand: {
        load: "ld1",
        along: alongB,
        index: (j, at) => layoutB === "N" ? `bc${j} + ${at} * ${n}u` : `bc${j} + ${at}`,
      },
    },
  };
}

function textureOperands(
  { layoutA, layoutB }: MatmulShape,
  { lanesN }: MatmulTile,
  { a, b }: MatmulTextures,
): { a: Source; b: Source } {
  const column = (j: number): number => (j >> 2) * 4 * lanesN + (j & 3);
  return {
    a: layoutA === "N" ? alongDepth("a", "tx0", a, "m0", (r) => r) : alongTile("a", "tx0", a, "m0", (r) => r),
    b: layoutB === "T" ? alongDepth("b", "tx1", b, "n0", column) : alongTile("b", "tx1", b, "n0", column),
  };
}

/** Lines of the texture are rows (or columns) of the result; four neighbors of the depth are a texel. */
function alongDepth(
  name: string,
  load: string,
  matrix: TextureMatrix,
  first: string,
  place: (lane: number) => number,
): Source {
  const { batch, lines, together } = matrix;
  const start = lineOf(matrix, first);
  const { x, y } = textureLine(matrix, batch === 1 ? start : `batch * ${lines}u + ${start}`);
  return {
    text: `let ${name}x0 = ${x};\nlet ${name}y = ${y};\n${startsOfRows(name, matrix)}`,
    operand: {
      load,
      along: "depth",
      // Tiles start at multiples of four rows.
      index: (lane, k) =>
        `${name}x${place(lane) % together} + (${k} >> 2u), ${name}y + ${Math.floor(place(lane) / together)}u`,
    },
  };
}

/** Lines of the texture are steps of the depth; four neighboring rows (or columns) of the result are a texel. */
function alongTile(
  name: string,
  load: string,
  matrix: TextureMatrix,
  first: string,
  place: (lane: number) => number,
): Source {
  // A single matrix that takes several stripes is left in the middle of the depth, a batch only between matrices.
  const isLong = matrix.batch === 1 && matrix.stripes > 1;
  const { x, y } = isLong
    ? { x: "0u", y: "0u" }
    : textureLine(matrix, matrix.batch === 1 ? "0u" : `batch * ${matrix.lines}u`);
  return {
    text: `let ${name}x0 = ${x} + (${first} >> 2u);\nlet ${name}y = ${y};\n${startsOfRows(name, matrix)}`,
    operand: {
      load,
      along: "tile",
      index(lane, k, step) {
        const row = lineOf(matrix, k);
        const line = isLong ? textureLine(matrix, row) : { x: "0u", y: row };
        // Iterations start at multiples of four steps.
        return `${name}x${step % matrix.together} + ${place(lane) / 4}u + ${line.x}, ${name}y + ${line.y}`;
      },
    },
  };
}

/** Declares where the rows of a line begin, outside of loops: sizes may come from a buffer. */
function startsOfRows(name: string, { together, texels }: TextureMatrix): string {
  return times(together - 1, (i) => `let ${name}x${i + 1} = ${name}x0 + ${(i + 1) * texels}u;\n`);
}

/** The line of a row, a u32 expression, in its matrix. */
function lineOf({ together }: TextureMatrix, row: string): string {
  return together === 1 ? row : `(${row} / ${together}u)`;
}
