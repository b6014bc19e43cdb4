/**
 * The inner loop of every matrix product on hardware adapters: a workgroup stages slabs of both operands in workgroup
 * memory, and each invocation owns a register tile of 4 x 4 to 8 x 8 results.
 *
 * What it is built for, in numbers (a warp of 32 lanes, FMA for each load of a vec4 from workgroup memory): 8 x 8 results
 * take 4 such loads for 64 FMA a depth, 8 x 4 take 3 for 32, 4 x 4 take 2 for 16; a GPU whose workgroup memory gives
 * 128 bytes a cycle to 128 FMA lanes is held up by loads below 4 x 8. From device memory, a 128 x 128 tile takes 64 FMA for
 * each element it loads, a 64 x 64 tile 32.
 *
 * - Slabs lie depth by depth, so both operands are read as vec4, neighbors by neighboring lanes (no bank conflicts), and
 *   indexed by `lane & mask` in arrays of a known length, so that the bounds checks that WGSL demands fold away.
 * - While a slab is multiplied, the next one is on its way into registers: loads are waited for a whole slab later.
 * - An operand whose neighbors lie along the depth is transposed in registers, four lines by four depths at a time: loads
 *   and stores stay vec4. The halves of a workgroup stage one operand each where that comes out even.
 * - Edges: lines past the end are clamped once, before the loop; what is past the end of the depth counts as zeros, and is
 *   only asked for where the range is no multiple of the slab.
 *
 * Barriers sit in uniform control flow because the depth range is a constant or a value that the caller guarantees to be
 * workgroup-uniform. Every size of tile adds in the same order, so that the choice changes no bit.
 *
 * Source: the classic register-blocked product, as in CUTLASS's SIMT kernels. Not timed on hardware yet.
 *
 * @module
 */
import type { SharedTileName } from "../core/kernel.ts";
import { COMPONENTS, times } from "./kernel_text.ts";

/** Sizes of a workgroup's tile. */
export interface TileSize {
  /** Rows of the workgroup. */
  readonly rows: number;
  /** Columns of the workgroup. */
  readonly columns: number;
  /** Neighboring rows that an invocation owns. */
  readonly rowsEach: 4 | 8;
  /** Groups of four columns that an invocation owns, {@linkcode columnStride} apart. */
  readonly groups: 1 | 2;
}

/** The tiles there are. */
export const SHARED_TILES: Readonly<Record<SharedTileName | "16x64", TileSize>> = {
  "16x64": { rows: 16, columns: 64, rowsEach: 4, groups: 1 },
  "32x64": { rows: 32, columns: 64, rowsEach: 4, groups: 1 },
  "64x64": { rows: 64, columns: 64, rowsEach: 8, groups: 1 },
  "64x128": { rows: 64, columns: 128, rowsEach: 8, groups: 2 },
  "128x128": { rows: 128, columns: 128, rowsEach: 8, groups: 2 },
};

/** Lanes along the columns, in every tile. */
export const LANES_ACROSS = 16;

/** Columns from one group of an invocation to its next one. */
export const COLUMN_STRIDE: number = 4 * LANES_ACROSS;

/** Depth of one staged slab. */
export const SLAB = 16;

/** Depths of a slab that are written out. */
const UNROLLED = 4;

/** Invocations of a workgroup. */
export function lanesOf({ rows, rowsEach }: TileSize): number {
  return LANES_ACROSS * rows / rowsEach;
}

/** Bytes of workgroup memory of a tile's slabs. */
export function slabBytes({ rows, columns }: TileSize): number {
  return 4 * SLAB * (rows + columns);
}

/** How one operand is read. */
export interface SharedOperand {
  /** Accessor stem, for instance `ld0`: the vec4 form appends `v`. */
  readonly load: string;
  /** Whether neighbors in memory lie along the depth or along the tile. */
  readonly along: "depth" | "tile";
  /** Whether four neighbors are loaded at once: lines start at, and have, multiples of four elements. */
  readonly isVector: boolean;
  /**
   * First element of a line: of a row or column of the tile where neighbors lie along the depth (evaluated once), of a depth
   * where they lie along the tile (evaluated for each slab). Clamped to what exists.
   */
  line(at: string): string;
  /** Where neighbors lie along the tile: how far into a line a row or column of the tile is. Clamped to what exists. */
  place(at: string): string;
}

/** A workgroup's tile of a product: accumulators += A B over a range of the depth. */
export interface SharedTile {
  /** Prefix of every WGSL name declared; accumulators are `${name}_${row}_${group}`, vec4 each. */
  readonly name: string;
  /** Its size. */
  readonly size: TileSize;
  /** First depth, a workgroup-uniform u32 expression. */
  readonly start: string;
  /** End of the depth, likewise. */
  readonly end: string;
  /** Whether the range has a multiple of {@linkcode SLAB} elements. */
  readonly isWhole: boolean;
  /** Rows of the tile. */
  readonly a: SharedOperand;
  /** Columns of the tile. */
  readonly b: SharedOperand;
  /** Adds to accumulators of that name instead of declaring them. */
  readonly accumulate?: boolean;
}

