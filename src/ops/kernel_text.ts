/**
 * What a kernel generator returns, and the few text helpers all generators share.
 *
 * A generated body touches memory only through module functions that the caller supplies, so that a fused producer or
 * consumer can be inlined there at no cost (measured: the compiler inlines them):
 *   f32 input  i: `ld{i}(element: u32) -> f32`  or `ld{i}v(element: u32) -> vec4<f32>` (element a multiple of 4)
 *   u32 input  i: `ldu{i}(element: u32) -> u32`
 *   f32 output i: `st{i}(element: u32, value: f32)` or `st{i}v(element: u32, value: vec4<f32>)`
 *   f32 output i read back by the same workgroup: `rd{i}(element)` or `rd{i}v(element)`
 *   texture    i: `tx{i}v(x: u32, y: u32) -> vec4<f32>` or `tw{i}v(x: u32, y: u32, value: vec4<f32>)`, not both
 * One kernel uses an operand in its scalar form or in its vec4 form, never in both, so one binding is enough.
 *
 * @module
 */
import type { AdapterTraits, KernelContext, Operand as TensorOperand, TextureOperand } from "../core/kernel.ts";

/** Which class of adapter a kernel is laid out for. */
export type Variant = "software" | "hardware";

/** One operand of a kernel: its name in the generator's documentation and how the body touches it. */
export interface Operand {
  readonly name: string;
  readonly kind: "f32" | "u32";
}

/** A kernel without its bindings: module text, the body of `main`, and the grid. */
export interface KernelText {
  /** Inputs in accessor order: input `i` is read through `ld{i}`, `ld{i}v` or `ldu{i}`. */
  readonly inputs: readonly Operand[];
  /** Outputs in accessor order: output `i` is written through `st{i}` or `st{i}v`. */
  readonly outputs: readonly Operand[];
  /** Module-scope declarations: workgroup memory and helper functions. */
  readonly preludes: string;
  /** Statements of `main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lane: u32)`. */
  readonly body: string;
  readonly workgroupSize: readonly [number, number, number];
  readonly workgroups: readonly [number, number, number];
}

/** The largest number of workgroups a dispatch may have along one dimension. */
export const MAX_GRID = 65535;

/**
 * Iterations that the loops of one invocation may run: llvmpipe stops it, silently, after 65,535 in total, and some room is
 * left for what a kernel does beside its main loop.
 */
export const MAX_ITERATIONS = 60_000;

/** Component names of a vec4, by position. */
export const COMPONENTS = ["x", "y", "z", "w"] as const;

/**
 * Lays a linear list of workgroups out on a grid and returns the WGSL that recovers the linear number.
 * The early return is in uniform control flow, so barriers after it stay legal.
 *
 * @param count workgroups that have work.
 * @param name WGSL name that receives the linear number.
 */
export function linearGrid(count: number, name: string): { workgroups: [number, number, number]; text: string } {
  if (count <= MAX_GRID) return { workgroups: [count, 1, 1], text: `let ${name} = wg.x;\n` };
  const y = Math.ceil(count / MAX_GRID);
  const x = Math.ceil(count / y);
  const guard = x * y === count ? "" : `if (${name} >= ${count}u) { return; }\n`;
  return { workgroups: [x, y, 1], text: `let ${name} = wg.y * ${x}u + wg.x;\n${guard}` };
}

/** Joins `count` pieces of text made by `make`. */
export function times(count: number, make: (index: number) => string): string {
  let text = "";
  for (let index = 0; index < count; index++) text += make(index);
  return text;
}

/** Returns the integer quotient rounded up. */
export function ceilDiv(a: number, b: number): number {
  return Math.ceil(a / b);
}

/**
 * Dispatches a generated kernel: binds its accessors to operands, so that fused producers and consumers are inlined.
 *
 * @param inputs Operands in accessor order; `null` where the kernel does not touch the accessor.
 * @param textures Textures in accessor order; `null` where the kernel does not touch the accessor.
 */
export function dispatchKernelText(
  kernel: KernelContext,
  label: string,
  text: KernelText,
  inputs: readonly (TensorOperand | null)[],
  outputs: readonly (TensorOperand | null)[],
  textures: readonly (TextureOperand | null)[] = [],
): void {
  const source = text.preludes + text.body;
  const uses = (name: string) => new RegExp(`\\b${name}\\(`).test(source);
  const reads = inputs.flatMap((operand, i) =>
    operand && (uses(`ld${i}`) || uses(`ld${i}v`) || uses(`ldu${i}`)) ? [operand] : []
  );
  const writes = outputs.flatMap((operand) => operand ?? []);
  kernel.dispatch({
    label,
    grid: { workgroups: text.workgroups },
    workgroupSize: text.workgroupSize,
    reads,
    writes,
    prelude(code) {
      const lines: string[] = [];
      inputs.forEach((operand, i) => {
        if (!operand) return;
        if (uses(`ld${i}`)) lines.push(`fn ld${i}(at: u32) -> f32 { return ${code.load(operand, "at")}; }`);
        if (uses(`ld${i}v`)) lines.push(`fn ld${i}v(at: u32) -> vec4<f32> { return ${code.load(operand, "at", 4)}; }`);
        if (uses(`ldu${i}`)) lines.push(`fn ldu${i}(at: u32) -> u32 { return ${code.load(operand, "at")}; }`);
      });
      outputs.forEach((operand, i) => {
        if (!operand) return;
        if (uses(`st${i}`)) lines.push(`fn st${i}(at: u32, value: f32) { ${code.store(operand, "at", "value")} }`);
        if (uses(`st${i}v`)) {
          lines.push(`fn st${i}v(at: u32, value: vec4<f32>) { ${code.store(operand, "at", "value", 4)} }`);
        }
        if (uses(`rd${i}`)) lines.push(`fn rd${i}(at: u32) -> f32 { return ${code.load(operand, "at")}; }`);
        if (uses(`rd${i}v`)) lines.push(`fn rd${i}v(at: u32) -> vec4<f32> { return ${code.load(operand, "at", 4)}; }`);
      });
      textures.forEach((texture, i) => {
        if (!texture) return;
        if (uses(`tx${i}v`)) {
          lines.push(`fn tx${i}v(x: u32, y: u32) -> vec4<f32> { return ${code.texel(texture, "x", "y")}; }`);
        }
        if (uses(`tw${i}v`)) {
          lines.push(`fn tw${i}v(x: u32, y: u32, value: vec4<f32>) { ${code.setTexel(texture, "x", "y", "value")} }`);
        }
      });
      return [...lines, text.preludes].join("\n");
    },
    body: () => text.body,
  });
}

/** Which class an adapter belongs to. */
export function variantOf(adapter: AdapterTraits): Variant {
  return adapter.software ? "software" : "hardware";
}
