/**
 * Kernels that group: a stable counting sort without atomics, in two dispatches or three.
 *
 * The ids are cut into strips. For strip s and id e:
 * 1. count: below[s, e] = how many ids of the strip are smaller than e. Ids from `groups` up count as `groups`
 *    ("null").
 * 2. scan: one invocation for each e walks the strips. The sum of below[:, e] is where group e begins, which spares a
 *    scan over the groups; and base[s, e] = where the strip's first id e goes.
 * 3. place: each id goes to its base plus the number of equal ids before it in the strip.
 * Where the tables are small, there is no scan: whoever places walks the strips for the bases it needs.
 *
 * Counting and placing exist twice. *Serial*: one invocation walks a strip and keeps its counters in `below` and
 * `base`, about (ids + strips · groups) steps in all: for CPU drivers, where work counts, and for very many groups.
 * *Parallel*: one invocation for each (strip, e) and each id looks through the strip, ids · (groups + strip) steps:
 * for GPUs, where a long walk counts. All arithmetic is in integers, so a run repeats bit for bit.
 *
 * Limits: CPU drivers silently stop an invocation after 65,535 loop iterations, hence the loops unrolled by four.
 *
 * @module
 */
import { type Code, type KernelContext, type Operand, wgsl } from "../core/kernel.ts";

/** Most groups the counting kernels take: a serial strip loops over groups / 2 in all, besides its ids. */
export const MAX_COUNTED_GROUPS = 65_536;

/** What marks an id that belongs to no group where its position would be. */
export const NO_POSITION = 0xffffffff;

/** Steps (ids · groups) up to which every pair may look at a strip. Few enough are cheap on a CPU driver too. */
const PARALLEL_STEPS = { software: 1 << 12, hardware: 1 << 28 };
/** Longest strip, so that its loop and the loops over groups stay below the iteration limit. */
const MAX_STRIP = 16_384;

/** Cells of a table, strips · (groups + 1), up to which walking it again costs less than a dispatch. */
const SCANNED_CELLS = 2048;
/** Ids up to which few strips are long enough. */
const SCANNED_IDS = 1 << 15;
/** Strips that a serial method on a CPU cuts the ids into: as many as fill a few cores, and where there is no scan, fewer. */
const SERIAL_STRIPS = { software: 64, scanned: 16, hardware: 1024 };

/** How the ids are cut up. */
interface Strips {
  readonly method: "serial" | "parallel";
  readonly length: number;
  readonly count: number;
  /** Whether whoever places ids scans the table itself. */
  readonly scansInPlace: boolean;
}

/** Chooses strips for some ids and groups. Exported for tests. */
export function chooseStrips(ids: number, groups: number, software: boolean): Strips {
  const columns = groups + 1;
  const isParallel = ids * groups <= PARALLEL_STEPS[software ? "software" : "hardware"];
  const few = software && ids <= SCANNED_IDS && SERIAL_STRIPS.scanned * columns <= SCANNED_CELLS;
  const most = SERIAL_STRIPS[few ? "scanned" : software ? "software" : "hardware"];
  // Parallel: a strip is walked by each of its ids and the strips by each group, so both are about the square root.
  const ideal = isParallel
    ? Math.max(32, 2 ** Math.ceil(Math.log2(Math.sqrt(ids))))
    // Serial: as many ids as groups in a strip makes counting and clearing cost the same.
    : Math.max(64, groups, Math.ceil(ids / most));
  const length = Math.min(ideal, MAX_STRIP);
  const count = Math.ceil(ids / length);
  return { method: isParallel ? "parallel" : "serial", length, count, scansInPlace: count * columns <= SCANNED_CELLS };
}

/** The buffers of one grouping. */
interface Grouping {
  readonly kernel: KernelContext;
  readonly groups: number;
  /** Columns of the tables: the groups, and one for null. */
  readonly columns: number;
  readonly size: number;
  readonly strips: Strips;
  readonly ids: Operand;
  /** [strips, columns]. */
  readonly below: Operand;
  /** [strips, columns]; null where nobody keeps it. */
  readonly base: Operand | null;
}

