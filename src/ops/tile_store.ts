/**
 * Storing a register tile row by row.
 *
 * What follows a product (bias, activation, an optimizer's update) is part of its stores. Written out for each of the 64
 * vec4 of a 16 x 16 tile, it made a kernel of several thousand instructions: up to four seconds of LLVM, and twice the run
 * time of the loop below. An array of accumulators with a dynamic index is slower still; a switch over the row is cheap,
 * because llvmpipe turns it into selections (measured on the module of `matmul 128x784x256+1 fused`, tile 16x4, depth 128:
 * unrolled 1832 ms to compile and 0.88 ms to run, array 3394 and 0.76, switch 453 and 0.46).
 *
 * @module
 */
import { times } from "./kernel_text.ts";

/** Accumulators `${name}_${row}_${column}` of a tile. */
export interface StoredTile {
  /** Prefix of the accumulators. */
  readonly name: string;
  /** Rows of the tile. */
  readonly rows: number;
  /** Columns in groups of four. */
  readonly columns: number;
  /** Writes the rows out one after the other instead: for tiles of many rows and plain stores. */
  readonly unrolled: boolean;
}

/** Rows up to which a loop does not pay. */
const FEW_ROWS = 2;

/**
 * Returns the WGSL that visits the rows of a tile in order.
 *
 * @param store Statements for a row, given its number as a u32 expression and the names of its accumulators.
 */
export function forEachRow(
  { name, rows, columns, unrolled }: StoredTile,
  store: (row: string, accumulators: readonly string[]) => string,
): string {
  const columnsOf = (prefix: string): string[] => Array.from({ length: columns }, (_, c) => `${prefix}_${c}`);
  if (unrolled || rows <= FEW_ROWS) return times(rows, (r) => store(`${r}u`, columnsOf(`${name}_${r}`)));
  const picked = columnsOf(`${name}_row`);
  const cases = times(rows, (r) => {
    const label = r === rows - 1 ? `case ${r}u, default` : `case ${r}u`;
    return `${label}: { ${columnsOf(`${name}_${r}`).map((from, c) => `${picked[c]} = ${from};`).join(" ")} }\n`;
  });
  return `for (var ${name}_at = 0u; ${name}_at < ${rows}u; ${name}_at++) {\n` +
    picked.map((variable) => `var ${variable}: vec4<f32>;\n`).join("") +
    `switch (${name}_at) {\n${cases}}\n${store(`${name}_at`, picked)}}\n`;
}
