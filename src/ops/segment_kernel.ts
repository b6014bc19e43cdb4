/**
 * Kernels that add rows by segment in a fixed order, so that a run repeats bit for bit.
 *
 * Letters: A rows of D columns, E segments. A segment's rows are order[offsets[e]] to order[offsets[e + 1] - 1].
 * An invocation adds some columns of a segment, row after row. Where a segment may be long (skewed ids, or few segments),
 * it is cut into pieces of `PIECE` rows: the invocations of a segment add its first piece, others the further ones, and a
 * second dispatch adds these to it in order. A segment's further pieces have the numbers from offsets[e] / PIECE: distinct,
 * below A / PIECE, and found again by binary search, so no table of pieces is needed.
 *
 * Sums are in f32. A software adapter silently stops an invocation after 65,535 loop iterations; neither level comes
 * near.
 *
 * @module
 */
import { wgslLiteral } from "../core/arithmetic.ts";
import { type Code, type KernelContext, type Operand, wgsl } from "../core/kernel.ts";
import { times } from "./kernel_text.ts";

/** Rows of a piece: many on a CPU driver, where only the total work counts. */
const PIECE = { software: 512, hardware: 64 };
/** Rows from which one long segment would be too slow, or run into the iteration limit. */
const LONG = { software: 16_384, hardware: 512 };
/** Invocations below which a CPU driver's cores are not all busy. */
const ENOUGH_INVOCATIONS = 64;

/** What is added to what. */
export interface SegmentTerms {
  /** Name for people and profiles. */
  readonly label: string;
  /** A: how many terms there are in all. */
  readonly rows: number;
  /** Number of the term at each sorted position, u32[A]. */
  readonly order: Operand;
  /** First sorted position of each segment and the end, u32[E + 1]. */
  readonly offsets: Operand;
  /** The sums, [E, D]. */
  readonly output: Operand;
  /** What terms are made of. */
  readonly reads: readonly Operand[];
  /** WGSL statements at the top of a term, whose number is `row`. */
  prepare?(code: Code): string;
  /** WGSL of the columns of a term from `column`, one or four. */
  term(code: Code, column: string, lanes: 1 | 4): string;
}

/** How columns are shared out: a lane owns `groups` of `lanes` columns, `threads` groups apart. */
export interface ColumnShares {
  /** Columns touched at once. */
  readonly lanes: 1 | 4;
  /** Groups that one invocation owns. */
  readonly groups: number;
  /** Invocations that share a row. */
  readonly threads: number;
}

/**
 * Shares out the columns of a row: four groups to a lane on a CPU driver, where what is loaded once a row (its number, its
 * weight) costs as much as a column; one on a GPU.
 */
export function shareColumns(columns: number, { software }: { readonly software: boolean }): ColumnShares {
  const lanes = columns % 4 === 0 ? 4 : 1;
  const chunks = columns / lanes;
  const groups = software ? [4, 2].find((count) => chunks % count === 0 && chunks / count >= 8) ?? 1 : 1;
  return { lanes, groups, threads: chunks / groups };
}

/** WGSL for the first column of group `g`, given the name of the number among the threads of a row. */
export function columnOfShare({ lanes, threads }: ColumnShares, thread: string, g: number): string {
  return `((${thread} + ${g * threads}u) * ${lanes}u)`;
}

/** Emits the dispatches. Inputs: values [A, D], ids (unused here), order u32[A], offsets u32[E+1]. Output [E, D]. */
export function buildSegmentSum(kernel: KernelContext): void {
  const [values, , order, offsets] = kernel.inputs as [Operand, Operand, Operand, Operand];
  const [output] = kernel.outputs as [Operand];
  const [rows, columns] = values.shape as [number, number];
  dispatchSegmentSum(kernel, {
    label: "segment sum",
    rows,
    order,
    offsets,
    output,
    reads: [values],
    term: (code, column, lanes) => code.load(values, `row * ${columns}u + ${column}`, lanes),
  });
}

/** Adds terms by segment. */
export function dispatchSegmentSum(kernel: KernelContext, terms: SegmentTerms): void {
  const { rows, output } = terms;
  const [segments, columns] = output.shape as [number, number];
  if (segments * columns === 0) return;
  const adapterClass = kernel.adapter.software ? "software" : "hardware";
  const shares = shareColumns(columns, kernel.adapter);
  const isIdle = segments * shares.threads < ENOUGH_INVOCATIONS && rows > PIECE[adapterClass];
  const piece = rows > LONG[adapterClass] || isIdle ? PIECE[adapterClass] : rows;
  const further = piece < rows ? Math.floor(rows / piece) : 0;
  const sums: Sums = { kernel, terms, shares, segments, columns, piece, further };
  if (further === 0) return addSegments(sums, null);
  const partial = kernel.scratch([further, columns], output.dtype);
  addSegments(sums, partial);
  joinPieces(sums, partial);
}

