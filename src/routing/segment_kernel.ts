/**
 * Kernel of the body `segment`: the product of each row's token with its expert's matrix, and its transpose.
 *
 *   y[assignment] = x[token] weight[e] (+ bias[e])        dx[assignment] = dY[assignment] weight[e]ᵀ
 *
 * A workgroup multiplies a block of one expert's rows (`execute_block.ts`), gathered in the load and scattered in the store;
 * no row is copied. Forward, assignments without a row are cleared by the same dispatch. Backward, dx goes to its token's row
 * where a token has one assignment (and tokens without a row are cleared), to its assignment's row otherwise, to be added up
 * by `execute_combine.ts`.
 *
 * @module
 */
import type { KernelText, Variant } from "../ops/kernel_text.ts";
import { type BlockShape, ExpertBlock, softwareBlockRows } from "./execute_block.ts";
import type { Columns } from "./execute_product.ts";
import { clearRow } from "./execute_forward_kernel.ts";

/** Static sizes of a product of rows with experts' matrices. */
export interface SegmentShape extends BlockShape {
  /** Columns of the result. */
  readonly width: number;
  /** Length of the sums. */
  readonly depth: number;
}

/** Which of the two products it is. */
export interface SegmentProduct {
  /** Class of adapters. */
  readonly variant: Variant;
  /** `"forward"` multiplies tokens by matrices [depth, width], `"backward"` assignments by transposed ones [width, depth]. */
  readonly pass: "forward" | "backward";
  /** Row of the result. */
  readonly target: "token" | "assignment";
  /** Whether each result gets its expert's bias. */
  readonly bias: boolean;
}

/** Operands by accessor number. */
export const SEGMENT_INPUTS: readonly string[] = [
  ...["rows", "matrix", "bias", "unused", "unused", "weight"],
  ...["expertOffsets", "rowToken", "rowAssign", "assignRow"],
];

/** Rows per expert from which a GPU's larger block pays. */
const MANY_ROWS = 32;

function blockOf(shape: SegmentShape, variant: Variant): ExpertBlock<SegmentShape> {
  const each = shape.assignments / Math.min(shape.experts, shape.assignments);
  const rows = variant === "software" ? softwareBlockRows(shape) : each >= MANY_ROWS ? 64 : 16;
  return new ExpertBlock(shape, variant, rows, shape.width);
}

/** Whether one invocation may run the product of a block. */
export function segmentFits(shape: SegmentShape, variant: Variant): boolean {
  const { depth, width } = shape;
  return blockOf(shape, variant).canRun([{ depth, width }]);
}

/** Generates the kernel. */
export function segmentKernel(shape: SegmentShape, product: SegmentProduct): KernelText {
  const { variant, pass, target } = product;
  const block = blockOf(shape, variant);
  // Assignments that nobody reads are left as they are.
  const isCleared = pass === "forward" || target === "token";
  return block.kernel({
    inputs: SEGMENT_INPUTS,
    outputs: ["out"],
    weighted: false,
    assigned: true,
    ...(isCleared ? { dropped: clearRow(block, "st0") } : {}),
    body: block.eachTile(shape.width, (columns) => tile(block, columns, product)),
  });
}

/** One tile of columns. */
function tile(block: ExpertBlock<SegmentShape>, columns: Columns, { pass, target, bias }: SegmentProduct): string {
  const { depth, width } = block.shape;
  return block.product({
    name: "y",
    depth,
    columns,
    rows: {
      load: "ld0",
      width: depth,
      at: ({ token, assign }) => `${pass === "forward" ? token : assign} * ${depth}u`,
    },
    matrix: { load: "ld1", layout: pass === "forward" ? "N" : "T" },
  }) + block.eachOutput("y", columns, (row, column, value) => {
    const sum = bias ? `${value} + ${block.get("ld2", `expert * ${width}u`, column, columns)}` : value;
    return block.put("st0", `${target === "token" ? row.token : row.assign} * ${width}u`, column, columns, sum);
  });
}
