/**
 * Whether a kernel can bind all it needs, where tensors are larger than one binding.
 *
 * @module
 */
import { OutOfMemoryError } from "../core/errors.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import { windowBytes } from "../core/windows.ts";
import type { Dispatch } from "./dispatch.ts";
import type { Binding, BufferRef } from "./module.ts";

/** What {@linkcode expectBindable} has to respect. */
export interface BindableOptions {
  /** Says how much of a buffer one binding may show. */
  readonly adapter: Pick<AdapterTraits, "bindingBytes">;
  /** Name of the program. */
  readonly label: string;
  /** Storage buffers one kernel may bind. */
  readonly maxBuffers: number;
}

/**
 * Refuses kernels whose operands are so large that all their windows do not fit into one dispatch.
 *
 * @param describe Type and shape of what a buffer holds, for the message.
 * @throws {OutOfMemoryError} If there is one.
 */
export function expectBindable(
  dispatches: readonly Dispatch[],
  { adapter, label, maxBuffers }: BindableOptions,
  describe: (buffer: BufferRef) => string,
): void {
  for (const { bindings, label: kernel } of dispatches) {
    const buffers = bindings.filter(({ texture, uniform }) => !texture && !uniform);
    const windowed = buffers.filter(({ window }) => window !== undefined);
    const count = buffers.length;
    if (windowed.length === 0 || count <= maxBuffers) continue;
    const [[buffer, windows]] = [...Map.groupBy(windowed, (binding) => binding.buffer)]
      .sort((a, b) => b[1].length - a[1].length) as [[BufferRef, Binding[]]];
    const bytes = windows.reduce((sum, { window }) => sum + window!.size, 0);
    const limit = windowBytes(adapter);
    throw new OutOfMemoryError("limits/binding", {
      summary: `Cannot bind ${describe(buffer)} in ${label}: ${mebibytes(bytes)} MiB in bindings of ` +
        `at most ${mebibytes(limit)} MiB, and ${kernel} may have ${maxBuffers} for all it reads and writes`,
      facts: [["needed", `${count} bindings, ${windows.length} of them for this tensor`]],
      fix: "use a smaller batch, split the tensor, store f16 or bf16, or init() on an adapter with a higher limit",
      details: { bytes, limit, bindings: count, maxBuffers },
    });
  }
}

/** Bytes in MiB, for people. */
function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20 * 1000) / 1000;
}
