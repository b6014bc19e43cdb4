/**
 * The frame of the kernels that run experts: a workgroup owns a block, at most BM rows of one expert, and multiplies its
 * rows by that expert's matrices.
 *
 * Letters: A assignments (rows of the plan), E experts, D model width, F expert width, BM rows of a block,
 * NB = floor(A / BM) + E blocks: an upper bound of those with rows, so no count is read back. Blocks of expert e have the
 * numbers from expertOffsets[e] / BM + e: distinct, and found again by binary search, so that thousands of experts cost
 * no more to find than eight.
 * software: 8 lanes side by side along the columns, a register tile of BM rows each. hardware: 16 lanes side by side along
 * the columns, slabs of both operands in workgroup memory (`ops/shared_tile.ts`), and the larger blocks and tiles the more
 * rows an expert has. The products are in `execute_product.ts`.
 * Hazards: block rows past the expert's last one read a clamped row and mask the store; workgroups past the last block
 * return before any barrier (what they decide by comes from a read-only buffer, hence it is uniform).
 *
 * Source: the block bound is that of llama.cpp and vLLM; gathering in the load and scattering in the store are
 * ScatterMoE's (Tan et al. 2024).
 *
 * @module
 */
import {
  ceilDiv,
  COMPONENTS,
  type KernelText,
  linearGrid,
  MAX_ITERATIONS,
  type Operand,
  times,
  type Variant,
} from "../ops/kernel_text.ts";
import {
  accumulatorsOf,
  firstRow,
  LANES_ACROSS,
  lanesOf,
  SHARED_TILES,
  sharedTileMemory,
  slabBytes,
  type TileSize,
} from "../ops/shared_tile.ts";
import { forEachRow } from "../ops/tile_store.ts";
import {
  type BlockProduct,
  type BlockRow,
  columnOf,
  type Columns,
  type ProductFrame,
  registerProduct,
  sharedProduct,
  SOFTWARE_LANES,
} from "./execute_product.ts";
import type { ExpertShape } from "./execute_shape.ts";

/** Accessors of the operands that all block kernels know; numbers 0 to 4 and from 10 up differ. */
export const PLAN = {
  weight: "ld5",
  expertOffsets: "ldu6",
  rowToken: "ldu7",
  rowAssign: "ldu8",
  assignRow: "ldu9",
} as const;

/** Row of an assignment that was dropped, as plans have it. */
const NO_ROW = "0xffffffffu";

/** A row of a software block whose results are stored; its number in the block differs. */
const STORED_ROW: Omit<BlockRow, "local"> = {
  place: "storedPlace",
  token: "storedToken",
  assign: "storedAssign",
  weight: "storedWeight",
};

/** Declares of a stored row what a text uses. */
function declareStoredRow(text: string, local: string): string {
  const { place, token, assign, weight } = STORED_ROW;
  const values = [
    [weight, `${PLAN.weight}(${assign})`],
    [assign, `${PLAN.rowAssign}(${place})`],
    [token, `${PLAN.rowToken}(${place})`],
    [place, `first + ${local}`],
  ] as const;
  return values.reduce((lines, [name, value]) => {
    return (lines + text).includes(name) ? `let ${name} = ${value};\n${lines}` : lines;
  }, "");
}

/** What a block has to know of the experts whose rows it owns. */
export interface BlockShape {
  /** A. */
  readonly assignments: number;
  /** E. */
  readonly experts: number;
}

/** The parts of a block kernel. */
export interface BlockKernel {
  /** Names of the operands by accessor number. */
  readonly inputs: readonly string[];
  /** Names of the outputs by accessor number. */
  readonly outputs: readonly string[];
  /** Module text besides what the block needs itself. */
  readonly preludes?: string;
  /** Statements for each assignment without a row; `item` is its number. */
  readonly dropped?: string;
  /** Whether rows have assignments and weights. */
  readonly weighted: boolean;
  /** Whether they have assignments at least. */
  readonly assigned?: boolean;
  /** Workgroups of a block whose columns are not cut over them, 1 by default. */
  readonly parts?: number;
  /** Statements of a block. */
  readonly body: string;
}

/** BM of the software variant: 16 where experts have rows enough, less where most of the block would be empty. */
export function softwareBlockRows({ assignments, experts }: BlockShape): number {
  const rows = assignments / Math.min(experts, assignments);
  return rows >= 12 ? 16 : rows >= 6 ? 8 : 4;
}

