/**
 * Kernels of the body `valueRow`: weighted sums of a memory's rows, and both gradients.
 *
 *   out[t] = Σ_k weights[t, k] values[rows[t, k]]        dWeights[t, k] = dOut[t] · values[rows[t, k]]
 *   dValues[m] = Σ weights[t, k] dOut[t]  over the reads of row m, in their order
 *
 * Letters: T tokens, K rows of a token, M rows of the memory, W width of a row. A row number from M up reads nothing.
 * Sums stay in registers, so nothing of the size T · K · W exists, and each has a fixed order. Forward, an invocation owns
 * some columns of a token. For dWeights, software: an invocation owns some reads of a token, which share the loads of dOut;
 * hardware: 16 lanes share a read, so that they load neighboring elements, and add up through workgroup memory. dValues is
 * a sum by segment (`ops/segment_kernel.ts`): the reads sorted by row are the segments.
 *
 * @module
 */
import { type Code, type KernelContext, type Operand, wgsl } from "../core/kernel.ts";
import { ceilDiv, linearGrid, MAX_ITERATIONS, times } from "../ops/kernel_text.ts";
import { columnOfShare, dispatchSegmentSum, shareColumns } from "../ops/segment_kernel.ts";

/** Reads that a software lane owns. */
const READS_EACH = 4;
/** Hardware lanes that share a read, and reads of a workgroup. */
const [LANES_EACH, READS_TOGETHER] = [16, 4];

/** Whether an invocation may loop over a token's rows, and over the columns of a row. */
export function valueRowsFit(reads: number, width: number): boolean {
  return reads <= MAX_ITERATIONS && width <= MAX_ITERATIONS;
}

/** The sums. Inputs: values [M, W], rows u32[T, K], weights [T, K]. Output [T, W]. */
export function dispatchValueRows(kernel: KernelContext): void {
  const [values, rows, weights] = kernel.inputs as [Operand, Operand, Operand];
  const [out] = kernel.outputs as [Operand];
  const [count, width] = values.shape as [number, number];
  const [tokens, reads] = rows.shape as [number, number];
  const shares = shareColumns(width, kernel.adapter);
  const { lanes, groups, threads } = shares;
  const type = lanes === 4 ? "vec4<f32>" : "f32";
  const column = (g: number) => columnOfShare(shares, "thread", g);
  kernel.dispatch({
    label: `value rows ${tokens}x${reads} of ${count}x${width}`,
    grid: { threads: tokens * threads },
    workgroupSize: [kernel.adapter.software ? 8 : 64, 1, 1],
    reads: [values, rows, weights],
    writes: [out],
    body: (code) =>
      wgsl`
    let token = id / ${threads}u;
    let thread = id % ${threads}u;
    ${times(groups, (g) => `var sum${g} = ${type}();\n`)}
    for (var read = token * ${reads}u; read < (token + 1u) * ${reads}u; read++) {
      let row = ${code.load(rows, "read")};
      if (row < ${count}u) {
        let weight = ${code.load(weights, "read")};
        ${times(groups, (g) => `sum${g} += weight * ${code.load(values, `row * ${width}u + ${column(g)}`, lanes)};\n`)}
      }
    }
    ${times(groups, (g) => code.store(out, `token * ${width}u + ${column(g)}`, `sum${g}`, lanes))}`,
  });
}

/** dWeights. Inputs: values [M, W], rows u32[T, K], dOut [T, W]. Output [T, K]. */
export function dispatchReadDots(kernel: KernelContext): void {
  const [values, rows] = kernel.inputs as [Operand, Operand];
  const [tokens, reads] = rows.shape as [number, number];
  const [count, width] = values.shape as [number, number];
  const label = `value rows' weight gradient ${tokens}x${reads} of ${count}x${width}`;
  if (kernel.adapter.software) dispatchLaneDots(kernel, label);
  else dispatchSharedDots(kernel, label);
}

/** How rows are loaded and multiplied, four columns at once or one. */
function dotForms(width: number): { readonly unit: 1 | 4; product(a: string, b: string): string } {
  return width % 4 === 0
    ? { unit: 4, product: (a, b) => `dot(${a}, ${b})` }
    : { unit: 1, product: (a, b) => `${a} * ${b}` };
}

