/**
 * The two inner loops every matrix product here is made of.
 *
 * registerTile (software adapters): one invocation owns `rows` x `columns`*4 accumulators and streams both operands from
 * storage. llvmpipe turns each storage or workgroup load into a scalar loop over its 8 lanes, so the score is arithmetic
 * per loaded component: big tiles win, workgroup memory loses.
 *
 * sharedTile (hardware adapters): 16 x 16 invocations stage slabs of both operands in workgroup memory and own
 * `rowsEach` x 4 accumulators each. Barriers sit in uniform control flow because the depth is a compile-time constant or
 * a value that the caller guarantees to be workgroup-uniform.
 *
 * @module
 */
import { COMPONENTS, times } from "./kernel_text.ts";

/** How one operand of a register tile is read. */
export interface TileOperand {
  /** Accessor stem, for instance `ld0`: the vec4 form appends `v`. */
  readonly load: string;
  /** The direction in which four elements are adjacent and aligned: along the depth, along the tile, or neither. */
  readonly along: "depth" | "tile" | "none";
  /**
   * Element index of tile row (or column) `lane` at depth `k`, an expression, which is step `step` of its iteration; lane is
   * a multiple of 4 when along = tile.
   */
  index(lane: number, k: string, step: number): string;
}

/** A register tile: acc[rows][columns] += A[rows, depth] B[depth, columns * 4]. */
export interface RegisterTile {
  /** Prefix of every WGSL name declared; accumulators are `${name}_${row}_${column}`, vec4 each. */
  readonly name: string;
  readonly rows: number;
  /** Columns in groups of four. */
  readonly columns: number;
  /** Depth range, u32 expressions. */
  readonly start: string;
  readonly end: string;
  /** Depth per iteration: 4 where an operand is adjacent along the depth; must divide the range. */
  readonly step: 1 | 2 | 4;
  readonly a: TileOperand;
  readonly b: TileOperand;
  /** Statements at the top of each depth element, for indices that depend on it (gathered rows). */
  readonly prepare?: (k: string, index: number) => string;
  /** Accumulators that already exist are added to instead of declared. */
  readonly accumulate?: boolean;
  /**
   * Whether the depth range is known to have elements. llvmpipe leaves a loop only at its end: one that asks before its
   * first iteration runs another one in vain.
   */
  readonly isNonEmpty?: boolean;
}

/** Returns the WGSL of a register tile: declarations of the accumulators and the depth loop. */
export function registerTile(tile: RegisterTile): string {
  const { name, rows, columns, step, a, b } = tile;
  const k = `${name}k`;
  const depthAt = (index: number): string => index === 0 ? k : `(${k} + ${index}u)`;
  let text = "";
  if (!tile.accumulate) {
    text += times(rows, (r) => times(columns, (c) => `var ${name}_${r}_${c} = vec4<f32>();\n`));
  }
  text += tile.isNonEmpty
    ? `var ${k} = ${tile.start};\nloop {\n`
    : `for (var ${k} = ${tile.start}; ${k} < ${tile.end}; ${k} += ${step}u) {\n`;
  if (tile.prepare) { for (let index = 0; index < step; index++) text += tile.prepare(depthAt(index), index); }
  // Columns adjacent along the depth are loaded as four vec4 and transposed: on scalarizing compilers that is free.
  if (b.along === "depth") {
    text += times(columns * 4, (n) => `let ${name}t${n} = ${b.load}v(${b.index(n, k, 0)});\n`);
  }
  for (let index = 0; index < step; index++) {
    const at = depthAt(index);
    const part = COMPONENTS[index]!;
    if (a.along === "tile") {
      text += times(rows / 4, (g) => `let ${name}a${index}_${g} = ${a.load}v(${a.index(g * 4, at, index)});\n`);
    }
    for (let c = 0; c < columns; c++) {
      const value = b.along === "tile"
        ? `${b.load}v(${b.index(c * 4, at, index)})`
        : b.along === "depth"
        ? `vec4<f32>(${[0, 1, 2, 3].map((j) => `${name}t${c * 4 + j}.${part}`).join(", ")})`
        : `vec4<f32>(${[0, 1, 2, 3].map((j) => `${b.load}(${b.index(c * 4 + j, at, index)})`).join(", ")})`;
      text += `let ${name}b${index}_${c} = ${value};\n`;
    }
  }
  // One accumulator after the other, not one depth after the other: they do not fit into registers all together, and
  // this way each is fetched and put back once in an iteration (measured: up to twice as fast).
  for (let r = 0; r < rows; r++) {
    if (a.along === "depth") text += `let ${name}a${r} = ${a.load}v(${a.index(r, k, 0)});\n`;
    if (a.along === "none") {
      text += times(step, (index) => `let ${name}a${index}_${r} = ${a.load}(${a.index(r, depthAt(index), index)});\n`);
    }
    for (let c = 0; c < columns; c++) {
      for (let index = 0; index < step; index++) {
        const value = a.along === "depth"
          ? `${name}a${r}.${COMPONENTS[index]!}`
          : a.along === "tile"
          ? `${name}a${index}_${r >> 2}.${COMPONENTS[r & 3]!}`
          : `${name}a${index}_${r}`;
        text += `${name}_${r}_${c} += ${value} * ${name}b${index}_${c};\n`;
      }
    }
  }
  return tile.isNonEmpty
    ? `${text}continuing {\n${k} += ${step}u;\nbreak if ${k} >= ${tile.end};\n}\n}\n`
    : `${text}}\n`;
}