/** Returns the workgroup memory that {@linkcode sharedTile} needs. */
export function sharedTileMemory({ rows, columns }: TileSize): string {
  return `var<workgroup> slabA: array<array<vec4<f32>, ${rows / 4}>, ${SLAB}>;\n` +
    `var<workgroup> slabB: array<array<vec4<f32>, ${columns / 4}>, ${SLAB}>;\n`;
}

/** WGSL expression of the first of the neighboring rows that a lane owns. */
export function firstRow({ rows, rowsEach }: TileSize): string {
  return `((lane / ${LANES_ACROSS}u) & ${rows / rowsEach - 1}u) * ${rowsEach}u`;
}

/** WGSL expression of a lane's first column. */
export function firstColumn(): string {
  return `(lane & ${LANES_ACROSS - 1}u) * 4u`;
}

/** Names accumulators of a row of a lane's tile. */
export function accumulatorsOf(name: string, row: number, { groups }: TileSize): string[] {
  return Array.from({ length: groups }, (_, group) => `${name}_${row}_${group}`);
}

/** Returns the WGSL of a workgroup's tile; needs `lane` and {@linkcode sharedTileMemory}. */
export function sharedTile({ name, size, start, end, isWhole, a, b, accumulate }: SharedTile): string {
  const { rows, columns, rowsEach, groups } = size;
  const k = `${name}k`;
  // Each takes blocks of four lines by four depths; where there are lanes for both, one lane never does two of them.
  const [blocksA, blocksB] = [rows * SLAB / 16, columns * SLAB / 16];
  const isShared = blocksA + blocksB <= lanesOf(size);
  const range = { end, isWhole };
  const stageA = stageOf({ prefix: `${name}a`, slab: "slabA", staged: `${name}s`, groups: rows / 4 }, a, range);
  const stageB = stageOf(
    { prefix: `${name}b`, slab: "slabB", staged: isShared ? `${name}s` : `${name}t`, groups: columns / 4 },
    b,
    range,
  );
  const isA = `lane < ${blocksA}u`;
  const isB = isShared ? `lane >= ${lanesOf(size) - blocksB}u` : `lane < ${blocksB}u`;
  const each = (left: string, right: string) =>
    (blocksA === lanesOf(size) ? left : `if (${isA}) {\n${left}}\n`) +
    (blocksB === lanesOf(size) ? right : `if (${isB}) {\n${right}}\n`);
  const declare = accumulate
    ? ""
    : times(rowsEach, (r) => accumulatorsOf(name, r, size).map((one) => `var ${one} = vec4<f32>();\n`).join(""));
  const staged = [`${name}s`, ...(isShared ? [] : [`${name}t`])];
  const unrolled = times(UNROLLED, (d) => {
    const at = `${name}d + ${d}u`;
    const left = times(rowsEach / 4, (g) => `let ${name}l${g} = slabA[${at}][${name}m${g === 0 ? "" : ` + ${g}u`}];\n`);
    const right = times(
      groups,
      (g) => `let ${name}r${g} = slabB[${at}][${name}n${g === 0 ? "" : ` + ${g * LANES_ACROSS}u`}];\n`,
    );
    const sums = times(
      rowsEach,
      (r) => times(groups, (g) => `${name}_${r}_${g} += ${name}l${r >> 2}.${COMPONENTS[r & 3]!} * ${name}r${g};\n`),
    );
    return `{\n${left}${right}${sums}}\n`;
  });
  const multiply = `for (var ${name}d = 0u; ${name}d < ${SLAB}u; ${name}d += ${UNROLLED}u) {\n${unrolled}}\n`;
  // A scope of its own, so that a second product on the same accumulators may declare its names again.
  return `${declare}{\n` +
    `let ${name}m = ((lane / ${LANES_ACROSS}u) & ${rows / rowsEach - 1}u) * ${rowsEach / 4}u;\n` +
    `let ${name}n = lane & ${LANES_ACROSS - 1}u;\n` +
    staged.map((prefix) => times(4, (j) => `var ${prefix}${j} = vec4<f32>();\n`)).join("") +
    stageA.open + stageB.open +
    `var ${k} = ${start};\nif (${k} < ${end}) {\n${each(stageA.load(k), stageB.load(k))}}\n` +
    `for (; ${k} < ${end}; ${k} += ${SLAB}u) {\nworkgroupBarrier();\n${each(stageA.store, stageB.store)}` +
    `workgroupBarrier();\nlet next = ${k} + ${SLAB}u;\n` +
    `if (next < ${end}) {\n${each(stageA.load("next"), stageB.load("next"))}}\n${multiply}}\n}\n`;
}