/** Workgroups below which smaller blocks, narrower tiles and blocks in parts keep a GPU busier. */
export const WANTED_WORKGROUPS = 128;
/** Rows an expert has on average up to which blocks of the fewest rows waste least, and wait for memory anyway. */
const FEW_ROWS = 24;

/** Whether experts have so few rows that a GPU waits for their matrices, whatever it multiplies. */
export function hasFewRows({ assignments, experts }: BlockShape): boolean {
  return assignments / Math.min(experts, assignments) < FEW_ROWS;
}

/**
 * BM of the hardware variant: the larger the fewer loads, as long as experts fill a block and there are blocks enough.
 *
 * @param width Columns that are cut over workgroups, if they are.
 */
export function hardwareBlockRows(shape: BlockShape, width?: number): 16 | 32 | 64 {
  const { assignments, experts } = shape;
  const tiles = width === undefined ? 1 : ceilDiv(width, SHARED_TILES["64x64"].columns);
  const isFilled = (rows: number) =>
    assignments / Math.min(experts, assignments) >= 0.75 * rows &&
    assignments / rows * tiles >= WANTED_WORKGROUPS / 2;
  return hasFewRows(shape) ? 16 : isFilled(64) ? 64 : isFilled(32) ? 32 : 16;
}

/** The tile of a hardware block: a wide one only where enough of them are left. */
function tileOf({ assignments }: BlockShape, rows: number, width: number | undefined): TileSize {
  if (rows === 16) return SHARED_TILES["16x64"];
  if (rows === 32) return SHARED_TILES["32x64"];
  const wide = SHARED_TILES["64x128"];
  const tiles = width === undefined ? 0 : Math.floor(width / wide.columns);
  return assignments / rows * tiles >= WANTED_WORKGROUPS ? wide : SHARED_TILES["64x64"];
}

/** Text of one block kernel; no state but sizes. */
export class ExpertBlock<Shape extends BlockShape = ExpertShape> implements ProductFrame {
  /** Invocations of a workgroup. */
  readonly size: number;
  /** Lanes side by side along the columns. */
  readonly lanesAcross: number;
  /** Rows a lane owns. */
  readonly rowsEach: number;
  /** The tile of a workgroup on hardware adapters. */
  readonly tile: TileSize | null;

  /**
   * @param rows BM.
   * @param tiledWidth Columns that are cut over workgroups; left out, a workgroup walks all columns.
   * @param mostGroups Groups of four columns that a software lane owns at most, 2 by default.
   */
  constructor(
    readonly shape: Shape,
    readonly variant: Variant,
    readonly rows: number,
    readonly tiledWidth?: number,
    readonly mostGroups: number = 2,
  ) {
    const isSoftware = variant === "software";
    this.tile = isSoftware ? null : tileOf(shape, rows, tiledWidth);
    this.size = this.tile === null ? SOFTWARE_LANES : lanesOf(this.tile);
    this.lanesAcross = isSoftware ? SOFTWARE_LANES : LANES_ACROSS;
    this.rowsEach = this.tile === null ? rows : this.tile.rowsEach;
  }

  /** Workgroup memory the block takes by itself, in bytes. */
  ownBytes(): number {
    return this.tile === null ? 0 : slabBytes(this.tile) + 12 * this.rows;
  }

  /** Whether an invocation that runs products of these sizes one after the other stays under the loop limit. */
  canRun(products: readonly { readonly depth: number; readonly width: number }[]): boolean {
    if (this.variant === "hardware") return true;
    const loops = products.map(({ depth, width }) =>
      (this.tiledWidth === width ? 1 : this.tiles(width)) *
      (depth / (this.isVector(depth) || this.isVector(width) ? 4 : 1) + 2 * this.rows + 1)
    );
    return loops.reduce((a, b) => a + b, Math.ceil(Math.log2(this.shape.experts + 1))) < MAX_ITERATIONS;
  }

