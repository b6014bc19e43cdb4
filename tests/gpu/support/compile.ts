/**
 * Compiling without a device: a function to its Program, for tests of what the compiler decides.
 *
 * @module
 */
import { freeze } from "../../../src/core/graph.ts";
import type { AdapterTraits } from "../../../src/core/kernel.ts";
import type { Aval } from "../../../src/core/shape.ts";
import { placeholder, type Tensor } from "../../../src/core/tensor.ts";
import { flatten } from "../../../src/core/tree.ts";
import { compileProgram, type Program } from "../../../src/gpu/program.ts";

/** A CPU driver, as on most machines that run these tests. */
export const SOFTWARE: AdapterTraits = {
  name: "software",
  software: true,
  f16: true,
  workgroupBytes: 32768,
  workgroupInvocations: 1024,
  storageBuffers: 32,
  textureSide: 16384,
};

/** A GPU. */
export const HARDWARE: AdapterTraits = { ...SOFTWARE, name: "hardware", software: false };

/** Options of {@linkcode compile}. */
export interface CompileTestOptions {
  /** The adapter, a software one by default. */
  readonly adapter?: AdapterTraits;
  /** Buffers a kernel may bind, 32 by default, as the software adapter allows. */
  readonly maxBuffers?: number;
  /** Arguments whose buffers results may take over. */
  readonly donate?: readonly number[];
}

/** Compiles a function of tensors. */
export function compile(
  f: (...args: Tensor[]) => unknown,
  args: readonly Aval[],
  { adapter = SOFTWARE, maxBuffers = 32, donate = [] }: CompileTestOptions = {},
): Program {
  const own = args.map((aval, i) => placeholder(aval, `argument ${i}`));
  const graph = freeze(own, flatten(f(...own)).leaves, adapter);
  return compileProgram(graph, { adapter, label: "test", maxBuffers, donated: args.map((_, i) => donate.includes(i)) });
}

/** An f32 argument. */
export function f32(...shape: number[]): Aval {
  return { shape, dtype: "f32" };
}
