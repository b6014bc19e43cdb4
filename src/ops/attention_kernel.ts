/**
 * Kernels of causal attention, forward and backward, with memory linear in the sequence length.
 *
 *   out_i = Σ_j softmax_j(scale q_i·k_j) v_j over the keys j ≤ i;  lse_i = log Σ_j exp(scale q_i·k_j);  delta_i = dOut_i·out_i
 *
 * Forward and dq: a lane owns queries (their running maximum, sum and output in registers) and streams the keys. dk, dv:
 * a lane owns keys and streams the queries that see them. The backward recomputes the probabilities from lse, so nothing
 * of size S² is ever stored. Exponentials are powers of two: the factor goes into the owned rows, once. No atomics: every
 * sum runs in ascending order, and a run repeats bit for bit. How lanes and rows lie is in `attention_walk.ts`.
 *
 * Source: Dao et al. 2022 (FlashAttention, arXiv 2205.14135) and Dao 2023 (arXiv 2307.08691).
 *
 * @module
 */
import { wgslLiteral } from "../core/arithmetic.ts";
import { bytesPerElement } from "../core/dtype.ts";
import type { KernelContext, Operand, TextureOperand } from "../core/kernel.ts";
import { jointTextures } from "./attention_joint.ts";
import { type LaneTile, LaneWalk } from "./attention_lanes.ts";
import { type AttentionShape, isJoint, type RowPlace } from "./attention_shape.ts";
import { StagedWalk } from "./attention_staged.ts";
import { attentionTexture } from "./attention_textures.ts";
import type { AttentionAccess, AttentionBody, AttentionWalk, Side } from "./attention_walk.ts";
import { dispatchKernelText, MAX_ITERATIONS, times } from "./kernel_text.ts";
import { textureOf } from "./texture_matrix.ts";

/** Starts the running maximum: minus infinity may not be written in WGSL. */
const LOWEST = "-3.4028234e38";
/** Channels up to which a row of a head fits in registers. */
const MAX_CHANNELS = 128;

/** Whether the kernels take a shape; everything else is left to the meaning in small ops. */
export function attentionFits({ batch, heads, length, channels }: AttentionShape): boolean {
  return batch * heads * length * channels > 0 && length <= MAX_ITERATIONS && channels <= MAX_CHANNELS;
}

/** An input or output of a kernel: a buffer, and where its rows of channels are, if it has such. */
interface Access {
  readonly operand: Operand;
  readonly rows: RowPlace | null;
}

/** Queries, keys and values, each with its gradient's like. */
type Three<T> = readonly [T, T, T];

/** Cosines and sines of positions [S, C / 2] where operands turn, else none. */
type Tables = readonly [] | readonly [Operand, Operand];

/** A kernel: what it is called, which rows its lanes own, and the rest of its text once it is known how they lie. */
interface AttentionKernel {
  readonly label: string;
  readonly side: Side;
  /** Inputs by the number of the accessor, queries, keys and values first; the tables come behind. */
  readonly inputs: readonly Access[];
  readonly outputs: readonly Access[];
  /** Number of the input that is the result's cotangent, if it is there. */
  readonly cotangent?: number;
  readonly tables: Tables;
  /** Rows met in an iteration on software adapters. */
  readonly tile: LaneTile;
  /** Streamed rows in an iteration on hardware adapters. */
  readonly group: number;
  readonly body: (walk: AttentionWalk, scale: number) => AttentionBody;
}

function numbers(operand: Operand): Access {
  return { operand, rows: null };
}

/** Queries, keys and values, or their gradients: in buffers of their own, or beside each other in one. */
function operandsOf(operands: readonly Operand[], shape: AttentionShape): Three<Access> {
  return shape.operands.map((rows, i) => ({ operand: operands[isJoint(shape) ? 0 : i]!, rows })) as unknown as Three<
    Access
  >;
}

/**
 * Dispatches the forward. Inputs: q, k, v, or their joint projection and the tables of angles. Outputs: out, and lse
 * [B, H, S] if anything reads it.
 */
export function buildAttention(kernel: KernelContext, shape: AttentionShape): void {
  const [out, lse] = kernel.outputs as [Operand, Operand];
  // Only the backward reads the logarithms of the sums.
  const sums = kernel.isRead(lse) ? "kept" : "dropped";
  dispatchAttention(kernel, shape, "shared", {
    label: "attention",
    side: "query",
    inputs: operandsOf(kernel.inputs, shape),
    outputs: [{ operand: out, rows: shape.result }, ...(sums === "kept" ? [numbers(lse)] : [])],
    tables: isJoint(shape) ? kernel.inputs.slice(1, 3) as [Operand, Operand] : [],
    tile: softwareTile(shape),
    group: 4,
    body: (walk, scale) => forwardBody(walk, scale, sums),
  });
}

