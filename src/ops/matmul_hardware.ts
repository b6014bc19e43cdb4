/**
 * Batched matrix product for hardware adapters: a workgroup owns a tile of the result, as large as leaves enough workgroups
 * to keep the device busy. Edge tiles read clamped (valid) rows and columns and mask the store.
 *
 * @module
 */
import type { SharedTileName } from "../core/kernel.ts";
import { ceilDiv, type KernelText, times } from "./kernel_text.ts";
import { header, type MatmulOptions, type MatmulShape, OPERANDS } from "./matmul_shape.ts";
import {
  accumulatorsOf,
  COLUMN_STRIDE,
  firstColumn,
  firstRow,
  lanesOf,
  SHARED_TILES,
  type SharedOperand,
  sharedTile,
  sharedTileMemory,
  SLAB,
} from "./shared_tile.ts";

/** Workgroups that keep a GPU busy: about as many as a large one has multiprocessors. */
export const WANTED_WORKGROUPS = 128;
/** The same where few rows make a product wait for memory alone: more of the right operand has to be on its way. */
const WANTED_FEW_ROWS = 512;
/** Rows up to which the smallest tile wastes less. */
const FEW_ROWS = 16;
/** Depth below which a split costs more than it spreads. */
const MIN_SPLIT_DEPTH = 256;
/** Tiles by the loads that they save, best first. */
const BEST_TILES: readonly SharedTileName[] = ["128x128", "64x128", "64x64"];

/** Parts that the depth is split into where tiles are too few; the same whatever tile is chosen. */
export function hardwareSplits({ batch, m, n, k }: MatmulShape): number {
  const tiles = batch * ceilDiv(m, m <= FEW_ROWS ? FEW_ROWS : 64) * ceilDiv(n, 64);
  const wanted = m <= FEW_ROWS ? WANTED_FEW_ROWS : WANTED_WORKGROUPS;
  return Math.max(1, Math.min(Math.floor(wanted / tiles), Math.floor(k / MIN_SPLIT_DEPTH)));
}

/** The largest tile of which there are enough. */
function tileFor({ batch, m, n }: MatmulShape, splits: number): SharedTileName | "16x64" {
  if (m <= FEW_ROWS) return "16x64";
  return BEST_TILES.find((name) => {
    const { rows, columns } = SHARED_TILES[name];
    return batch * ceilDiv(m, rows) * ceilDiv(n, columns) * splits >= WANTED_WORKGROUPS;
  }) ?? "32x64";
}

/** Generates one batched product with tiles in workgroup memory. */
export function hardwareMatmul(shape: MatmulShape, options: MatmulOptions): KernelText {
  const { m, n, k, layoutA, layoutB } = shape;
  const splits = options.splits ?? 1;
  const size = SHARED_TILES[options.sharedTile ?? tileFor(shape, splits)];
  const { rows, columns, rowsEach, groups } = size;
  const { text, workgroups } = header(shape, splits, ceilDiv(m, rows), ceilDiv(n, columns), "columns", SLAB);
  const a = operandOf(
    { load: "ld0", origin: "a0", along: layoutA === "N" ? "depth" : "tile", count: m, depth: k },
    rows,
    "m0",
  );
  const b = operandOf(
    { load: "ld1", origin: "b0", along: layoutB === "T" ? "depth" : "tile", count: n, depth: k },
    columns,
    "n0",
  );
  let body = `${text}let m0 = tm * ${rows}u;\nlet n0 = tn * ${columns}u;\n` +
    sharedTile({ name: "c", size, start: "first", end: "last", isWhole: k % SLAB === 0, a, b }) +
    `let r0 = m0 + ${firstRow(size)};\nlet j0 = n0 + ${firstColumn()};\n`;
  body += times(rowsEach, (r) => {
    const row = accumulatorsOf("c", r, size);
    const stores = times(groups, (g) => {
      const column = g === 0 ? "j0" : `j0 + ${g * COLUMN_STRIDE}u`;
      const at = `c0 + (r0 + ${r}u) * ${n}u + ${column}`;
      return n % 4 === 0
        ? inside(n % columns === 0, `${column} < ${n}u`, `st0v(${at}, ${row[g]!});\n`)
        : ["x", "y", "z", "w"].map((part, j) =>
          inside(false, `${column} + ${j}u < ${n}u`, `st0(${at} + ${j}u, ${row[g]!}.${part});\n`)
        ).join("");
    });
    return inside(m % rows === 0, `r0 + ${r}u < ${m}u`, stores);
  });
  return { ...OPERANDS, preludes: sharedTileMemory(size), body, workgroupSize: [lanesOf(size), 1, 1], workgroups };
}

function inside(always: boolean, condition: string, text: string): string {
  return always ? text : `if (${condition}) {\n${text}}\n`;
}

/** An operand of `count` rows or columns, with `depth` elements for each. */
function operandOf(
  { load, origin, along, count, depth }: {
    readonly load: string;
    readonly origin: string;
    readonly along: SharedOperand["along"];
    readonly count: number;
    readonly depth: number;
  },
  tile: number,
  first: string,
): SharedOperand {
  const length = along === "depth" ? depth : count;
  const isVector = length % 4 === 0;
  const unit = along === "tile" && isVector ? 4 : 1;
  const place = (at: string) => count % tile === 0 ? `${first} + ${at}` : `min(${first} + ${at}, ${count - unit}u)`;
  return {
    load,
    along,
    isVector,
    line: (at) => `${origin} + (${along === "depth" ? place(at) : at}) * ${length}u`,
    place,
  };
}