  /** Tiles of a row. */
  tiles(width: number): number {
    return ceilDiv(width, this.#tileWidth(width));
  }

  /** Whether rows of a length are touched four elements at a time. */
  isVector(width: number): boolean {
    return width % 4 === 0;
  }

  /** Runs a stage on every tile of columns, or on the one this workgroup owns. */
  eachTile(width: number, stage: (columns: Columns) => string): string {
    const text = this.#onTile(width, stage);
    if (this.tiledWidth === width) return `let columnTile = group % ${this.tiles(width)}u;\n${text}`;
    return `for (var columnTile = 0u; columnTile < ${this.tiles(width)}u; columnTile++) {\n${text}}\n`;
  }

  /** Runs a stage on one tile of columns; `tile` is a workgroup-uniform u32 expression. */
  atTile(width: number, tile: string, stage: (columns: Columns) => string): string {
    return `{\nlet columnTile = ${tile};\n${this.#onTile(width, stage)}}\n`;
  }

  #onTile(width: number, stage: (columns: Columns) => string): string {
    const tile = this.#tileWidth(width);
    const columns: Columns = { width, groups: this.#groups(width), exact: width % tile === 0 };
    return `let n0 = columnTile * ${tile}u + (lane % ${this.lanesAcross}u) * 4u;\n${stage(columns)}`;
  }

  /** Loads four columns at `base + column`; those past the end repeat the last one. */
  get(load: string, base: string, column: string, { width, exact }: Columns): string {
    if (this.isVector(width)) return `${load}v(${base} + ${exact ? column : `min(${column}, ${width - 4}u)`})`;
    const element = (j: number) => `${load}(${base} + min(${column} + ${j}u, ${width - 1}u))`;
    return `vec4<f32>(${[0, 1, 2, 3].map(element).join(", ")})`;
  }

  /** Stores four columns at `base + column`; those past the end are left out. */
  put(store: string, base: string, column: string, { width, exact }: Columns, value: string): string {
    if (this.isVector(width)) {
      const text = `${store}v(${base} + ${column}, ${value});`;
      return exact ? `${text}\n` : `if (${column} < ${width}u) { ${text} }\n`;
    }
    const stores = COMPONENTS.map((part, j) =>
      `if (${column} + ${j}u < ${width}u) { ${store}(${base} + ${column} + ${j}u, value.${part}); }\n`
    );
    return `{ let value = ${value};\n${stores.join("")}}\n`;
  }

  /** A product of the block's rows with an expert's matrix; accumulators are visited by {@linkcode eachOutput}. */
  product(product: BlockProduct): string {
    return this.variant === "software" ? registerProduct(this, product) : sharedProduct(this, product);
  }

  /**
   * Visits every accumulator of a row that exists: the row, the first of its four columns, its value. On software adapters
   * the text of a visit stands in a loop over rows, so that it may be long.
   *
   * @param around Statements before and after the visits to a row.
   */
  eachOutput(
    name: string,
    columns: Columns,
    visit: (row: BlockRow, column: string, value: string) => string,
    around: { readonly before?: string; after?(row: BlockRow): string } = {},
  ): string {
    const { groups } = columns;
    const visits = (row: BlockRow, values: readonly string[]) =>
      (around.before ?? "") + times(groups, (c) => `{\n${visit(row, columnOf(c, this.lanesAcross), values[c]!)}}\n`) +
      (around.after?.(row) ?? "");
    const { tile } = this;
    if (tile !== null) {
      return times(this.rowsEach, (r) => {
        const row = this.row(`(${firstRow(tile)} + ${r}u)`);
        return `if (first + ${row.local} < last) {\n${visits(row, accumulatorsOf(name, r, tile))}}\n`;
      });
    }
    return forEachRow({ name, rows: this.rows, columns: groups, unrolled: false }, (row, values) => {
      const text = visits({ ...STORED_ROW, local: row }, values);
      return `if (first + ${row} < last) {\n${declareStoredRow(text, row)}${text}}\n`;
    });
  }

  /** Runs statements for this lane's existing rows; `row` is the number in the block. */
  eachRow(visit: string): string {
    const origin = this.tile === null ? "0u" : firstRow(this.tile);
    return `for (var r = 0u; r < ${this.rowsEach}u; r++) {\nlet row = ${origin} + r;\n` +
      `if (first + row < last) {\n${visit}}\n}\n`;
  }

  /** Assembles the kernel: `expert`, `first` and `last` (its rows) are in scope of the body. */
  kernel(
    { inputs, outputs, preludes = "", dropped, weighted, assigned = weighted, parts = 1, body }: BlockKernel,
  ): KernelText {
    const { assignments, experts } = this.shape;
    const tiles = this.tiledWidth === undefined ? parts : this.tiles(this.tiledWidth);
    const blocks = (Math.floor(assignments / this.rows) + experts) * tiles;
    const grid = linearGrid(blocks, "group");
    const clear = dropped === undefined ? "" : this.#eachDropped(blocks, dropped);
    const rowMemory = this.tile === null ? "" : sharedTileMemory(this.tile) +
      `var<workgroup> blockToken: array<u32, ${this.rows}>;\n` +
      (assigned ? `var<workgroup> blockAssign: array<u32, ${this.rows}>;\n` : "") +
      (weighted ? `var<workgroup> blockWeight: array<f32, ${this.rows}>;\n` : "");
    return {
      inputs: inputs.map((name): Operand => ({ name, kind: name in PLAN && name !== "weight" ? "u32" : "f32" })),
      outputs: outputs.map((name): Operand => ({ name, kind: "f32" })),
      preludes: this.#findBlock() + rowMemory + preludes,
      body: grid.text + clear + this.#open(tiles === 1 ? "group" : `(group / ${tiles}u)`, { assigned, weighted }) +
        body,
      workgroupSize: [this.size, 1, 1],
      workgroups: grid.workgroups,
    };
  }

  /**
   * Column groups of a software lane. Four instead of two run the fused forward about 10 % faster but compile in 5.8 s
   * instead of 2.1 s on llvmpipe; one instead of two costs a third of the speed.
   */
  #groups(width: number): number {
    if (this.tile !== null) return this.tile.groups;
    return width > 64 ? this.mostGroups : width > 32 ? 2 : 1;
  }