/** Dispatches the backward. Inputs: those of the forward, out, lse, dOut. Outputs: dq, dk, dv like the forward's. */
export function buildAttentionGrad(kernel: KernelContext, shape: AttentionShape): void {
  const [q, k, v] = operandsOf(kernel.inputs, shape);
  const [dq, dk, dv] = operandsOf(kernel.outputs, shape);
  const [out, lse, dOut] = kernel.inputs.slice(3) as [Operand, Operand, Operand];
  const delta = kernel.scratch(lse.shape, "f32");
  const rowsOf = (operand: Operand): Access => ({ operand, rows: shape.result });
  // Textures are f32. Those of half precision are filled again rather than kept from the forward pass to here.
  const use = bytesPerElement(q.operand.dtype) < 4 ? "again" : "shared";
  const tables = isJoint(shape) ? kernel.inputs.slice(1, 3) as [Operand, Operand] : [] as const;
  const tile = softwareTile(shape);
  dispatchAttention(kernel, shape, use, {
    label: "attention dq",
    side: "query",
    inputs: [q, k, v, rowsOf(out), rowsOf(dOut), numbers(lse)],
    outputs: [dq, numbers(delta)],
    cotangent: 4,
    tables,
    tile,
    group: 2,
    body: queryGradBody,
  });
  dispatchAttention(kernel, shape, use, {
    label: "attention dk dv",
    side: "key",
    inputs: [q, k, v, rowsOf(dOut), numbers(lse), numbers(delta)],
    outputs: [dk, dv],
    cotangent: 3,
    tables,
    tile: { ...tile, group: 1 },
    group: 2,
    body: keyGradBody,
  });
}

/**
 * Rows that meet in an iteration on software adapters. More of them repay more loads, but spill out of the first cache,
 * and the kernel takes twice as long to compile: half as many rows for twice as many channels.
 */
function softwareTile({ channels }: AttentionShape): LaneTile {
  if (channels <= 32) return { rows: 4, group: 2 };
  return { rows: channels <= 64 ? 2 : 1, group: 1 };
}

/** Dispatches a kernel in the frame of the adapter's class, and fills the textures it reads. */
function dispatchAttention(
  kernel: KernelContext,
  shape: AttentionShape,
  use: "shared" | "again",
  { label, side, inputs, outputs, cotangent, tables, tile, group, body }: AttentionKernel,
): void {
  const { adapter } = kernel;
  const layout = attentionTexture(shape, adapter);
  const textures: (TextureOperand | null)[] = inputs.map(() => null);
  if (layout !== null) {
    const [q] = inputs as [Access];
    const own = tables.length === 2
      ? jointTextures(kernel, q.operand, tables, shape, layout, use)
      : inputs.slice(0, 3).map(({ operand }) => textureOf(kernel, operand, layout.matrix, use));
    textures.splice(0, 3, ...own);
    if (cotangent !== undefined) {
      textures[cotangent] = textureOf(kernel, inputs[cotangent]!.operand, layout.matrix, use);
    }
  }
  const access: AttentionAccess = {
    side,
    inputs: inputs.map(({ rows }) => rows),
    outputs: outputs.map(({ rows }) => rows),
    tables: { cos: inputs.length, sin: inputs.length + 1 },
  };
  const inTexture = textures.flatMap((texture, i) => texture === null ? [] : [i]);
  const walk = adapter.software
    ? new LaneWalk(shape, access, tile, layout, inTexture)
    : new StagedWalk(shape, access, group);
  const { batch, heads, length, channels } = shape;
  dispatchKernelText(
    kernel,
    `${label} ${batch * heads}x${length}x${channels}`,
    walk.kernel(body(walk, shape.scale)),
    [...inputs.map(({ operand }) => operand), ...tables],
    outputs.map(({ operand }) => operand),
    textures,
  );
}

/** Factor of owned rows that makes their products exponents of two. */
function toExponents(scale: number): string {
  return ` * ${wgslLiteral(scale * Math.LOG2E, "f32")}`;
}

/** Accumulators `${name}_${r}_${c}`, zero at first. */
function accumulators({ rows, parts }: AttentionWalk, name: string): string {
  return times(rows, (r) => times(parts, (c) => `var ${name}_${r}_${c} = vec4<f32>();\n`));
}

