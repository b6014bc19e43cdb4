/**
 * Batched matrix product C[b] = op(A)[b] op(B)[b], op = identity or transpose of the two last dimensions: the kernel of
 * each class of adapters, and the sum of products that were split along their depth.
 *
 * Splits: with S > 1, C is [S, B, M, N] of partial sums and {@linkcode matmulSplitSum} adds them in ascending order, so the
 * result does not depend on scheduling. Splits exist for parallelism and because a llvmpipe invocation stops, without an
 * error, after 65535 loop iterations.
 * Source: own measurements on llvmpipe (bench/); tile shapes follow the classic register-blocked product.
 *
 * @module
 */
import { ceilDiv, type KernelText, linearGrid } from "./kernel_text.ts";
import { hardwareMatmul } from "./matmul_hardware.ts";
import type { MatmulOptions, MatmulShape } from "./matmul_shape.ts";
import { softwareMatmul } from "./matmul_software.ts";

/** Depth elements one invocation may walk: far under the 65535 iterations of llvmpipe at one element per iteration. */
const MAX_DEPTH = 32768;

/** Returns the number of depth splits a product needs: 1 unless the depth is too long for one invocation. */
export function matmulSplits(shape: MatmulShape): number {
  return Math.max(1, ceilDiv(shape.k, MAX_DEPTH));
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
