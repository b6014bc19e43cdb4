/**
 * Batched matrix product C[b] = op(A)[b] op(B)[b], op = identity or transpose of the two last dimensions.
 *
 * Letters: B batch, M rows, N columns, K depth, S depth splits. A is [B|1, M, K] (or [B|1, K, M]), B is [B|1, K, N]
 * (or [B|1, N, K]), C is [B, M, N], all contiguous row-major f32 behind accessors (see kernel_text.ts).
 * software: 8 lanes; a lane owns `rows` x `columns`*4 outputs in registers; no workgroup memory, no barrier.
 * hardware: 256 lanes own a 64 x 64 tile; 16-deep slabs of both operands in 8.3 KiB of workgroup memory.
 * Splits: with S > 1, C is [S, B, M, N] of partial sums and {@linkcode matmulSplitSum} adds them in ascending order, so the
 * result does not depend on scheduling. Splits exist for parallelism and because a llvmpipe invocation stops, without an
 * error, after 65535 loop iterations.
 * Hazards: edge tiles read clamped (valid) rows and columns and mask the store; no padding of buffers is relied on.
 * Source: own measurements on llvmpipe (bench/); tile shapes follow the classic register-blocked product.
 *
 * @module
 */
import type { KernelContext, Lowering, Operand } from "../core/kernel.ts";
import { type Shape, sizeOf } from "../core/shape.ts";
import {
  ceilDiv,
  dispatchKernelText,
  type KernelText,
  linearGrid,
  times,
  type Variant,
  variantOf,
} from "./kernel_text.ts";
import { registerTile, SHARED_COLUMNS, sharedTile, sharedTileMemory } from "./tile.ts";

/** Shape and layout of a batched product. */
export interface MatmulShape {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** "N": A is [M, K]; "T": A is [K, M]. */
  readonly layoutA: "N" | "T";
  /** "N": B is [K, N]; "T": B is [N, K]. */
  readonly layoutB: "N" | "T";
  /** Which operands carry the batch dimension; the other is shared by all batches. */
  readonly batched: "both" | "a" | "b";
}

/** Register tile of the software variant. */
export interface MatmulTile {
  readonly rows: number;
  /** Columns per lane in groups of four. */
  readonly columns: number;
  /** Lanes side by side along N (1, 2, 4 or 8); the others go along M. */
  readonly lanesN: number;
  /** Which tile index runs fastest over the workgroups. */
  readonly order: "rows" | "columns";
}

/** How a product is cut up; what is left out is chosen from the shape. */
export interface MatmulOptions {
  readonly variant: Variant;
  readonly splits?: number;
  readonly tile?: MatmulTile;
}

/** Lanes of a software workgroup: one SIMD group of llvmpipe. */
const LANES = 8;
/** Depth elements one invocation may walk: far under the 65535 iterations of llvmpipe at one element per iteration. */
const MAX_DEPTH = 32768;

/** Returns the number of depth splits a product needs: 1 unless the depth is too long for one invocation. */
export function matmulSplits(shape: MatmulShape): number {
  return Math.max(1, ceilDiv(shape.k, MAX_DEPTH));
}

/** Workgroups below which the two or more cores of a software adapter would idle. */
const MIN_WORKGROUPS = 4;

/**
 * Returns the register tile that measured best on llvmpipe for a shape: 16 x 16 where B is read along its columns,
 * 16 x 8 where B is transposed (its loads are spread over the columns), smaller where the product is.
 */
export function softwareTile(shape: MatmulShape): MatmulTile {
  const groups = ceilDiv(shape.n, 4);
  let columns = shape.layoutB === "N" && groups >= 32 ? 4 : groups >= 16 ? 2 : 1;
  let lanesN = LANES;
  while (lanesN > 1 && lanesN / 2 * columns >= groups) lanesN /= 2;
  let rows = 16;
  while (rows > 1 && rows / 2 * (LANES / lanesN) >= shape.m) rows /= 2;
  const workgroups = (): number =>
    shape.batch * ceilDiv(shape.m, rows * LANES / lanesN) * ceilDiv(shape.n, columns * 4 * lanesN);
  while (workgroups() < MIN_WORKGROUPS && columns > 1) columns /= 2;
  while (workgroups() < MIN_WORKGROUPS && rows > 4) rows /= 2;
  return { rows, columns, lanesN, order: "columns" };
}

