/**
 * Kernels of the gradients of expert parameters: sums over each expert's rows.
 *
 *   dMatrix[e] = Σ left[row]ᵀ right[row]    dBias[e] = Σ right[row] (· weight)    over the rows of expert e
 *
 * One workgroup owns a tile of one expert's result and walks that expert's rows in ascending order, so sums repeat bit
 * for bit and an expert without rows gets zeros. Rows may be cut into parts that are added in order: a software adapter
 * silently stops an invocation after 65,535 loop iterations.
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
import type { AdapterTraits } from "../core/kernel.ts";
import type { Aval } from "../core/shape.ts";
import { textureLine, type TextureMatrix, textureMatrix } from "../ops/texture_matrix.ts";
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
  type TileSize,
} from "../ops/shared_tile.ts";
import { registerTile } from "../ops/tile.ts";
import { forEachRow } from "../ops/tile_store.ts";
import { findTile } from "./execute_gradient_tiles.ts";
import { repaysTextures } from "./execute_textures.ts";

/** One operand: some columns of a matrix that has a row for each token, assignment or row of the plan. */
export interface ExpertRows {
  /** Whether plan row r is row rowToken[r] of the matrix, row rowAssign[r], or row r. */
  readonly by: "token" | "assign" | "row";
  /** Columns used. */
  readonly width: number;
  /** First column used. */
  readonly offset: number;
  /** Columns of the matrix. */
  readonly stride: number;
}

/** How the operands of a sum of outer products lie in textures: [rows, stride] each. */
export interface GradientTextures {
  /** Of the left operand. */
  readonly left: TextureMatrix;
  /** Of the right operand. */
  readonly right: TextureMatrix;
}

/** A sum of outer products for each expert. */
export interface MatrixGradient {
  /** E. */
  readonly experts: number;
  /** Rows of the result. */
  readonly left: ExpertRows;
  /** Columns of the result. */
  readonly right: ExpertRows;
  /** Parts each expert's rows are cut into; partial sums are [parts, E, left.width, right.width]. */
  readonly parts: number;
  /** Where operands are read from textures 0 and 1; not from their buffers then. */
  readonly textures?: GradientTextures | null;
}

/**
 * Decides whether a sum of outer products reads its operands from textures, like the block kernels it goes with.
 *
 * @param inputs left, right, expertOffsets, rowToken.
 */
export function gradientTextures(
  { experts, left, right }: MatrixGradient,
  [leftRows, rightRows, , rowToken]: readonly Aval[],
  adapter: AdapterTraits,
): GradientTextures | null {
  const work = { assignments: rowToken!.shape[0]!, experts, width: left.width, inner: right.width };
  if (!isAligned(left) || !isAligned(right) || !repaysTextures(work, adapter)) return null;
  const lay = (rows: Aval, { stride }: ExpertRows) =>
    textureMatrix({ batch: 1, rows: rows.shape[0]!, columns: stride }, adapter.textureSide);
  const found = { left: lay(leftRows!, left), right: lay(rightRows!, right) };
  return found.left && found.right && { left: found.left, right: found.right };
}

const LANES = 8;

const PLAN_INPUTS: readonly Operand[] = [
  { name: "expertOffsets", kind: "u32" },
  { name: "rowToken", kind: "u32" },
  { name: "rowAssign", kind: "u32" },
];

/** Workgroups below which a GPU gains by cutting rows, and by smaller tiles. */
const WANTED_WORKGROUPS = 128;
/** Rows of an expert, on average, that a part should have at least. */
const LEAST_PART = 64;

/**
 * Parts that keep an invocation under the loop limit even if one expert has all rows, or on hardware as many more as keep
 * the device busy where results are small.
 */
export function gradientParts(
  assignments: number,
  { experts, left, right }: Pick<MatrixGradient, "experts" | "left" | "right">,
  variant: Variant,
): number {
  const needed = Math.max(1, ceilDiv(assignments, MAX_ITERATIONS));
  if (variant === "software") return needed;
  const tile = SHARED_TILES["64x64"];
  const tiles = experts * ceilDiv(left.width, tile.rows) * ceilDiv(right.width, tile.columns);
  return Math.max(
    needed,
    Math.min(Math.floor(WANTED_WORKGROUPS / tiles), Math.floor(assignments / experts / LEAST_PART)),
  );
}

/** Whether the bias kernel, which is never cut, may walk so many rows. */
export function biasGradientFits(assignments: number): boolean {
  return assignments <= MAX_ITERATIONS;
}

function isAligned({ width, offset, stride }: ExpertRows): boolean {
  return width % 4 === 0 && offset % 4 === 0 && stride % 4 === 0;
}

/** Row of the matrix for a row of the plan. */
function matrixRow({ by }: ExpertRows, row: string): string {
  return by === "token" ? `ldu3(${row})` : by === "assign" ? `ldu4(${row})` : `(${row})`;
}

