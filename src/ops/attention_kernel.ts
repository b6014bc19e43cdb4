/**
 * Kernels of causal attention, forward and backward, with memory linear in the sequence length.
 *
 *   out_i = Σ_j softmax_j(scale q_i·k_j) v_j over the keys j ≤ i;  lse_i = log Σ_j exp(scale q_i·k_j);  delta_i = dOut_i·out_i
 *
 * Forward and dq: a lane owns queries (their running maximum, sum and output in registers) and streams the keys. dk, dv:
 * a lane owns keys and streams the queries that see them. The backward recomputes the probabilities from lse, so nothing
 * of size S² is ever stored. No atomics: every sum runs in ascending order, and a run repeats bit for bit. How lanes and
 * rows lie is in `attention_walk.ts`.
 *
 * Source: Dao et al. 2022 (FlashAttention, arXiv 2205.14135) and Dao 2023 (arXiv 2307.08691).
 *
 * @module
 */
import { wgslLiteral } from "../core/arithmetic.ts";
import type { KernelContext, Operand } from "../core/kernel.ts";
import { type AttentionShape, AttentionWalk } from "./attention_walk.ts";
import { dispatchKernelText, type KernelText, MAX_ITERATIONS, times, type Variant, variantOf } from "./kernel_text.ts";

/** Starts the running maximum: minus infinity may not be written in WGSL. */
const LOWEST = "-3.4028234e38";
/** Channels up to which a row of a head fits in registers. */
const MAX_CHANNELS = 128;

/** Whether the kernels take a shape; everything else is left to the meaning in small ops. */
export function attentionFits({ batch, heads, length, channels }: AttentionShape): boolean {
  return batch * heads * length * channels > 0 && length <= MAX_ITERATIONS && channels <= MAX_CHANNELS;
}

/** Dispatches the forward. Inputs: q, k, v. Outputs: out like q, lse [B, H, S]. */
export function buildAttention(kernel: KernelContext, shape: AttentionShape): void {
  const [q, k, v] = kernel.inputs as [Operand, Operand, Operand];
  const text = forwardKernel(shape, variantOf(kernel.adapter));
  dispatchKernelText(kernel, `attention ${sizes(shape)}`, text, [q, k, v], kernel.outputs);
}

/** Dispatches the backward. Inputs: q, k, v, out, lse, dOut. Outputs: dq, dk, dv like q. */
export function buildAttentionGrad(kernel: KernelContext, shape: AttentionShape): void {
  const [q, k, v, out, lse, dOut] = kernel.inputs as [Operand, Operand, Operand, Operand, Operand, Operand];
  const [dq, dk, dv] = kernel.outputs as [Operand, Operand, Operand];
  const variant = variantOf(kernel.adapter);
  const delta = kernel.scratch(lse.shape, "f32");
  const queries = queryGradKernel(shape, variant);
  const keys = keyGradKernel(shape, variant);
  dispatchKernelText(kernel, `attention dq ${sizes(shape)}`, queries, [q, k, v, out, dOut, lse], [dq, delta]);
  dispatchKernelText(kernel, `attention dk dv ${sizes(shape)}`, keys, [q, k, v, dOut, lse, delta], [dk, dv]);
}

function sizes({ batch, heads, length, channels }: AttentionShape): string {
  return `${batch * heads}x${length}x${channels}`;
}

/**
 * Rows a software lane owns. Many rows and one streamed row at a time won: each loaded component serves every row. Eight
 * rows run up to 1.3 times faster than four but take three times as long to compile (seconds), so only the forward of
 * small heads uses them.
 */
function softwareRows({ channels }: AttentionShape, pass: "forward" | "backward"): number {
  if (pass === "forward" && channels <= 32) return 8;
  return channels <= 64 ? 4 : 2;
}

/** Inputs: q, k, v. Outputs: out, lse. */
function forwardKernel(shape: AttentionShape, variant: Variant): KernelText {
  const walk = new AttentionWalk(shape, variant, "query", softwareRows(shape, "forward"), 4);
  const { rows, group, parts } = walk;
  const scale = wgslLiteral(shape.scale, "f32");
  const open = times(
    rows,
    (r) =>
      walk.load(`q${r}_`, "ld0", walk.own(r)) + `var top${r} = ${LOWEST};\nvar sum${r} = 0.0;\n` +
      times(parts, (c) => `var o${r}_${c} = vec4<f32>();\n`),
  );
  const stream = walk.stream([{ name: "k", load: "ld1" }, { name: "v", load: "ld2" }], (at) =>
    times(rows, (r) => {
      const scores = times(group, (g) =>
        `let seen${g} = ${walk.visible(r, at(g))};\n` +
        `let s${g} = select(${LOWEST}, ${scale} * (${walk.dot(`q${r}_`, `k${g}_`)}), seen${g});\n`);
      const highest = Array.from({ length: group }, (_, g) => `s${g}`).reduce((a, b) => `max(${a}, ${b})`);
      const weights = times(group, (g) => `let p${g} = select(0.0, exp(s${g} - high), seen${g});\nsum${r} += p${g};\n`);
      const mixed = times(parts, (c) =>
        `o${r}_${c} = o${r}_${c} * shrink${times(group, (g) => ` + p${g} * v${g}_${c}`)};\n`);
      return `{\n${scores}let high = max(top${r}, ${highest});\nlet shrink = exp(top${r} - high);\n` +
        `top${r} = high;\nsum${r} *= shrink;\n${weights}${mixed}}\n`;
    }));
  const close = times(rows, (r) =>
    `if (${walk.live(r)}) {\nlet inverse = 1.0 / sum${r};\n` +
    walk.store("st0", walk.own(r), (c) => `o${r}_${c} * inverse`) +
    `st1(headRow + row${r}, top${r} + log(sum${r}));\n}\n`);
  return walk.kernel(["q", "k", "v"], ["out", "lse"], walk.open() + open + stream + close);
}