/**
 * Generates one batched product. Inputs: a, b. Outputs: c, [splits, batch, m, n] (splits = 1 unless asked).
 *
 * @param shape sizes and layouts; any size from 1 up.
 * @param options variant, and optionally the splits and the register tile.
 */
export function matmulKernel(shape: MatmulShape, options: MatmulOptions): KernelText {
  return options.variant === "software" ? softwareMatmul(shape, options) : hardwareMatmul(shape, options);
}

/** Adds the partial sums of a split product in ascending order: `size` = batch * m * n elements. */
export function matmulSplitSum(splits: number, size: number): KernelText {
  const vector = size % 4 === 0;
  const count = vector ? size / 4 : size;
  const grid = linearGrid(ceilDiv(count, 64), "group");
  const suffix = vector ? "v" : "";
  const at = (s: number): string => `ld0${suffix}(${s * size}u + at)`;
  let body = `${grid.text}let item = group * 64u + lane;\nif (item >= ${count}u) { return; }\n` +
    `let at = item * ${vector ? 4 : 1}u;\nvar sum = ${at(0)};\n`;
  for (let s = 1; s < splits; s++) body += `sum += ${at(s)};\n`;
  return {
    inputs: [{ name: "partials", kind: "f32" }],
    outputs: [{ name: "c", kind: "f32" }],
    preludes: "",
    body: `${body}st0${suffix}(at, sum);\n`,
    workgroupSize: [64, 1, 1],
    workgroups: grid.workgroups,
  };
}

const OPERANDS = {
  inputs: [{ name: "a", kind: "f32" }, { name: "b", kind: "f32" }],
  outputs: [{ name: "c", kind: "f32" }],
} as const;

/** Declares the tile coordinates `tn`, `tm`, `batch`, `split`, the operand offsets `a0`, `b0`, `c0` and the depth range. */
function header(
  shape: MatmulShape,
  splits: number,
  tilesM: number,
  tilesN: number,
  order: MatmulTile["order"],
  step: number,
) {
  const { batch, m, n, k, batched } = shape;
  const grid = linearGrid(tilesM * tilesN * batch * splits, "tile");
  const inner = order === "columns" ? tilesN : tilesM;
  const [fast, slow] = order === "columns" ? ["tn", "tm"] : ["tm", "tn"];
  const depth = ceilDiv(ceilDiv(k, splits), step) * step;
  const text = grid.text +
    `let ${fast} = tile % ${inner}u;\nlet ${slow} = (tile / ${inner}u) % ${tilesM * tilesN / inner}u;\n` +
    `let batch = (tile / ${tilesM * tilesN}u) % ${batch}u;\nlet split = tile / ${tilesM * tilesN * batch}u;\n` +
    `let a0 = ${batched === "b" ? "0u" : `batch * ${m * k}u`};\nlet b0 = ${
      batched === "a" ? "0u" : `batch * ${k * n}u`
    };\n` +
    `let c0 = (split * ${batch}u + batch) * ${m * n}u;\n` +
    (splits === 1
      ? `let first = 0u;\nlet last = ${k}u;\n`
      : `let first = min(split * ${depth}u, ${k}u);\nlet last = min(first + ${depth}u, ${k}u);\n`);
  return { text, workgroups: grid.workgroups };
}