/** A workgroup tile of 16 x 16 invocations: acc[rowsEach] (vec4 each) += A B over slabs of depth 16. */
export interface SharedTile {
  /** Prefix of every WGSL name declared; accumulators are `${name}_${row}`, vec4 each. */
  readonly name: string;
  /** Tile rows per invocation: the tile has 16 * rowsEach rows and 64 columns. */
  readonly rowsEach: number;
  /** Depth range, workgroup-uniform u32 expressions. */
  readonly start: string;
  readonly end: string;
  /** f32 expression of A at tile row `row`, depth `k` (already below end); both are u32 expressions. */
  a(row: string, k: string): string;
  /** f32 expression of B at depth `k`, tile column `column`. */
  b(k: string, column: string): string;
  /** Whether adjacent A elements lie along the depth or along the rows, so that staging reads coalesce. */
  readonly aAlong: "depth" | "tile";
  readonly bAlong: "depth" | "tile";
  readonly accumulate?: boolean;
}

/** Depth of one staged slab. */
const SLAB = 16;
/** Columns of a shared tile. */
export const SHARED_COLUMNS = 64;

/** Returns the workgroup memory that {@linkcode sharedTile} needs; `rowsEach` is the largest used in the kernel. */
export function sharedTileMemory(rowsEach: number): string {
  // One extra column keeps the transposed writes of different rows out of one memory bank.
  return `var<workgroup> slabA: array<f32, ${SLAB * (16 * rowsEach + 1)}>;\n` +
    `var<workgroup> slabB: array<f32, ${SLAB * (SHARED_COLUMNS + 1)}>;\n`;
}

/** Returns the WGSL of a workgroup tile; needs `lane` (0..255) and {@linkcode sharedTileMemory}. */
export function sharedTile(tile: SharedTile): string {
  const { name, rowsEach } = tile;
  const rows = 16 * rowsEach;
  const widthA = rows + 1, widthB = SHARED_COLUMNS + 1;
  let text = tile.accumulate ? "" : times(rowsEach, (r) => `var ${name}_${r} = vec4<f32>();\n`);
  text += `for (var ${name}k = ${tile.start}; ${name}k < ${tile.end}; ${name}k += ${SLAB}u) {\n`;
  const stage = (
    slab: string,
    width: number,
    size: number,
    along: "depth" | "tile",
    read: (l: string, k: string) => string,
  ) =>
    times(SLAB * size / 256, (p) => {
      const flat = `(lane + ${p * 256}u)`;
      const [depth, inner] = along === "depth"
        ? [`${flat} % ${SLAB}u`, `${flat} / ${SLAB}u`]
        : [`${flat} / ${size}u`, `${flat} % ${size}u`];
      return `{ let d = ${depth}; let i = ${inner}; let k = ${name}k + d; var value = 0.0;\n` +
        `if (k < ${tile.end}) { value = ${read("i", "k")}; }\n${slab}[d * ${width}u + i] = value; }\n`;
    });
  text += stage("slabA", widthA, rows, tile.aAlong, (i, k) => tile.a(i, k));
  text += stage("slabB", widthB, SHARED_COLUMNS, tile.bAlong, (i, k) => tile.b(k, i));
  text += `workgroupBarrier();\nfor (var d = 0u; d < ${SLAB}u; d++) {\n` +
    `let at = d * ${widthB}u + (lane % 16u) * 4u;\n` +
    `let b = vec4<f32>(slabB[at], slabB[at + 1u], slabB[at + 2u], slabB[at + 3u]);\n`;
  text += times(rowsEach, (r) => `${name}_${r} += slabA[d * ${widthA}u + (lane / 16u) * ${rowsEach}u + ${r}u] * b;\n`);
  return text + "}\nworkgroupBarrier();\n}\n";
}