/** The sum of outer products. Inputs: left, right, expertOffsets, rowToken, rowAssign. */
export function matrixGradientKernel(gradient: MatrixGradient, variant: Variant): KernelText {
  const { experts, left, right, parts } = gradient;
  const isSoftware = variant === "software";
  const [m, n] = [left.width, right.width];
  const size = sharedTileOf(gradient);
  const rows = isSoftware ? (m > 8 ? 16 : isAligned(left) ? 8 : 4) : size.rows;
  const columns = n > 64 ? 4 : n > 32 ? 2 : 1;
  const wide = isSoftware ? columns * 4 * LANES : size.columns;
  const [tilesM, tilesN] = [ceilDiv(m, rows), ceilDiv(n, wide)];
  const tiles = tilesM * tilesN;
  const grid = linearGrid(tiles * experts * parts, "group");
  const range = parts === 1
    ? "let first = begin;\nlet last = until;\n"
    : `let share = (until - begin + ${parts - 1}u) / ${parts}u;\n` +
      `let first = min(begin + part * share, until);\nlet last = min(first + share, until);\n`;
  const open = `${grid.text}${findTile(experts, tiles, isSoftware)}let part = group / ${tiles * experts}u;\n` +
    `let m0 = (tile % ${tilesM}u) * ${rows}u;\n` +
    `let n0 = (tile / ${tilesM}u) * ${wide}u${isSoftware ? " + lane * 4u" : ""};\n` +
    `let result = (part * ${experts}u + expert) * ${m * n}u;\n` +
    `let begin = ldu2(expert);\nlet until = ldu2(expert + 1u);\n${range}`;
  const store = (row: string, columnOf: (c: number) => string, values: readonly string[]) =>
    `if (${row} < ${m}u) {\n` +
    values.map((value, c) => storeFour(`result + (${row}) * ${n}u`, columnOf(c), n, value)).join("") + "}\n";
  const body = isSoftware
    ? (gradient.textures
      ? textureProduct(left, right, rows, columns, gradient.textures)
      : softwareProduct(left, right, rows, columns)) +
      forEachRow(
        { name: "g", rows, columns, unrolled: false },
        (row, values) => store(`m0 + ${row}`, (c) => `(n0 + ${c * 4 * LANES}u)`, values),
      )
    : hardwareProduct(left, right, size) +
      times(size.rowsEach, (r) =>
        store(
          `m0 + ${firstRow(size)} + ${r}u`,
          (c) => `(n0 + ${firstColumn()} + ${c * COLUMN_STRIDE}u)`,
          accumulatorsOf("g", r, size),
        ));
  return {
    inputs: [{ name: "left", kind: "f32" }, { name: "right", kind: "f32" }, ...PLAN_INPUTS],
    outputs: [{ name: "gradient", kind: "f32" }],
    preludes: !isSoftware ? sharedTileMemory(size) : gradient.textures ? TEXELS : "",
    body: open + body,
    workgroupSize: [isSoftware ? LANES : lanesOf(size), 1, 1],
    workgroups: grid.workgroups,
  };
}

/** Stores four columns of a row that has `width`, those outside left out. */
function storeFour(start: string, column: string, width: number, value: string): string {
  if (width % 4 === 0) return `if (${column} < ${width}u) { st0v(${start} + ${column}, ${value}); }\n`;
  return COMPONENTS.map((part, j) =>
    `if (${column} + ${j}u < ${width}u) { st0(${start} + ${column} + ${j}u, ${value}.${part}); }\n`
  ).join("");
}

/** A register tile for each lane; rows and columns past the end read clamped. */
function softwareProduct(left: ExpertRows, right: ExpertRows, rows: number, columns: number): string {
  function places(name: string, count: number, side: ExpertRows, at: (j: number) => string): string {
    const unit = isAligned(side) ? 4 : 1;
    return times(
      count / unit,
      (j) => `let ${name}${j * unit} = min(${at(j * unit)}, ${side.width - unit}u) + ${side.offset}u;\n`,
    );
  }
  return places("leftColumn", rows, left, (r) => `m0 + ${r}u`) +
    places("rightColumn", columns * 4, right, (j) => `n0 + ${(j >> 2) * 4 * LANES + (j & 3)}u`) +
    registerTile({
      name: "g",
      rows,
      columns,
      start: "first",
      end: "last",
      step: 1,
      prepare: (row) =>
        `let leftRow = ${matrixRow(left, row)} * ${left.stride}u;\nlet rightRow = ${
          matrixRow(right, row)
        } * ${right.stride}u;\n`,
      a: { load: "ld0", along: isAligned(left) ? "tile" : "none", index: (r) => `leftRow + leftColumn${r}` },
      b: { load: "ld1", along: isAligned(right) ? "tile" : "none", index: (j) => `rightRow + rightColumn${j}` },
    });
}

/**
 * The same with operands in textures, whose lines are rows. Every iteration fetches all accumulators and puts them back, so
 * it takes four rows; those past the end count as zeros.
 */