function softwareMatmul(shape: MatmulShape, options: MatmulOptions): KernelText {
  const { m, n, k, layoutA, layoutB } = shape;
  const splits = options.splits ?? 1;
  const { rows, columns, lanesN, order } = options.tile ?? softwareTile(shape);
  const lanesM = LANES / lanesN;
  const tilesM = ceilDiv(m, rows * lanesM), tilesN = ceilDiv(n, columns * 4 * lanesN);
  const alongA = layoutA === "N" ? (k % 4 === 0 ? "depth" : "none") : m % 4 === 0 && rows % 4 === 0 ? "tile" : "none";
  const alongB = layoutB === "T" ? (k % 4 === 0 ? "depth" : "none") : n % 4 === 0 ? "tile" : "none";
  const step = alongA === "depth" || alongB === "depth" ? 4 : 1;
  const { text, workgroups } = header(shape, splits, tilesM, tilesN, order, step);
  const edgeM = m % (rows * lanesM) !== 0, edgeN = n % (columns * 4 * lanesN) !== 0;
  // Lanes interleave their column groups so that one load of the eight lanes covers one stretch of memory.
  let body = `${text}let m0 = (tm * ${lanesM}u + lane / ${lanesN}u) * ${rows}u;\n` +
    `let n0 = tn * ${columns * 4 * lanesN}u + (lane % ${lanesN}u) * 4u;\n`;
  const strideA = layoutA === "N" ? k : 1, strideB = layoutB === "N" ? 1 : k;
  const rowStep = alongA === "tile" ? 4 : 1;
  for (let r = 0; r < rows; r += rowStep) {
    const row = edgeM ? `min(m0 + ${r}u, ${m - rowStep}u)` : `(m0 + ${r}u)`;
    body += `let ar${r} = a0 + ${row} * ${strideA}u;\n`;
  }
  const columnStep = alongB === "tile" ? 4 : 1;
  for (let j = 0; j < columns * 4; j += columnStep) {
    const column = `n0 + ${(j >> 2) * 4 * lanesN + (j & 3)}u`;
    body += `let bc${j} = b0 + ${edgeN ? `min(${column}, ${n - columnStep}u)` : `(${column})`} * ${strideB}u;\n`;
  }
  body += registerTile({
    name: "c",
    rows,
    columns,
    start: "first",
    end: "last",
    step,
    a: { load: "ld0", along: alongA, index: (r, at) => layoutA === "N" ? `ar${r} + ${at}` : `ar${r} + ${at} * ${m}u` },
    b: { load: "ld1", along: alongB, index: (j, at) => layoutB === "N" ? `bc${j} + ${at} * ${n}u` : `bc${j} + ${at}` },
  });
  const put = (r: number, c: number): string => {
    const column = `n0 + ${c * 4 * lanesN}u`;
    const at = `c0 + (m0 + ${r}u) * ${n}u + ${column}`;
    if (n % 4 === 0) {
      const store = `st0v(${at}, c_${r}_${c});`;
      return edgeN ? `if (${column} < ${n}u) { ${store} }\n` : `${store}\n`;
    }
    return ["x", "y", "z", "w"].map((part, j) =>
      `if (${column} + ${j}u < ${n}u) { st0(${at} + ${j}u, c_${r}_${c}.${part}); }\n`
    )
      .join("");
  };
  body += times(rows, (r) => {
    const stores = times(columns, (c) => put(r, c));
    return edgeM ? `if (m0 + ${r}u < ${m}u) {\n${stores}}\n` : stores;
  });
  return { ...OPERANDS, preludes: "", body, workgroupSize: [LANES, 1, 1], workgroups };
}

function hardwareMatmul(shape: MatmulShape, options: MatmulOptions): KernelText {
  const { m, n, k, layoutA, layoutB } = shape;
  const rowsEach = 4, rows = 16 * rowsEach;
  const { text, workgroups } = header(
    shape,
    options.splits ?? 1,
    ceilDiv(m, rows),
    ceilDiv(n, SHARED_COLUMNS),
    "columns",
    16,
  );
  const row = (i: string): string => m % rows === 0 ? `(m0 + ${i})` : `min(m0 + ${i}, ${m - 1}u)`;
  const column = (j: string): string => n % SHARED_COLUMNS === 0 ? `(n0 + ${j})` : `min(n0 + ${j}, ${n - 1}u)`;
  let body = `${text}let m0 = tm * ${rows}u;\nlet n0 = tn * ${SHARED_COLUMNS}u;\n`;
  body += sharedTile({
    name: "c",
    rowsEach,
    start: "first",
    end: "last",
    a: (i, at) => layoutA === "N" ? `ld0(a0 + ${row(i)} * ${k}u + ${at})` : `ld0(a0 + ${at} * ${m}u + ${row(i)})`,
    b: (at, j) => layoutB === "N" ? `ld1(b0 + ${at} * ${n}u + ${column(j)})` : `ld1(b0 + ${column(j)} * ${k}u + ${at})`,
    aAlong: layoutA === "N" ? "depth" : "tile",
    bAlong: layoutB === "N" ? "tile" : "depth",
  });
  body += `let r0 = m0 + (lane / 16u) * ${rowsEach}u;\nlet j0 = n0 + (lane % 16u) * 4u;\n`;
  body += times(rowsEach, (r) => {
    const at = `c0 + (r0 + ${r}u) * ${n}u + j0`;
    const stores = n % 4 === 0
      ? `if (j0 < ${n}u) { st0v(${at}, c_${r}); }\n`
      : ["x", "y", "z", "w"].map((part, j) => `if (j0 + ${j}u < ${n}u) { st0(${at} + ${j}u, c_${r}.${part}); }\n`).join(
        "",
      );
    return `if (r0 + ${r}u < ${m}u) {\n${stores}}\n`;
  });
  return { ...OPERANDS, preludes: sharedTileMemory(rowsEach), body, workgroupSize: [256, 1, 1], workgroups };
}