function dispatchLaneDots(kernel: KernelContext, label: string): void {
  const [values, rows, dOut] = kernel.inputs as [Operand, Operand, Operand];
  const [dWeights] = kernel.outputs as [Operand];
  const [count, width] = values.shape as [number, number];
  const [tokens, reads] = rows.shape as [number, number];
  const each = Math.min(READS_EACH, reads);
  const threads = ceilDiv(reads, each);
  const { unit, product } = dotForms(width);
  const load = (code: Code, i: number) => code.load(values, `place${i} + column`, unit);
  kernel.dispatch({
    label,
    grid: { threads: tokens * threads },
    workgroupSize: [8, 1, 1],
    reads: [values, rows, dOut],
    writes: [dWeights],
    body: (code) =>
      wgsl`
    let token = id / ${threads}u;
    let thread = id % ${threads}u;
    ${
        times(each, (i) =>
          wgsl`
    let read${i} = token * ${reads}u + min(thread + ${i * threads}u, ${reads - 1}u);
    let row${i} = ${code.load(rows, `read${i}`)};
    let place${i} = min(row${i}, ${count - 1}u) * ${width}u;
    var sum${i} = 0.0;`)
      }
    for (var column = 0u; column < ${width}u; column += ${unit}u) {
      let slope = ${code.load(dOut, `token * ${width}u + column`, unit)};
      ${times(each, (i) => `sum${i} += ${product(load(code, i), "slope")};\n`)}
    }
    ${
        times(each, (i) =>
          `if (thread + ${i * threads}u < ${reads}u) { ${
            code.store(dWeights, `read${i}`, `select(0.0, sum${i}, row${i} < ${count}u)`)
          } }\n`)
      }`,
  });
}

function dispatchSharedDots(kernel: KernelContext, label: string): void {
  const [values, rows, dOut] = kernel.inputs as [Operand, Operand, Operand];
  const [dWeights] = kernel.outputs as [Operand];
  const [count, width] = values.shape as [number, number];
  const [tokens, reads] = rows.shape as [number, number];
  const total = tokens * reads;
  const grid = linearGrid(ceilDiv(total, READS_TOGETHER), "group");
  const { unit, product } = dotForms(width);
  kernel.dispatch({
    label,
    grid: { workgroups: grid.workgroups },
    workgroupSize: [LANES_EACH * READS_TOGETHER, 1, 1],
    reads: [values, rows, dOut],
    writes: [dWeights],
    prelude: () => `var<workgroup> parts: array<f32, ${LANES_EACH * READS_TOGETHER}>;\n`,
    body: (code) =>
      wgsl`
    ${grid.text}
    let read = group * ${READS_TOGETHER}u + lane / ${LANES_EACH}u;
    let last = min(read, ${total - 1}u);
    let row = ${code.load(rows, "last")};
    let place = min(row, ${count - 1}u) * ${width}u;
    let slopes = last / ${reads}u * ${width}u;
    var sum = 0.0;
    for (var column = lane % ${LANES_EACH}u * ${unit}u; column < ${width}u; column += ${LANES_EACH * unit}u) {
      sum += ${product(code.load(values, "place + column", unit), code.load(dOut, "slopes + column", unit))};
    }
    parts[lane] = sum;
    workgroupBarrier();
    if (lane % ${LANES_EACH}u == 0u && read < ${total}u) {
      for (var i = 1u; i < ${LANES_EACH}u; i++) { sum += parts[lane + i]; }
      ${code.store(dWeights, "read", `select(0.0, sum, row < ${count}u)`)}
    }`,
  });
}

/** dValues. Inputs: dOut [T, W], weights [T, K], order u32[T · K] and offsets u32[M + 1] of the sorted reads. Output [M, W]. */
export function dispatchReadSums(kernel: KernelContext): void {
  const [dOut, weights, , order, offsets] = kernel.inputs as [Operand, Operand, Operand, Operand, Operand];
  const [dValues] = kernel.outputs as [Operand];
  const [count, width] = dValues.shape as [number, number];
  const [tokens, reads] = weights.shape as [number, number];
  dispatchSegmentSum(kernel, {
    label: `value rows' gradient ${tokens}x${reads} of ${count}x${width}`,
    rows: tokens * reads,
    order,
    offsets,
    output: dValues,
    reads: [dOut, weights],
    prepare: (code) => `let weight = ${code.load(weights, "row")};\nlet place = row / ${reads}u * ${width}u;\n`,
    term: (code, column, lanes) => `weight * ${code.load(dOut, `place + ${column}`, lanes)}`,
  });
}
