/**
 * The products of the experts' block kernels: the rows of a block times its expert's matrix, as WGSL text around the inner
 * loops of `ops/tile.ts`.
 *
 * software: a lane owns all rows of the block and some columns, and reads operands from buffers or textures. hardware:
 * lanes share slabs of both operands in workgroup memory.
 *
 * @module
 */
import { times } from "../ops/kernel_text.ts";
import { textureLine, type TextureMatrix } from "../ops/texture_matrix.ts";
import { sharedTile, SLAB, type TileSize } from "../ops/shared_tile.ts";
import { registerTile, type TileOperand } from "../ops/tile.ts";

/** Lanes of a software workgroup: one SIMD group of llvmpipe. */
export const SOFTWARE_LANES = 8;

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
  /** Its weight; in weighted kernels, where results are stored. */
  readonly weight: string;
}

/** Depths that a product sums; workgroup-uniform u32 expressions. Hardware adapters only. */
export interface DepthSlice {
  /** The first. */
  readonly start: string;
  /** How many. */
  readonly length: string;
  /** Whether that is a multiple of what is staged at once. */
  readonly isWhole: boolean;
}

/** A product of the block's rows with an expert's matrix. */
export interface BlockProduct {
  /** Prefix of the accumulators. */
  readonly name: string;
  /** Length of the matrix's columns, and of the sums. */
  readonly depth: number;
  /** Which depths are summed, all by default; rows start at the first of them. */
  readonly slice?: DepthSlice;
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

/** What a product has to know of the block that it is for. */
export interface ProductFrame {
  /** Rows of the block. */
  readonly rows: number;
  /** The tile of a workgroup on hardware adapters; null on software adapters. */
  readonly tile: TileSize | null;
  /** Whether rows of a length are touched four elements at a time. */
  isVector(width: number): boolean;
  /** Names a row of the block: by number on software adapters, by an expression on hardware. */
  row(r: number | string): BlockRow;
}

/** First column of a lane's group `c`, as a u32 expression; lanes side by side each own four columns of a group. */
export function columnOf(c: number, lanesAcross: number = SOFTWARE_LANES): string {
  return c === 0 ? "n0" : `(n0 + ${c * 4 * lanesAcross}u)`;
}

/** The product on a software adapter. */
export function registerProduct(
  frame: ProductFrame,
  { name, depth, columns, accumulate, rows, matrix }: BlockProduct,
): string {
  const { groups } = columns;
  const a = "texture" in rows ? textureRowsOf(frame, name, rows) : {
    text: "",
    operand: {
      load: rows.load,
      along: frame.isVector(rows.width) ? "depth" : "none",
      index: (r: number, k: string) => `${rows.at(frame.row(r))} + ${k}`,
    } as const,
  };
  const b = matrixOperand(frame, name, depth, columns, matrix);
  const loop = registerTile({
    name,
    rows: frame.rows,
    columns: groups,
    start: "0u",
    end: `${depth}u`,
    step: a.operand.along === "depth" || b.operand.along === "depth" ? 4 : 1,
    a: a.operand,
    b: b.operand,
    accumulate: true,
    isNonEmpty: true,
  });
  const text = a.text + b.text;
  const declare = accumulate
    ? ""
    : times(frame.rows, (r) => times(groups, (c) => `var ${name}_${r}_${c} = vec4<f32>();\n`));
  // The column offsets are scoped, so that a second product on the same accumulators may declare its own.
  return `${declare}{\n${text}${loop}}\n`;
}

/** Rows in a texture: the lines, before the loop, and how a lane reads four neighbors of the depth. */
function textureRowsOf(
  frame: ProductFrame,
  name: string,
  rows: TextureRows,
): { readonly text: string; readonly operand: TileOperand } {
  const text = times(frame.rows, (r) => {
    const { x, y } = textureLine(rows.texture, rows.line(frame.row(r)));
    return `let ${name}x${r} = ${x} + ${rows.offset / 4}u;\nlet ${name}y${r} = ${y};\n`;
  });
  return {
    text,
    operand: { load: rows.load, along: "depth", index: (r, k) => `${name}x${r} + (${k} >> 2u), ${name}y${r}` },
  };
}

/** The expert's matrix, in a texture or a buffer. */
function matrixOperand(
  frame: ProductFrame,
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
  const isVector = frame.isVector(isN ? width : depth);
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

/** The product on a hardware adapter. */
export function sharedProduct(
  frame: ProductFrame,
  { name, depth, slice, columns, accumulate, rows, matrix }: BlockProduct,
): string {
  const { width, exact } = columns;
  const { tile: size } = frame;
  if ("texture" in rows || size === null) throw new Error("unreachable: kernels for hardware adapters read buffers");
  const isN = matrix.layout === "N";
  const expert = `expert * ${depth * width}u`;
  const start = slice === undefined ? expert : `${expert} + (${slice.start})${isN ? ` * ${width}u` : ""}`;
  const unit = isN && frame.isVector(width) ? 4 : 1;
  const column = (j: string) => {
    const at = `columnTile * ${size.columns}u + ${j}`;
    return exact ? `(${at})` : `min(${at}, ${width - unit}u)`;
  };
  return sharedTile({
    name,
    size,
    start: "0u",
    end: slice?.length ?? `${depth}u`,
    isWhole: slice?.isWhole ?? depth % SLAB === 0,
    a: {
      load: rows.load,
      along: "depth",
      isVector: frame.isVector(rows.width),
      line: (i) => rows.at(frame.row(i)),
      place: (i) => i,
    },
    b: {
      load: matrix.load,
      along: isN ? "tile" : "depth",
      isVector: frame.isVector(isN ? width : depth),
      line: (at) => isN ? `${start} + ${at} * ${width}u` : `${start} + ${column(at)} * ${depth}u`,
      place: column,
    },
    accumulate: accumulate ?? false,
  });
}