/** Which operand is stored transposed. */
export interface MatmulAttrs {
  /** The left operand is [K, M]. */
  readonly transA: boolean;
  /** The right operand is [N, K]. */
  readonly transB: boolean;
}

/** Sizes of one product of batches of matrices. */
export interface MatmulSizes {
  /** Number of matrices in the result. */
  readonly batch: number;
  /** Rows of the result. */
  readonly rows: number;
  /** Columns of the result. */
  readonly columns: number;
  /** Length of the sums. */
  readonly inner: number;
  /** Whether all products share one left matrix. */
  readonly sharedA: boolean;
  /** Whether all products share one right matrix. */
  readonly sharedB: boolean;
}

/** Reads the sizes off valid operand shapes. */
export function matmulSizes(a: Shape, b: Shape, { transA, transB }: MatmulAttrs): MatmulSizes {
  const batchA = sizeOf(a.slice(0, -2));
  const batchB = sizeOf(b.slice(0, -2));
  return {
    batch: batchA === 1 ? batchB : batchA,
    rows: a.at(transA ? -1 : -2)!,
    inner: a.at(transA ? -2 : -1)!,
    columns: b.at(transB ? -2 : -1)!,
    sharedA: batchA === 1,
    sharedB: batchB === 1,
  };
}

/** Parallelism a product of few tiles gains by splitting its depth on hardware: workgroups wanted. */
const WANTED_WORKGROUPS = 128;
/** Depth below which a split costs more than it spreads. */
const MIN_SPLIT_DEPTH = 256;

function splitsFor(shape: MatmulShape, variant: Variant): number {
  const needed = matmulSplits(shape);
  if (variant === "software") return needed;
  const tiles = shape.batch * ceilDiv(shape.m, 64) * ceilDiv(shape.n, SHARED_COLUMNS);
  return Math.max(needed, Math.min(Math.floor(WANTED_WORKGROUPS / tiles), Math.floor(shape.k / MIN_SPLIT_DEPTH)));
}

function build(kernel: KernelContext, attrs: MatmulAttrs): void {
  const [a, b] = kernel.inputs as [Operand, Operand];
  const [output] = kernel.outputs as [Operand];
  const { batch, rows, columns, inner, sharedA, sharedB } = matmulSizes(a.shape, b.shape, attrs);
  if (batch * rows * columns === 0) return;
  const shape: MatmulShape = {
    batch,
    m: rows,
    n: columns,
    k: inner,
    layoutA: attrs.transA ? "T" : "N",
    layoutB: attrs.transB ? "T" : "N",
    batched: sharedA && batch > 1 ? "b" : sharedB && batch > 1 ? "a" : "both",
  };
  const variant = variantOf(kernel.adapter);
  const splits = splitsFor(shape, variant);
  const label = `matmul ${batch === 1 ? "" : `${batch}x`}${rows}x${inner}x${columns}${attrs.transA ? " Ta" : ""}${
    attrs.transB ? " Tb" : ""
  }`;
  const text = matmulKernel(shape, { variant, splits });
  if (splits === 1) return dispatchKernelText(kernel, label, text, [a, b], [output]);
  const partials = kernel.scratch([splits, batch, rows, columns], "f32");
  dispatchKernelText(kernel, label, text, [a, b], [partials]);
  dispatchKernelText(kernel, `${label} parts`, matmulSplitSum(splits, batch * rows * columns), [partials], [output]);
}

/** Lowering of the `matmul` primitive. */
export const matmulLowering: Lowering<MatmulAttrs> = { as: "kernel", build, prologue: [0, 1], epilogue: true };