/** Emits the dispatches. Input: ids u32[A], A > 0. Outputs: offsets u32[E+1], order and rank u32[A], counts u32[E]. */
export function buildCountingGroup(kernel: KernelContext, groups: number): void {
  const [ids] = kernel.inputs as [Operand];
  const size = ids.shape[0]!;
  const columns = groups + 1;
  const strips = chooseStrips(size, groups, kernel.adapter.software);
  const grouping = {
    kernel,
    groups,
    columns,
    size,
    strips,
    ids,
    below: kernel.scratch([strips.count, columns], "u32"),
    base: strips.scansInPlace && strips.method === "parallel" ? null : kernel.scratch([strips.count, columns], "u32"),
  };
  if (strips.method === "serial") countSerially(grouping);
  else countInParallel(grouping);
  if (!strips.scansInPlace) scanColumns(grouping);
  if (strips.method === "serial") placeSerially(grouping);
  else placeInParallel(grouping);
}

/** WGSL for the ids of a strip, `first` to `end`. */
function stripBounds({ strips, size }: Grouping, strip: string): string {
  return wgsl`
    let first = ${strip} * ${strips.length}u;
    let end = min(first + ${strips.length}u, ${size}u);`;
}

function countSerially(grouping: Grouping): void {
  const { kernel, groups, columns, strips, ids, below } = grouping;
  kernel.dispatch({
    label: "group: count",
    grid: { threads: strips.count },
    workgroupSize: [8, 1, 1],
    reads: [ids],
    writes: [below],
    body(code) {
      function clear(e: string): string {
        return code.store(below, `row + ${e}`, "0u");
      }
      function replaceBySum(e: string): string {
        const cell = `row + ${e}`;
        return `{ let n = ${code.load(below, cell)}; ${code.store(below, cell, "sum")} sum += n; }`;
      }
      return wgsl`${stripBounds(grouping, "id")}
    let row = id * ${columns}u;
    ${unrolled(columns, clear)}
    for (var i = first; i < end; i++) {
      let cell = row + min(${code.load(ids, "i")}, ${groups}u);
      ${code.store(below, "cell", `${code.load(below, "cell")} + 1u`)}
    }
    var sum = 0u;
    ${unrolled(columns, replaceBySum)}`;
    },
  });
}

function countInParallel(grouping: Grouping): void {
  const { kernel, columns, strips, ids, below } = grouping;
  kernel.dispatch({
    label: "group: count",
    grid: { threads: strips.count * columns },
    reads: [ids],
    writes: [below],
    body: (code) =>
      wgsl`
    let e = id % ${columns}u;${stripBounds(grouping, `(id / ${columns}u)`)}
    var sum = 0u;
    for (var i = first; i < end; i++) { sum += select(0u, 1u, ${code.load(ids, "i")} < e); }
    ${code.store(below, "id", "sum")}`,
  });
}

/** How many ids `e` strip `s` has, from its row of the table. */
function countIn({ groups, columns, size, strips }: Grouping, load: (cell: string) => string): string {
  const cell = `s * ${columns}u + e`;
  return wgsl`
      if (e < ${groups}u) { count = ${load(`${cell} + 1u`)} - ${load(cell)}; }
      else { count = min(${strips.length}u, ${size}u - s * ${strips.length}u) - ${load(cell)}; }`;
}

function scanColumns(grouping: Grouping): void {
  const { kernel, groups, columns, strips, below } = grouping;
  const [offsets, , , counts] = kernel.outputs as [Operand, Operand, Operand, Operand];
  const base = grouping.base!;
  kernel.dispatch({
    label: "group: scan",
    grid: { threads: columns },
    workgroupSize: [kernel.adapter.software && columns <= 1024 ? 8 : 64, 1, 1],
    reads: [below],
    writes: [base, offsets, counts],
    body: (code) =>
      wgsl`
    let e = id;
    var start = 0u;
    for (var s = 0u; s < ${strips.count}u; s++) { start += ${code.load(below, `s * ${columns}u + e`)}; }
    ${code.store(offsets, "e", "start")}
    var at = start;
    var count: u32;
    for (var s = 0u; s < ${strips.count}u; s++) {
      ${code.store(base, `s * ${columns}u + e`, "at")}${countIn(grouping, (cell) => code.load(below, cell))}
      at += count;
    }
    if (e < ${groups}u) { ${code.store(counts, "e", "at - start")} }`,
  });
}