function textureProduct(
  left: ExpertRows,
  right: ExpertRows,
  rows: number,
  columns: number,
  textures: GradientTextures,
): string {
  function start(name: string, matrix: TextureMatrix, side: ExpertRows, row: string): string {
    const { x, y } = textureLine(matrix, matrixRow(side, row));
    return `let ${name}Line = ${y};\nlet ${name}Start = ${x} + ${side.offset / 4}u;\n`;
  }
  return registerTile({
    name: "g",
    rows,
    columns,
    start: "first",
    end: "last",
    step: 4,
    isNonEmpty: true,
    prepare: (row, i) =>
      `let inside${i} = ${row} < last;\nlet row${i} = min(${row}, last - 1u);\n` +
      start(`left${i}`, textures.left, left, `row${i}`) + start(`right${i}`, textures.right, right, `row${i}`),
    a: {
      load: "leftTexel",
      along: "tile",
      index: (r, _, i) => `left${i}Start + (m0 >> 2u) + ${r / 4}u, left${i}Line, inside${i}`,
    },
    b: {
      load: "rightTexel",
      along: "tile",
      index: (j, _, i) => `right${i}Start + (n0 >> 2u) + ${(j >> 2) * LANES}u, right${i}Line, inside${i}`,
    },
  });
}

/** Texels of the operands, zeros outside of the rows. */
const TEXELS = [["left", 0], ["right", 1]].map(([name, texture]) =>
  `fn ${name}Texelv(x: u32, y: u32, inside: bool) -> vec4<f32> {\n` +
  `return select(vec4<f32>(), tx${texture}v(x, y), inside);\n}\n`
).join("");

/** The tile of a hardware kernel: the largest of which there are enough. */
function sharedTileOf({ experts, left, right, parts }: MatrixGradient): TileSize {
  const tiles = [SHARED_TILES["128x128"], SHARED_TILES["64x128"]];
  return tiles.find(({ rows, columns }) =>
    Math.floor(left.width / rows) * Math.floor(right.width / columns) * experts * parts >= WANTED_WORKGROUPS
  ) ?? SHARED_TILES["64x64"];
}

/** A tile in workgroup memory, whose depth is the rows: gathered, neighbors along both sides of the tile. */
function hardwareProduct(left: ExpertRows, right: ExpertRows, size: TileSize): string {
  function operand(load: string, origin: string, side: ExpertRows): SharedOperand {
    const isVector = isAligned(side);
    return {
      load,
      along: "tile",
      isVector,
      line: (row) => `${matrixRow(side, row)} * ${side.stride}u + ${side.offset}u`,
      place: (at) => `min(${origin} + ${at}, ${side.width - (isVector ? 4 : 1)}u)`,
    };
  }
  return sharedTile({
    name: "g",
    size,
    start: "first",
    end: "last",
    isWhole: false,
    a: operand("ld0", "m0", left),
    b: operand("ld1", "n0", right),
  });
}

/** Lanes of a hardware workgroup that share the rows of an expert, and those side by side along the columns. */
const [ROW_SHARES, SHARED_LANES] = [16, 16];

/**
 * The sum of rows, a lane for each four columns (or one): alone on software adapters; on hardware ones several share the
 * rows, and their sums are added in order. Inputs: right, weight, expertOffsets, rowToken, rowAssign.
 */
export function biasGradientKernel(
  experts: number,
  right: ExpertRows,
  scale: "none" | "weight",
  variant: Variant,
): KernelText {
  const n = right.width;
  const [shares, across] = variant === "software" ? [1, LANES] : [ROW_SHARES, SHARED_LANES];
  const [unit, suffix, zero] = isAligned(right) ? [4, "v", "vec4<f32>()"] : [1, "", "0.0"];
  const tiles = ceilDiv(n / unit, across);
  const grid = linearGrid(tiles * experts, "tile");
  const factor = scale === "weight" ? "ld1(ldu4(row)) * " : "";
  const type = unit === 4 ? "vec4<f32>" : "f32";
  const place = `${right.offset}u + column`;
  const add = (step: number) =>
    `for (; row < last; row += ${step}u) {\n` +
    `sum += ${factor}ld0${suffix}(${matrixRow(right, "row")} * ${right.stride}u + ${place});\n}\n`;
  const store = `st0${suffix}(expert * ${n}u + column, sum);\n`;
  return {
    inputs: [
      { name: "right", kind: "f32" },
      { name: "weight", kind: "f32" },
      ...PLAN_INPUTS,
    ],
    outputs: [{ name: "gradient", kind: "f32" }],
    preludes: shares === 1 ? "" : `var<workgroup> parts: array<${type}, ${shares * across}>;\n`,
    body: `${grid.text}let expert = tile % ${experts}u;\n` +
      `let column = (tile / ${experts}u * ${across}u + lane % ${across}u) * ${unit}u;\n` +
      `let last = ldu2(expert + 1u);\nvar sum = ${zero};\nvar row = ldu2(expert) + lane / ${across}u;\n` +
      (shares === 1
        ? `if (column >= ${n}u) { return; }\n${add(1)}${store}`
        : `if (column < ${n}u) {\n${add(shares)}}\nparts[lane] = sum;\nworkgroupBarrier();\n` +
          `if (lane < ${across}u && column < ${n}u) {\n` +
          times(shares - 1, (i) => `sum += parts[lane + ${(i + 1) * across}u];\n`) + `${store}}\n`),
    workgroupSize: [shares * across, 1, 1],
    workgroups: grid.workgroups,
  };
}