/** One operand on its way: addresses, loads into registers, and stores to workgroup memory. */
interface Stage {
  /** Declares what does not depend on the slab. */
  readonly open: string;
  /** Loads the slab that begins at a depth. */
  load(depth: string): string;
  /** Stores what was loaded. */
  readonly store: string;
}

/** Where an operand is staged: prefix of its names, its slab, its registers, and vec4s of a depth, a power of two. */
interface StagePlace {
  readonly prefix: string;
  readonly slab: string;
  readonly staged: string;
  readonly groups: number;
}

/** The range of the depth. */
interface StageRange {
  readonly end: string;
  readonly isWhole: boolean;
}

function stageOf(place: StagePlace, operand: SharedOperand, range: StageRange): Stage {
  return operand.along === "depth" ? alongDepth(place, operand, range) : alongTile(place, operand, range);
}

/** Each lane takes four lines by four depths, and turns them. */
function alongDepth({ prefix, slab, staged, groups }: StagePlace, operand: SharedOperand, range: StageRange): Stage {
  const { load, isVector, line } = operand;
  // Eight neighboring lanes take eight groups of the same depth, so that their stores meet in no bank; the next lanes take
  // the depths beside, so that a warp reads 64 neighboring bytes of each line.
  const across = Math.min(8, groups);
  const rest = groups / across;
  const group = rest === 1
    ? `lane & ${across - 1}u`
    : `(lane & ${across - 1}u) | (((lane / ${across * 4}u) & ${rest - 1}u) * ${across}u)`;
  function read(j: number, at: string): string {
    if (isVector) return `${load}v(${prefix}Line${j} + ${at})`;
    const element = (i: number) => {
      const own = i === 0 ? at : `${at} + ${i}u`;
      return `${load}(${prefix}Line${j} + ${range.isWhole ? own : `min(${own}, ${range.end} - 1u)`})`;
    };
    return `vec4<f32>(${[0, 1, 2, 3].map(element).join(", ")})`;
  }
  function masked(value: string): string {
    if (range.isWhole) return value;
    return isVector
      ? `select(vec4<f32>(), ${value}, own < ${range.end})`
      : `select(vec4<f32>(), ${value}, vec4<u32>(own) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${range.end}))`;
  }
  const at = isVector && !range.isWhole ? `min(own, ${range.end} - 4u)` : "own";
  return {
    open: `let ${prefix}Group = ${group};\nlet ${prefix}Depth = ((lane / ${across}u) & 3u) * 4u;\n` +
      times(4, (j) => `let ${prefix}Line${j} = ${line(`(${prefix}Group * 4u + ${j}u)`)};\n`),
    load: (depth) =>
      `{\nlet own = ${depth} + ${prefix}Depth;\n` + times(4, (j) => `${staged}${j} = ${masked(read(j, at))};\n`) +
      "}\n",
    store: times(4, (i) => {
      const turned = [0, 1, 2, 3].map((j) => `${staged}${j}.${COMPONENTS[i]!}`).join(", ");
      return `${slab}[${prefix}Depth + ${i}u][${prefix}Group] = vec4<f32>(${turned});\n`;
    }),
  };
}

/** Each lane takes a vec4 of four depths. */
function alongTile({ prefix, slab, staged, groups }: StagePlace, operand: SharedOperand, range: StageRange): Stage {
  const { load, isVector, line, place } = operand;
  const places = isVector ? 1 : 4;
  const depthOf = (j: number) => `${prefix}Depth + ${4 * j}u`;
  const value = isVector
    ? `${load}v(line + ${prefix}Place0)`
    : `vec4<f32>(${[0, 1, 2, 3].map((i) => `${load}(line + ${prefix}Place${i})`).join(", ")})`;
  return {
    open: `let ${prefix}Group = lane & ${groups - 1}u;\nlet ${prefix}Depth = (lane / ${groups}u) & 3u;\n` +
      times(places, (i) => `let ${prefix}Place${i} = ${place(`(${prefix}Group * 4u + ${i}u)`)};\n`),
    load: (depth) =>
      times(4, (j) => {
        const own = `let own = ${depth} + ${depthOf(j)};\n`;
        return range.isWhole
          ? `{\n${own}let line = ${line("own")};\n${staged}${j} = ${value};\n}\n`
          : `{\n${own}let line = ${line(`min(own, ${range.end} - 1u)`)};\n` +
            `${staged}${j} = select(vec4<f32>(), ${value}, own < ${range.end});\n}\n`;
      }),
    store: times(4, (j) => `${slab}[${depthOf(j)}][${prefix}Group] = ${staged}${j};\n`),
  };
}
