/**
 * The inner loop of every matrix product on software adapters: one invocation owns `rows` x `columns`*4 accumulators and
 * streams both operands from storage. llvmpipe turns each storage or workgroup load into a scalar loop over its 8 lanes, so
 * the score is arithmetic per loaded component: big tiles win, workgroup memory loses. The loop for hardware adapters is in
 * `shared_tile.ts`.
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
