/**
 * Which of three forms an adapter runs a set of experts in.
 *
 * hidden-resident: one dispatch, h of a block on chip. output-resident: one dispatch, rows of the result in registers, blocks
 * cut over workgroups (hardware adapters only). pair: a dispatch for each product, columns cut over workgroups.
 *
 * @module
 */
import type { AdapterTraits, ExpertKernelName } from "../core/kernel.ts";
import { hasFewRows, WANTED_WORKGROUPS } from "./execute_block.ts";
import { type ForwardOptions, fusedFits, keepsInnerOnChip } from "./execute_forward_kernel.ts";
import { expectedBlocks, fitsRegisters } from "./execute_output_kernel.ts";
import type { ExpertShape } from "./execute_shape.ts";

/** The form of the forward pass, where operands are in buffers. */
export function forwardKernelFor(
  shape: ExpertShape,
  options: ForwardOptions,
  adapter: Pick<AdapterTraits, "tuning">,
): ExpertKernelName {
  // On a CPU one dispatch costs no more than two, wherever an invocation may run that long.
  if (options.variant === "software") return fusedFits(shape, options.variant) ? "hidden-resident" : "pair";
  return hardwareKernelFor(shape, adapter, keepsInnerOnChip(shape, options));
}

/** The form of the backward pass to tokens, likewise; it does not keep the hidden rows on chip in any. */
export function backwardKernelFor(
  shape: ExpertShape,
  adapter: Pick<AdapterTraits, "software" | "tuning">,
): ExpertKernelName {
  return adapter.software ? "hidden-resident" : hardwareKernelFor(shape, adapter, true);
}

/**
 * With many rows the pair's larger blocks read matrices less often. With few, matrices are what a GPU waits for: blocks by
 * themselves if there are enough of them to keep it busy, and parts of them otherwise.
 */
function hardwareKernelFor(
  shape: ExpertShape,
  { tuning }: Pick<AdapterTraits, "tuning">,
  isOnChip: boolean,
): ExpertKernelName {
  const asked = tuning?.expertKernel;
  if (asked !== undefined && (asked !== "output-resident" || fitsRegisters(shape))) return asked;
  if (!hasFewRows(shape)) return "pair";
  if (isOnChip && expectedBlocks(shape) >= WANTED_WORKGROUPS) return "hidden-resident";
  return fitsRegisters(shape) ? "output-resident" : "pair";
}