/** Inputs: q, k, v, out, dOut, lse. Outputs: dq, delta. */
function queryGradKernel(shape: AttentionShape, variant: Variant): KernelText {
  const walk = new AttentionWalk(shape, variant, "query", softwareRows(shape, "backward"), 2);
  const { rows, group, parts } = walk;
  const scale = wgslLiteral(shape.scale, "f32");
  const open = times(rows, (r) =>
    walk.load(`q${r}_`, "ld0", walk.own(r)) + walk.load(`d${r}_`, "ld4", walk.own(r)) +
    `let lse${r} = ld5(headRow + row${r});\nvar delta${r} = 0.0;\n` +
    `{\n${walk.load("out_", "ld3", walk.own(r))}delta${r} = ${walk.dot("out_", `d${r}_`)};\n}\n` +
    times(parts, (c) => `var a${r}_${c} = vec4<f32>();\n`));
  const stream = walk.stream(
    [{ name: "k", load: "ld1" }, { name: "v", load: "ld2" }],
    (at) =>
      times(rows, (r) =>
        times(group, (g) =>
          `{\nlet score = ${scale} * (${walk.dot(`q${r}_`, `k${g}_`)});\n` +
          `let p = select(0.0, exp(score - lse${r}), ${walk.visible(r, at(g))});\n` +
          `let ds = ${scale} * p * (${walk.dot(`d${r}_`, `v${g}_`)} - delta${r});\n` +
          times(parts, (c) => `a${r}_${c} += ds * k${g}_${c};\n`) + "}\n")),
  );
  const close = times(rows, (r) =>
    `if (${walk.live(r)}) {\n${walk.store("st0", walk.own(r), (c) => `a${r}_${c}`)}` +
    `st1(headRow + row${r}, delta${r});\n}\n`);
  return walk.kernel(["q", "k", "v", "out", "dOut", "lse"], ["dq", "delta"], walk.open() + open + stream + close);
}

/** Inputs: q, k, v, dOut, lse, delta. Outputs: dk, dv. */
function keyGradKernel(shape: AttentionShape, variant: Variant): KernelText {
  const walk = new AttentionWalk(shape, variant, "key", softwareRows(shape, "backward"), 2);
  const { rows, group, parts } = walk;
  const scale = wgslLiteral(shape.scale, "f32");
  const open = times(rows, (r) =>
    walk.load(`k${r}_`, "ld1", walk.own(r)) + walk.load(`v${r}_`, "ld2", walk.own(r)) +
    times(parts, (c) => `var dk${r}_${c} = vec4<f32>();\nvar dv${r}_${c} = vec4<f32>();\n`));
  const stream = walk.stream([{ name: "q", load: "ld0" }, { name: "d", load: "ld3" }], (at) => {
    const known = times(group, (g) => {
      const query = `headRow + min(${at(g)}, ${shape.length - 1}u)`;
      return `let lse${g} = ld4(${query});\nlet delta${g} = ld5(${query});\n`;
    });
    return known +
      times(rows, (r) =>
        times(group, (g) =>
          `{\nlet score = ${scale} * (${walk.dot(`k${r}_`, `q${g}_`)});\n` +
          `let p = select(0.0, exp(score - lse${g}), ${walk.visible(r, at(g))});\n` +
          `let ds = ${scale} * p * (${walk.dot(`v${r}_`, `d${g}_`)} - delta${g});\n` +
          times(parts, (c) => `dv${r}_${c} += p * d${g}_${c};\ndk${r}_${c} += ds * q${g}_${c};\n`) + "}\n"));
  });
  const close = times(rows, (r) =>
    `if (${walk.live(r)}) {\n${walk.store("st0", walk.own(r), (c) => `dk${r}_${c}`)}` +
    `${walk.store("st1", walk.own(r), (c) => `dv${r}_${c}`)}}\n`);
  return walk.kernel(["q", "k", "v", "dOut", "lse", "delta"], ["dk", "dv"], walk.open() + open + stream + close);
}
