/**
 * How many invocations of a row kernel share a row, and in which steps they go over it.
 *
 * @module
 */
import type { AdapterTraits } from "../core/kernel.ts";
import { foldGrid, SOFTWARE_LANES } from "./dispatch.ts";
import type { Group } from "./fuse.ts";

/** How the invocations of a workgroup share rows. */
export interface RowLayout {
  /** Elements loaded together. */
  readonly width: 1 | 4;
  /** Whether rows begin and end inside a group of `width`: what lies outside the row is left out. */
  readonly ragged: boolean;
  /** Invocations that share one row, a power of two. */
  readonly lanes: number;
  /** Rows of a workgroup; a lone invocation a row is not grouped. */
  readonly rows: number;
  /** Steps of `width` elements each invocation takes. */
  readonly steps: number;
  /** Whether the steps are written out, so that what they load stays in registers, rather than looped over. */
  readonly unrolled: boolean;
}

/** Steps written out at most. More take long to compile, and registers run out. */
const UNROLLED = { software: 16, hardware: 8 };
/** Elements from which odd rows are loaded four at a time on software adapters. */
const RAGGED_FROM = 17;
/** Steps an invocation of a hardware adapter should have before another one shares its row. */
const HARDWARE_STEPS = 4;
/** Rows of a hardware workgroup fill it up to this many invocations. */
const HARDWARE_INVOCATIONS = 64;

/**
 * Chooses how rows of `inner` elements are shared.
 *
 * @param passes How often a body goes over its row: only the second and later ones gain from what the first has loaded.
 * @param apart Whether elements of odd rows have to be stored one by one.
 */
export function layoutOf(
  { inner, reductions, passes, apart = false }: {
    readonly inner: number;
    readonly reductions: number;
    readonly passes: number;
    readonly apart?: boolean;
  },
  adapter: AdapterTraits,
): RowLayout {
  if (adapter.software) {
    const ragged = inner % 4 !== 0 && inner >= RAGGED_FROM && !apart;
    const width = ragged || inner % 4 === 0 ? 4 : 1;
    // A row that begins at the last element of a group has three more in front of it, or two if all begin at even places.
    const all = Math.ceil((inner + (ragged ? inner % 2 === 0 ? 2 : 3 : 0)) / width);
    const isShared = width === 4 && passes > 1 && all > UNROLLED.software &&
      all <= UNROLLED.software * SOFTWARE_LANES;
    const lanes = isShared ? SOFTWARE_LANES : 1;
    const steps = Math.ceil(all / lanes);
    return { width, ragged, lanes, rows: 1, steps, unrolled: passes > 1 && steps <= UNROLLED.software };
  }
  const width = inner % 4 === 0 ? 4 : 1;
  const all = Math.ceil(inner / width);
  // Each reduction keeps one word for each invocation.
  const most = Math.min(adapter.workgroupInvocations, 256, adapter.workgroupBytes / (4 * Math.max(1, reductions)));
  let lanes = 1;
  while (lanes * HARDWARE_STEPS < all && lanes * 2 <= most) lanes *= 2;
  const steps = Math.ceil(all / lanes);
  const rows = Math.max(1, Math.min(HARDWARE_INVOCATIONS, most) / lanes);
  return { width, ragged: false, lanes, rows: Math.floor(rows), steps, unrolled: steps <= UNROLLED.hardware };
}

/** Whether the grid has room for rows that do not exist. */
export function hasSpareRows(rows: number, layout: RowLayout): boolean {
  const [columns, lines] = foldGrid(Math.ceil(rows / layout.rows));
  return columns * lines * layout.rows !== rows;
}

/**
 * Declares `row` and `share`, the invocation's number in it. No invocation may leave before the barriers: where the grid
 * has spare rows, they repeat the last one and are not `live`.
 */
export function headOf({ rows }: Group, layout: RowLayout, [columns]: readonly [number, number, number]): string {
  const { lanes } = layout;
  const group = `(wg.y * ${columns}u + wg.x)`;
  const wanted = layout.rows === 1 ? group : `(${group} * ${layout.rows}u + lane / ${lanes}u)`;
  const share = `let share = ${layout.rows === 1 ? "lane" : `lane % ${lanes}u`};`;
  if (!hasSpareRows(rows, layout)) return `let row = ${wanted};\n${share}`;
  return `let wanted = ${wanted};\nlet live = wanted < ${rows}u;\nlet row = min(wanted, ${rows - 1}u);\n${share}`;
}
