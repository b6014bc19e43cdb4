/**
 * The frame of the kernels that run experts: a workgroup owns a block, at most BM rows of one expert, and multiplies its
 * rows by that expert's matrices.
 *
 * Letters: A assignments (rows of the plan), E experts, D model width, F expert width, BM rows of a block,
 * NB = floor(A / BM) + E blocks: an upper bound of those with rows, so no count is read back. Blocks of expert e have the
 * numbers from expertOffsets[e] / BM + e: distinct, and found again by binary search, so that thousands of experts cost
 * no more to find than eight.
 * software: 8 lanes side by side along the columns, a register tile of BM rows each. hardware: 256 lanes, 16 along the
 * columns and 16 along the rows, slabs of both operands in workgroup memory. The two inner loops are in `ops/tile.ts`.
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
  type Operand,
  times,
  type Variant,
} from "../ops/kernel_text.ts";
import { textureLine, type TextureMatrix } from "../ops/texture_matrix.ts";
import { registerTile, SHARED_COLUMNS, sharedTile, sharedTileMemory, type TileOperand } from "../ops/tile.ts";
import type { ExpertShape } from "./execute_shape.ts";

/** Accessors of the operands that all block kernels know; numbers 0 to 4 and from 10 up differ. */
export const PLAN = {
  weight: "ld5",
  expertOffsets: "ldu6",
  rowToken: "ldu7",
  rowAssign: "ldu8",
  assignRow: "ldu9",
} as const;

/** Lanes of a software workgroup: one SIMD group of llvmpipe. */
const SOFTWARE_LANES = 8;
/** Iterations one invocation may run: llvmpipe stops it, silently, after 65,535. */
const MAX_ITERATIONS = 60_000;
/** Row of an assignment that was dropped, as plans have it. */
const NO_ROW = "0xffffffffu";

/** One tile of columns. */
export interface Columns {
  /** Columns of the whole row. */
  readonly width: number;
  /** Groups of four columns a lane owns. */
  readonly groups: number;
  /** Whether the width is a multiple of the tile, so that no column needs a clamp or a mask. */
  readonly exact: boolean;
}

/** WGSL expressions for one row of the block. */
export interface BlockRow {
  /** Number in the block. */
  readonly local: string;
  /** Row of the plan, clamped to the expert's last one. */
  readonly place: string;
  /** Its token. */
  readonly token: string;
  /** Its assignment; in assigned and weighted kernels only. */
  readonly assign: string;
  /** Its weight; in weighted kernels only. */
  readonly weight: string;
}

/** A product of the block's rows with an expert's matrix. */
export interface BlockProduct {
  /** Prefix of the accumulators. */
  readonly name: string;
  /** Length of the sums. */
  readonly depth: number;
  /** The tile of the result. */
  readonly columns: Columns;
  /** Adds to accumulators of that name instead of declaring them. */
  readonly accumulate?: true;
  /** The block's rows: accessor, row length, and the first element of a row. */
  readonly rows: { readonly load: string; readonly width: number; at(row: BlockRow): string } | TextureRows;
  /** The expert's matrix: accessor, whether it is stored [depth, columns] or [columns, depth], and its texture if any. */
  readonly matrix: { readonly load: string; readonly layout: "N" | "T"; readonly texture?: TextureMatrix };
}

/** Rows of a block in a texture: accessor, which line a row is, and the element of the line it starts at. */
export interface TextureRows {
  /** Accessor. */
  readonly load: string;
  /** The texture. */
  readonly texture: TextureMatrix;
  /** First element of a row, a multiple of four. */
  readonly offset: number;
  /** Line of a row. */
  line(row: BlockRow): string;
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
  /** Statements of a block. */
  readonly body: string;
}

/** BM of the software variant: 16 where experts have rows enough, less where most of the block would be empty. */
export function softwareBlockRows({ assignments, experts }: BlockShape): number {
  const rows = assignments / Math.min(experts, assignments);
  return rows >= 12 ? 16 : rows >= 6 ? 8 : 4;
}