  #tileWidth(width: number): number {
    return this.tile === null ? this.#groups(width) * 4 * SOFTWARE_LANES : this.tile.columns;
  }

  /** Software lanes own rows by number, hardware lanes name them by an expression. */
  row(r: number | string): BlockRow {
    if (typeof r === "number") {
      return { ...STORED_ROW, local: `${r}u`, place: `row${r}`, token: `token${r}`, assign: `assign${r}` };
    }
    return {
      local: r,
      place: `min(first + ${r}, last - 1u)`,
      token: `blockToken[${r}]`,
      assign: `blockAssign[${r}]`,
      weight: `blockWeight[${r}]`,
    };
  }

  /**
   * Every workgroup visits a share of the assignments. Workgroups of their own would be cheap ones at the end of the grid,
   * and llvmpipe gives each core one stretch of the workgroups beforehand.
   */
  #eachDropped(workgroups: number, visit: string): string {
    const { assignments } = this.shape;
    const share = ceilDiv(assignments, workgroups);
    return times(ceilDiv(share, this.size), (turn) => {
      const place = `${turn * this.size}u + lane`;
      return `if (${place} < ${share}u) {\nlet item = group * ${share}u + ${place};\n` +
        `if (item < ${assignments}u) { if (${PLAN.assignRow}(item) == ${NO_ROW}) {\n${visit}} }\n}\n`;
    });
  }

  #findBlock(): string {
    const { experts } = this.shape;
    const firstBlock = (e: string) => `${PLAN.expertOffsets}(${e}) / ${this.rows}u + ${e}`;
    return `fn findBlock(number: u32) -> vec3<u32> {\nvar low = 0u;\nvar high = ${experts}u;\n` +
      `while (high - low > 1u) {\nlet middle = (low + high) / 2u;\n` +
      `if (${firstBlock("middle")} <= number) { low = middle; } else { high = middle; }\n}\n` +
      `let first = ${PLAN.expertOffsets}(low) + (number - (${firstBlock("low")})) * ${this.rows}u;\n` +
      `let last = ${PLAN.expertOffsets}(low + 1u);\n` +
      `return select(vec3<u32>(${experts}u, 0u, 0u), vec3<u32>(low, first, last), first < last);\n}\n`;
  }

  /** Finds the block's expert and rows, and loads their tokens and assignments, on hardware their weights as well. */
  #open(number: string, { assigned, weighted }: { readonly assigned: boolean; readonly weighted: boolean }): string {
    const text =
      `let block = findBlock(${number});\nlet expert = block.x;\nlet first = block.y;\nlet last = block.z;\n` +
      `if (expert == ${this.shape.experts}u) { return; }\n`;
    if (this.variant === "software") {
      return text +
        times(
          this.rows,
          (r) =>
            `let row${r} = min(first + ${r}u, last - 1u);\nlet token${r} = ${PLAN.rowToken}(row${r});\n` +
            (assigned ? `let assign${r} = ${PLAN.rowAssign}(row${r});\n` : ""),
        );
    }
    const weights = (assigned ? `blockAssign[lane] = ${PLAN.rowAssign}(row);\n` : "") +
      (weighted ? `blockWeight[lane] = ${PLAN.weight}(${PLAN.rowAssign}(row));\n` : "");
    return `${text}if (lane < ${this.rows}u) {\nlet row = min(first + lane, last - 1u);\n` +
      `blockToken[lane] = ${PLAN.rowToken}(row);\n${weights}}\nworkgroupBarrier();\n`;
  }
}