interface Sums {
  readonly kernel: KernelContext;
  readonly terms: SegmentTerms;
  readonly shares: ColumnShares;
  readonly segments: number;
  readonly columns: number;
  /** Rows of a piece. */
  readonly piece: number;
  /** Upper bound of the pieces beyond the first of their segments. */
  readonly further: number;
}

/** Neighboring segments differ in length: small workgroups share the work better. */
function workgroupOf({ kernel }: Sums): readonly [number, number, number] {
  return [kernel.adapter.software ? 8 : 64, 1, 1];
}

/** WGSL that finds the segment `low` that further piece `number` belongs to, if to any. */
function findSegment({ terms, segments, piece }: Sums, code: Code, number: string): string {
  return wgsl`
    var low = 0u;
    var high = ${segments}u;
    while (high - low > 1u) {
      let middle = (low + high) / 2u;
      if (${code.load(terms.offsets, "middle")} / ${piece}u <= ${number}) { low = middle; } else { high = middle; }
    }
    let start = ${code.load(terms.offsets, "low")};
    let stop = ${code.load(terms.offsets, "low + 1u")};`;
}

/** Adds the first piece of each segment into the output, further ones into `partial`. */
function addSegments(sums: Sums, partial: Operand | null): void {
  const { kernel, terms, shares, segments, columns, piece, further } = sums;
  const { order, offsets, output } = terms;
  const { lanes, groups, threads } = shares;
  const type = lanes === 4 ? `vec4<${output.dtype}>` : output.dtype;
  const zero = `${type}(${wgslLiteral(0, output.dtype)})`;
  function bounds(code: Code): string {
    const own = wgsl`first = ${code.load(offsets, "unit")};
      end = min(first + ${piece}u, ${code.load(offsets, "unit + 1u")});`;
    if (partial === null) return own;
    return wgsl`if (unit < ${segments}u) {
      ${own}
    } else {
      let number = unit - ${segments}u;
      ${findSegment(sums, code, "number")}
      first = start + (number - start / ${piece}u + 1u) * ${piece}u;
      end = min(first + ${piece}u, stop);
    }`;
  }
  function store(code: Code, g: number): string {
    const column = columnOfShare(shares, "thread", g);
    const own = code.store(output, `unit * ${columns}u + ${column}`, `sum${g}`, lanes);
    if (partial === null) return own;
    const other = code.store(partial, `(unit - ${segments}u) * ${columns}u + ${column}`, `sum${g}`, lanes);
    return `if (unit < ${segments}u) { ${own} } else { ${other} }\n`;
  }
  kernel.dispatch({
    label: partial === null ? terms.label : `${terms.label}: pieces`,
    grid: { threads: (segments + further) * threads },
    workgroupSize: workgroupOf(sums),
    reads: [...terms.reads, order, offsets],
    writes: partial === null ? [output] : [output, partial],
    body: (code) =>
      wgsl`
    let unit = id / ${threads}u;
    let thread = id % ${threads}u;
    var first = 0u;
    var end = 0u;
    ${bounds(code)}
    ${times(groups, (g) => `var sum${g} = ${zero};\n`)}
    for (var p = first; p < end; p++) {
      let row = ${code.load(order, "p")};
      ${terms.prepare?.(code) ?? ""}
      ${times(groups, (g) => `sum${g} += ${terms.term(code, columnOfShare(shares, "thread", g), lanes)};\n`)}
    }
    ${times(groups, (g) => store(code, g))}`,
  });
}

/** Adds further pieces to the sums of the segments that have any, in order. */
function joinPieces(sums: Sums, partial: Operand): void {
  const { kernel, terms, shares, columns, piece, further } = sums;
  const { offsets, output } = terms;
  const { lanes, groups, threads } = shares;
  function join(code: Code, g: number): string {
    const column = columnOfShare(shares, "thread", g);
    const place = `low * ${columns}u + ${column}`;
    return wgsl`
    var sum${g} = ${code.load(output, place, lanes)};
    for (var other = number; other < last; other++) {
      sum${g} += ${code.load(partial, `other * ${columns}u + ${column}`, lanes)};
    }
    ${code.store(output, place, `sum${g}`, lanes)}`;
  }
  kernel.dispatch({
    label: `${terms.label}: join`,
    grid: { threads: further * threads },
    workgroupSize: workgroupOf(sums),
    reads: [partial, offsets],
    writes: [output],
    body: (code) =>
      wgsl`
    let number = id / ${threads}u;
    let thread = id % ${threads}u;
    ${findSegment(sums, code, "number")}
    let last = number + (stop - start - 1u) / ${piece}u;
    if (number == start / ${piece}u && stop - start > ${piece}u) {
      ${times(groups, (g) => join(code, g))}
    }`,
  });
}