/** Text of one block kernel; no state but sizes. */
export class ExpertBlock<Shape extends BlockShape = ExpertShape> {
  /** Invocations of a workgroup. */
  readonly size: number;
  /** Lanes side by side along the columns. */
  readonly lanesAcross: number;
  /** Rows a lane owns. */
  readonly rowsEach: number;

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
    this.size = isSoftware ? SOFTWARE_LANES : 256;
    this.lanesAcross = isSoftware ? SOFTWARE_LANES : 16;
    this.rowsEach = isSoftware ? rows : rows / 16;
  }

  /** Workgroup memory the block takes by itself, in bytes. */
  ownBytes(): number {
    if (this.variant === "software") return 0;
    return 4 * (16 * (this.rows + 1) + 16 * (SHARED_COLUMNS + 1) + 3 * this.rows);
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

  /**
   * Whether rows of a length are touched four elements at a time. Hardware variants stage element by element (neighboring
   * lanes on neighboring elements), and an operand has one form in a kernel, so there everything is scalar.
   */
  isVector(width: number): boolean {
    return this.variant === "software" && width % 4 === 0;
  }

  /** Runs a stage on every tile of columns, or on the one this workgroup owns. */
  eachTile(width: number, stage: (columns: Columns) => string): string {
    const tile = this.#tileWidth(width);
    const columns: Columns = { width, groups: this.#groups(width), exact: width % tile === 0 };
    const text = `let n0 = columnTile * ${tile}u + (lane % ${this.lanesAcross}u) * 4u;\n${stage(columns)}`;
    if (this.tiledWidth === width) return `let columnTile = group % ${this.tiles(width)}u;\n${text}`;
    return `for (var columnTile = 0u; columnTile < ${this.tiles(width)}u; columnTile++) {\n${text}}\n`;
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
    return this.variant === "software" ? this.#registerProduct(product) : this.#sharedProduct(product);
  }

  /** Visits every accumulator of a row that exists: the row, the first of its four columns, its value. */
  eachOutput(
    name: string,
    columns: Columns,
    visit: (row: BlockRow, column: string, value: string) => string,
  ): string {
    return times(this.rowsEach, (r) => {
      const row = this.#row(this.variant === "software" ? r : `((lane / 16u) * ${this.rowsEach}u + ${r}u)`);
      const visits = times(columns.groups, (c) => {
        const value = this.variant === "software" ? `${name}_${r}_${c}` : `${name}_${r}`;
        return `{\n${visit(row, columnOf(c), value)}}\n`;
      });
      return `if (first + ${row.local} < last) {\n${visits}}\n`;
    });
  }

  /** Visits this lane's existing rows in a rolled loop; `row` is the number in the block. */
  eachRow(visit: string): string {
    const origin = this.variant === "software" ? "0u" : `(lane / 16u) * ${this.rowsEach}u`;
    return `for (var r = 0u; r < ${this.rowsEach}u; r++) {\nlet row = ${origin} + r;\n` +
      `if (first + row < last) {\n${visit}}\n}\n`;
  }

  /** The same, once for each group of columns. */
  eachRowOf(columns: Columns, visit: (column: string) => string): string {
    return this.eachRow(times(columns.groups, (c) => visit(columnOf(c))));
  }

  /** Assembles the kernel: `expert`, `first` and `last` (its rows) are in scope of the body. */
  kernel(
    { inputs, outputs, preludes = "", dropped, weighted, assigned = weighted, body }: BlockKernel,
  ): KernelText {
    const { assignments, experts } = this.shape;
    const tiles = this.tiledWidth === undefined ? 1 : this.tiles(this.tiledWidth);
    const blocks = (Math.floor(assignments / this.rows) + experts) * tiles;
    const eachLane = this.variant === "software" ? 16 : 1;
    const tail = dropped === undefined ? 0 : ceilDiv(assignments, eachLane * this.size);
    const grid = linearGrid(blocks + tail, "group");
    const clear = dropped === undefined ? "" : `if (group >= ${blocks}u) {\n` +
      `for (var i = 0u; i < ${eachLane}u; i++) {\n` +
      `let item = ((group - ${blocks}u) * ${eachLane}u + i) * ${this.size}u + lane;\n` +
      `if (item < ${assignments}u) { if (${PLAN.assignRow}(item) == ${NO_ROW}) {\n${dropped}} }\n}\nreturn;\n}\n`;
    const rowMemory = this.variant === "software" ? "" : sharedTileMemory(this.rowsEach) +
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
    if (this.variant === "hardware") return 1;
    return width > 64 ? this.mostGroups : width > 32 ? 2 : 1;
  }

  #tileWidth(width: number): number {
    return this.variant === "hardware" ? SHARED_COLUMNS : this.#groups(width) * 4 * SOFTWARE_LANES;
  }

  /** Software lanes own rows by number, hardware lanes name them by an expression. */
  #row(r: number | string): BlockRow {
    if (typeof r === "number") {
      return { local: `${r}u`, place: `row${r}`, token: `token${r}`, assign: `assign${r}`, weight: `weight${r}` };
    }
    return {
      local: r,
      place: `min(first + ${r}, last - 1u)`,
      token: `blockToken[${r}]`,
      assign: `blockAssign[${r}]`,
      weight: `blockWeight[${r}]`,
    };
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

  /** Finds the block's expert and rows, and loads their tokens, assignments and weights. */
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
            (assigned ? `let assign${r} = ${PLAN.rowAssign}(row${r});\n` : "") +
            (weighted ? `let weight${r} = ${PLAN.weight}(assign${r});\n` : ""),
        );
    }
    const weights = (assigned ? `blockAssign[lane] = ${PLAN.rowAssign}(row);\n` : "") +
      (weighted ? `blockWeight[lane] = ${PLAN.weight}(${PLAN.rowAssign}(row));\n` : "");
    return `${text}if (lane < ${this.rows}u) {\nlet row = min(first + lane, last - 1u);\n` +
      `blockToken[lane] = ${PLAN.rowToken}(row);\n${weights}}\nworkgroupBarrier();\n`;
  }

  #registerProduct({ name, depth, columns, accumulate, rows, matrix }: BlockProduct): string {
    const { groups } = columns;
    const a = "texture" in rows ? this.#textureRows(name, rows) : {
      text: "",
      operand: {
        load: rows.load,
        along: this.isVector(rows.width) ? "depth" : "none",
        index: (r: number, k: string) => `${rows.at(this.#row(r))} + ${k}`,
      } as const,
    };
    const b = this.#matrixOperand(name, depth, columns, matrix);
    const loop = registerTile({
      name,
      rows: this.rows,
      columns: groups,
      start: "0u",
      end: `${depth}u`,
      step: a.operand.along === "depth" || b.operand.along === "depth" ? 4 : 1,
      a: a.operand,
      b: b.operand,
      accumulate: true,
    });
    const text = a.text + b.text;
    const declare = accumulate
      ? ""
      : times(this.rows, (r) => times(groups, (c) => `var ${name}_${r}_${c} = vec4<f32>();\n`));
    // The column offsets are scoped, so that a second product on the same accumulators may declare its own.
    return `${declare}{\n${text}${loop}}\n`;
  }

  /** Rows in a texture: the lines, before the loop, and how a lane reads four neighbors of the depth. */
  #textureRows(name: string, rows: TextureRows): { readonly text: string; readonly operand: TileOperand } {
    const text = times(this.rows, (r) => {
      const { x, y } = textureLine(rows.texture, rows.line(this.#row(r)));
      return `let ${name}x${r} = ${x} + ${rows.offset / 4}u;\nlet ${name}y${r} = ${y};\n`;
    });
    return {
      text,
      operand: { load: rows.load, along: "depth", index: (r, k) => `${name}x${r} + (${k} >> 2u), ${name}y${r}` },
    };
  }

  /** The expert's matrix, in a texture or a buffer. */
  #matrixOperand(
    name: string,
    depth: number,
    { width, groups, exact }: Columns,
    { load, layout, texture }: BlockProduct["matrix"],
  ): { readonly text: string; readonly operand: TileOperand } {
    const isN = layout === "N";
    const columnAt = (j: number) => `(${columnOf(j >> 2)} + ${j & 3}u)`;
    if (texture) {
      // Columns past the end are read from wherever they point to, which is harmless in a texture, and never stored.
      const { x, y } = textureLine(texture, `expert * ${texture.lines}u`);
      const start = `let ${name}x = ${x};\nlet ${name}y = ${y};\n`;
      return isN
        ? {
          text: start,
          operand: { load, along: "tile", index: (j, k) => `${name}x + (${columnAt(j)} >> 2u), ${name}y + ${k}` },
        }
        : {
          text: start,
          operand: { load, along: "depth", index: (j, k) => `${name}x + (${k} >> 2u), ${name}y + ${columnAt(j)}` },
        };
    }
    const isVector = this.isVector(isN ? width : depth);
    const unit = isN && isVector ? 4 : 1;
    let text = "";
    for (let j = 0; j < groups * 4; j += unit) {
      const at = exact ? columnAt(j) : `min(${columnAt(j)}, ${width - unit}u)`;
      text += `let ${name}c${j} = expert * ${depth * width}u + ${at}${isN ? "" : ` * ${depth}u`};\n`;
    }
    return {
      text,
      operand: {
        load,
        along: !isVector ? "none" : isN ? "tile" : "depth",
        index: (j, k) => isN ? `${name}c${j} + ${k} * ${width}u` : `${name}c${j} + ${k}`,
      },
    };
  }

  #sharedProduct({ name, depth, columns, accumulate, rows, matrix }: BlockProduct): string {
    const { width } = columns;
    if ("texture" in rows) throw new Error("unreachable: only kernels for software adapters read textures");
    return sharedTile({
      name,
      rowsEach: this.rowsEach,
      start: "0u",
      end: `${depth}u`,
      a: (i, k) => `${rows.load}(${rows.at(this.#row(i))} + ${k})`,
      b(k, j) {
        const column = `min(columnTile * ${SHARED_COLUMNS}u + ${j}, ${width - 1}u)`;
        const [row, rest, length] = matrix.layout === "N" ? [k, column, width] : [column, k, depth];
        return `${matrix.load}(expert * ${depth * width}u + ${row} * ${length}u + ${rest})`;
      },
      aAlong: "depth",
      bAlong: matrix.layout === "N" ? "tile" : "depth",
      accumulate: accumulate ?? false,
    });
  }
}

/** First column of a lane's group `c`. */
function columnOf(c: number): string {
  return c === 0 ? "n0" : `(n0 + ${c * 4 * SOFTWARE_LANES}u)`;
}

/** Multiply-adds of a product from which a wider tile repays twice the time to compile it. */
const WIDE_WORK = 2 ** 26;

/**
 * The block of kernels that read textures. They hold one product each (a gated one two), so wider tiles than those of the
 * fused kernels are still quick to compile.
 *
 * @param tiledWidth Columns that are cut over workgroups; left out, a workgroup walks all columns.
 */
export function textureBlock(shape: ExpertShape, tiledWidth?: number): ExpertBlock {
  const mostGroups = shape.assignments * shape.width * shape.inner >= WIDE_WORK ? 4 : 2;
  return new ExpertBlock(shape, "software", softwareBlockRows(shape), tiledWidth, mostGroups);
}