/** A WGSL function that scans the table for one strip and one id. */
function scanFunction(code: Code, grouping: Grouping): string {
  const { columns, strips, below } = grouping;
  return wgsl`fn base_of(strip: u32, e: u32) -> u32 {
    var at = 0u;
    var count: u32;
    for (var s = 0u; s < ${strips.count}u; s++) {${countIn(grouping, (cell) => code.load(below, cell))}
      at += ${code.load(below, `s * ${columns}u + e`)} + select(0u, count, s < strip);
    }
    return at;
  }`;
}

/** WGSL that gives id number `i`, in group `e`, its `position`. */
function place(code: Code, { kernel, groups }: Grouping): string {
  const [, order, rank] = kernel.outputs as [Operand, Operand, Operand];
  const found = `select(position, ${NO_POSITION}u, e == ${groups}u)`;
  return `${code.store(order, "position", "i")} ${code.store(rank, "i", found)}`;
}

function placeSerially(grouping: Grouping): void {
  const { kernel, groups, columns, strips, ids, below } = grouping;
  const [offsets, order, rank, counts] = kernel.outputs as [Operand, Operand, Operand, Operand];
  const base = grouping.base!;
  const { scansInPlace } = strips;
  /** Fills this strip's row of bases; the first strip's are where groups begin. */
  const scan = (code: Code) =>
    wgsl`
    var previous = 0u;
    for (var e = 0u; e < ${columns}u; e++) {
      let at = base_of(id, e);
      ${code.store(base, `id * ${columns}u + e`, "at")}
      if (id == 0u) { ${code.store(offsets, "e", "at")} if (e > 0u) { ${
      code.store(counts, "e - 1u", "at - previous")
    } } }
      previous = at;
    }`;
  kernel.dispatch({
    label: "group: place",
    grid: { threads: strips.count },
    workgroupSize: [8, 1, 1],
    reads: scansInPlace ? [ids, below] : [ids],
    writes: scansInPlace ? [base, offsets, order, rank, counts] : [base, order, rank],
    prelude: (code) => scansInPlace ? scanFunction(code, grouping) : "",
    body: (code) =>
      wgsl`${stripBounds(grouping, "id")}${scansInPlace ? scan(code) : ""}
    for (var i = first; i < end; i++) {
      let e = min(${code.load(ids, "i")}, ${groups}u);
      let cell = id * ${columns}u + e;
      let position = ${code.load(base, "cell")};
      ${code.store(base, "cell", "position + 1u")}
      ${place(code, grouping)}
    }`,
  });
}

function placeInParallel(grouping: Grouping): void {
  const { kernel, groups, columns, size, strips, ids, below, base } = grouping;
  const [offsets, order, rank, counts] = kernel.outputs as [Operand, Operand, Operand, Operand];
  const bounds = (code: Code) =>
    wgsl`
    if (id < ${columns}u) {
      let start = base_of(0u, id);
      ${code.store(offsets, "id", "start")}
      if (id < ${groups}u) { ${code.store(counts, "id", "base_of(0u, id + 1u) - start")} }
    }
    if (id >= ${size}u) { return; }`;
  kernel.dispatch({
    label: "group: place",
    grid: { threads: base === null ? Math.max(size, columns) : size },
    reads: [ids, base ?? below],
    writes: base === null ? [offsets, order, rank, counts] : [order, rank],
    prelude: (code) => base === null ? scanFunction(code, grouping) : "",
    body: (code) =>
      wgsl`${base === null ? bounds(code) : ""}
    let i = id;
    let strip = i / ${strips.length}u;
    let e = min(${code.load(ids, "i")}, ${groups}u);
    var position = ${base === null ? "base_of(strip, e)" : code.load(base, `strip * ${columns}u + e`)};
    for (var j = strip * ${strips.length}u; j < i; j++) {
      position += select(0u, 1u, min(${code.load(ids, "j")}, ${groups}u) == e);
    }
    ${place(code, grouping)}`,
  });
}

/** A loop over 0..count-1 that runs a statement four times in each iteration. */
function unrolled(count: number, statement: (index: string) => string): string {
  const whole = count - count % 4;
  const four = ["e", "e + 1u", "e + 2u", "e + 3u"].map(statement).join("\n      ");
  const rest = Array.from({ length: count - whole }, (_, i) => statement(`${whole + i}u`)).join("\n    ");
  return wgsl`for (var e = 0u; e < ${whole}u; e += 4u) {
      ${four}
    }
    ${rest}`;
}
