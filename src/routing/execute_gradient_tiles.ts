/**
 * In which order the tiles of the experts' gradients lie in a grid.
 *
 * @module
 */

/** Shares that the grid of a software kernel is cut into at most where loads are uneven. */
const MOST_SHARES = 4;

/** How far from even the first, second or third quarter of the experts may be loaded, in shares of all rows. */
const UNEVEN = 0.06;

/** In how many shares of the grid the tiles of an expert may lie, each with as many. */
function sharesOf(tiles: number): number {
  let shares = Math.min(MOST_SHARES, tiles);
  while (tiles % shares !== 0) shares--;
  return shares;
}

/**
 * Finds the `expert` and the `tile` of it that workgroup `group` of a part has.
 *
 * llvmpipe gives each core one stretch of the workgroups beforehand. The tiles of an expert are together: its rows are then
 * in the core's own cache, where the block kernels left them. But where one stretch would have far more rows than another,
 * every stretch gets some tiles of each expert.
 *
 * @param experts E.
 * @param tiles Tiles of the result of one expert.
 * @returns Statements that declare both; they read `expertOffsets` through accessor 2.
 */
export function findTile(experts: number, tiles: number, isSoftware: boolean): string {
  const shares = isSoftware && experts > 1 ? sharesOf(tiles) : 1;
  const whole = `let expert = group / ${tiles}u % ${experts}u;\nlet tile = group % ${tiles}u;\n`;
  if (shares === 1) return whole;
  const borders = new Set([1, 2, 3].map((quarter) => Math.floor(experts * quarter / 4)).filter((e) => e > 0));
  const tests = [...borders].map((e) => `abs(f32(ldu2(${e}u)) - ${e / experts} * rows) < ${UNEVEN} * rows`);
  const together = tiles / shares;
  return `let rows = f32(ldu2(${experts}u));\nlet together = select(${together}u, ${tiles}u, ${
    tests.join(" && ")
  });\n` +
    `let expert = group / together % ${experts}u;\n` +
    `let tile = group % together + group / (together * ${experts}u) % (${tiles}u / together) * together;\n`;
}