/** Inputs: q, k, v. Outputs: out, and lse if it is kept. */
function forwardBody(walk: AttentionWalk, scale: number, sums: "kept" | "dropped"): AttentionBody {
  const { rows, group, parts } = walk;
  const open = accumulators(walk, "o") +
    times(
      rows,
      (r) => walk.load(`q${r}_`, 0, `row${r}`, toExponents(scale)) + `var top${r} = ${LOWEST};\nvar sum${r} = 0.0;\n`,
    );
  const stream = walk.stream([{ name: "k", input: 1 }, { name: "v", input: 2 }], (at) =>
    times(rows, (r) => {
      const scores = times(group, (g) =>
        `let seen${g} = ${walk.visible(r, at(g))};\n` +
        `let s${g} = select(${LOWEST}, ${walk.dot(`q${r}_`, `k${g}_`)}, seen${g});\n`);
      const highest = Array.from({ length: group }, (_, g) => `s${g}`).reduce((a, b) => `max(${a}, ${b})`);
      const weights = times(group, (g) => `let p${g} = select(0.0, exp2(s${g} - high), seen${g});\n`);
      const sum = `sum${r} = sum${r} * shrink${times(group, (g) => ` + p${g}`)};\n`;
      const mixed = times(parts, (c) =>
        `o_${r}_${c} = o_${r}_${c} * shrink${times(group, (g) => ` + p${g} * v${g}_${c}`)};\n`);
      return `{\n${scores}let high = max(top${r}, ${highest});\nlet shrink = exp2(top${r} - high);\n` +
        `top${r} = high;\n${weights}${sum}${mixed}}\n`;
    }));
  const lse = (r: number) => `(top${r} + log2(sum${r})) * ${wgslLiteral(Math.LN2, "f32")}`;
  const close = (sums === "kept" ? walk.storeNumbers(1, lse) : "") +
    times(rows, (r) => `{\nlet inverse = 1.0 / sum${r};\n${times(parts, (c) => `o_${r}_${c} *= inverse;\n`)}}\n`) +
    walk.storeRows("o", 0);
  return {
    inputs: ["q", "k", "v"],
    outputs: sums === "kept" ? ["out", "lse"] : ["out"],
    text: walk.open() + open + stream + close,
  };
}

/** Inputs: q, k, v, out, dOut, lse. Outputs: dq, delta. */
function queryGradBody(walk: AttentionWalk, scale: number): AttentionBody {
  const { rows, group, parts } = walk;
  const log2e = wgslLiteral(Math.LOG2E, "f32");
  const open = accumulators(walk, "a") +
    times(rows, (r) =>
      walk.load(`q${r}_`, 0, `row${r}`, toExponents(scale)) + walk.load(`d${r}_`, 4, `row${r}`) +
      `let lse${r} = ld5(headRow + row${r}) * ${log2e};\nvar delta${r} = 0.0;\n`) +
    `for (var c = 0u; c < ${parts}u; c++) {\n` +
    times(rows, (r) => `delta${r} += dot(${walk.part(3, `row${r}`, "c")}, ${walk.part(4, `row${r}`, "c")});\n`) +
    "}\n";
  const stream = walk.stream(
    [{ name: "k", input: 1 }, { name: "v", input: 2 }],
    (at) =>
      times(
        rows,
        (r) =>
          "{\n" + times(group, (g) =>
            `let p${g} = select(0.0, exp2(${walk.dot(`q${r}_`, `k${g}_`)} - lse${r}), ${walk.visible(r, at(g))});\n` +
            `let ds${g} = p${g} * (${walk.dot(`d${r}_`, `v${g}_`)} - delta${r});\n`) +
          times(parts, (c) =>
            `a_${r}_${c} = a_${r}_${c}${times(group, (g) => ` + ds${g} * k${g}_${c}`)};\n`) +
          "}\n",
      ),
  );
  const close = walk.storeNumbers(1, (r) => `delta${r}`) + walk.storeRows("a", 0, ` * ${wgslLiteral(scale, "f32")}`);
  return {
    inputs: ["q", "k", "v", "out", "dOut", "lse"],
    outputs: ["dq", "delta"],
    text: walk.open() + open + stream + close,
  };
}

/** Inputs: q, k, v, dOut, lse, delta. Outputs: dk, dv. */
function keyGradBody(walk: AttentionWalk, scale: number): AttentionBody {
  const { rows, group, parts } = walk;
  const log2e = wgslLiteral(Math.LOG2E, "f32");
  const open = accumulators(walk, "dk") + accumulators(walk, "dv") +
    times(rows, (r) => walk.load(`k${r}_`, 1, `row${r}`, toExponents(scale)) + walk.load(`v${r}_`, 2, `row${r}`));
  const stream = walk.stream([{ name: "q", input: 0 }, { name: "d", input: 3 }], (at) => {
    const known = times(group, (g) => {
      const query = `headRow + min(${at(g)}, ${walk.shape.length - 1}u)`;
      return `let lse${g} = ld4(${query}) * ${log2e};\nlet delta${g} = ld5(${query});\n`;
    });
    return known +
      times(
        rows,
        (r) =>
          "{\n" + times(group, (g) =>
            `let p${g} = select(0.0, exp2(${walk.dot(`k${r}_`, `q${g}_`)} - lse${g}), ${walk.visible(r, at(g))});\n` +
            `let ds${g} = p${g} * (${walk.dot(`v${r}_`, `d${g}_`)} - delta${g});\n`) +
          times(parts, (c) => {
            const sumOf = (weight: string, row: string) =>
              times(group, (g) =>
                ` + ${weight}${g} * ${row}${g}_${c}`);
            return `dk_${r}_${c} = dk_${r}_${c}${sumOf("ds", "q")};\ndv_${r}_${c} = dv_${r}_${c}${sumOf("p", "d")};\n`;
          }) +
          "}\n",
      );
  });
  const close = walk.storeRows("dk", 0, ` * ${wgslLiteral(scale, "f32")}`) + walk.storeRows("dv", 1);
  return {
    inputs: ["q", "k", "v", "dOut", "lse", "delta"],
    outputs: ["dk", "dv"],
    text: walk.open() + open + stream + close,
  };
}
