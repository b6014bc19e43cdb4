/**
 * The frame that all kernels of causal attention share: a lane owns rows of one side and streams the rows of the other.
 *
 * Letters: B batches, H heads, S positions, C channels of a head. Queries, keys, values and their gradients are read and
 * written by strides, so heads may lie inside [B, S, H · C] and nothing is copied. Rows by head are [B, H, S].
 * software: 8 lanes that own several rows each; streamed rows come straight from storage, and each loaded component
 * serves all rows of the lane. hardware: 64 lanes, one row each; streamed rows are staged in workgroup memory.
 * Hazards: rows past the end read clamped and mask the store; what a row may not see is selected away, never computed
 * from a lowest value.
 *
 * @module
 */
import { ceilDiv, COMPONENTS, type KernelText, linearGrid, type Operand, times, type Variant } from "./kernel_text.ts";

/** Element distances of one operand: from one batch, head and row to the next. The channels of a head are adjacent. */
export interface AttentionStrides {
  /** From one batch to the next. */
  readonly batch: number;
  /** From one head to the next. */
  readonly head: number;
  /** From one position to the next. */
  readonly row: number;
}

/** Sizes of an attention; all of them from 1 up. */
export interface AttentionShape {
  /** B. */
  readonly batch: number;
  /** H. */
  readonly heads: number;
  /** S. */
  readonly length: number;
  /** C. */
  readonly channels: number;
  /** Factor of the scores. */
  readonly scale: number;
  /** Strides of queries, keys, values and their gradients. */
  readonly strides: AttentionStrides;
}

/** An operand streamed past the lanes: its name in the body and the accessor that loads it. */
export interface Streamed {
  /** Prefix of the WGSL names of its parts. */
  readonly name: string;
  /** Accessor such as `ld1`. */
  readonly load: string;
}

/** Which rows a lane owns; it streams those of the other side. */
export type Side = "query" | "key";

/** Workgroup memory every WebGPU adapter has. */
const WORKGROUP_BYTES = 16384;
/** Streamed rows staged at once, at most. */
const MAX_STAGED = 32;

/** Text of one attention kernel; no state but sizes. */
export class AttentionWalk {
  /** Rows a lane owns. */
  readonly rows: number;
  /** Streamed rows in an iteration. */
  readonly group: number;
  /** vec4 groups of a head. */
  readonly parts: number;
  readonly #lanes: number;
  readonly #staged: number;
  readonly #vector: boolean;

  /**
   * @param side Which rows a lane owns.
   * @param rows Rows a software lane owns, where there are enough.
   * @param group Streamed rows in an iteration on hardware.
   */
  constructor(
    readonly shape: AttentionShape,
    readonly variant: Variant,
    readonly side: Side,
    rows: number,
    group: number,
  ) {
    const { channels, length, strides } = shape;
    const isSoftware = variant === "software";
    this.#lanes = isSoftware ? 8 : 64;
    this.#vector = [channels, strides.batch, strides.head, strides.row].every((n) => n % 4 === 0);
    this.parts = ceilDiv(channels, 4);
    while (rows > 1 && rows / 2 * this.#lanes >= length) rows /= 2;
    this.rows = isSoftware ? rows : 1;
    this.group = isSoftware ? 1 : group;
    const fit = Math.floor(WORKGROUP_BYTES / (2 * 16 * this.parts) / group) * group;
    this.#staged = Math.max(group, Math.min(MAX_STAGED, fit));
  }

  /** Declares `origin`, `base` (this head's first element), `headRow` (its first row) and this lane's rows. */
  open(): string {
    const { heads, length, strides } = this.shape;
    const tiles = this.#tiles();
    return linearGrid(this.#workgroups(), "tile").text +
      `let head = tile / ${tiles}u % ${heads}u;\nlet batch = tile / ${tiles * heads}u;\n` +
      `let origin = tile % ${tiles}u * ${this.rows * this.#lanes}u;\n` +
      `let base = batch * ${strides.batch}u + head * ${strides.head}u;\n` +
      `let headRow = (batch * ${heads}u + head) * ${length}u;\n` +
      // Neighboring lanes own neighboring rows, so all lanes see about the same number of keys.
      times(
        this.rows,
        (r) => `let at${r} = origin + ${r * this.#lanes}u + lane;\nlet row${r} = min(at${r}, ${length - 1}u);\n`,
      );
  }

  /** Element index of this lane's row `r`. */
  own(r: number): string {
    return `base + row${r} * ${this.shape.strides.row}u`;
  }

  /** Whether this lane's row `r` exists. */
  live(r: number): string {
    return `at${r} < ${this.shape.length}u`;
  }

  /** Whether own row `r` and the streamed row `other` see each other; rows past the end never do. */
  visible(r: number, other: string): string {
    return this.side === "query"
      ? `(${other} <= row${r})`
      : `(row${r} <= ${other} && ${other} < ${this.shape.length}u)`;
  }

  /** Declares `${name}0`, `${name}1`, … with the vec4 groups of the row at `base`. */
  load(name: string, load: string, base: string): string {
    return times(this.parts, (c) => `let ${name}${c} = ${this.#part(load, base, c)};\n`);
  }

  /** Stores the vec4 groups of a row. */
  store(stem: string, base: string, value: (c: number) => string): string {
    if (this.#vector) return times(this.parts, (c) => `${stem}v(${base} + ${c * 4}u, ${value(c)});\n`);
    const { channels } = this.shape;
    return times(this.parts, (c) => {
      const stores = times(
        Math.min(4, channels - c * 4),
        (j) => `${stem}(${base} + ${c * 4 + j}u, value.${COMPONENTS[j]});\n`,
      );
      return `{ let value = ${value(c)};\n${stores}}\n`;
    });
  }

  /** The product of two rows declared by {@linkcode load}. */
  dot(a: string, b: string): string {
    return Array.from({ length: this.parts }, (_, c) => `dot(${a}${c}, ${b}${c})`).join(" + ");
  }

  /**
   * Walks the streamed side in groups. The body sees `${source}${g}_${c}` for each source, and `at(g)`, the row's number.
   * The range is cut to what any row of the workgroup may see, which is the same for all lanes: barriers stay uniform.
   */
  stream(sources: readonly Streamed[], body: (at: (g: number) => string) => string): string {
    const { length } = this.shape;
    const [start, end] = this.side === "query"
      ? ["0u", `min(${length}u, origin + ${this.rows * this.#lanes}u)`]
      : [`origin / ${this.group}u * ${this.group}u`, `${length}u`];
    const head = `let start = ${start};\nlet end = ${end};\n`;
    const inner = body((g) => `(j + ${g}u)`);
    return head + (this.variant === "software" ? this.#streamed(sources, inner) : this.#stagedStream(sources, inner));
  }

  /** Assembles the kernel. */
  kernel(inputs: readonly string[], outputs: readonly string[], body: string): KernelText {
    const size = this.#staged * this.parts;
    const operand = (name: string): Operand => ({ name, kind: "f32" });
    return {
      inputs: inputs.map(operand),
      outputs: outputs.map(operand),
      preludes: this.variant === "software"
        ? ""
        : `var<workgroup> staged0: array<vec4<f32>, ${size}>;\nvar<workgroup> staged1: array<vec4<f32>, ${size}>;\n`,
      body,
      workgroupSize: [this.#lanes, 1, 1],
      workgroups: linearGrid(this.#workgroups(), "tile").workgroups,
    };
  }

  #tiles(): number {
    return ceilDiv(this.shape.length, this.rows * this.#lanes);
  }

  #workgroups(): number {
    return this.#tiles() * this.shape.batch * this.shape.heads;
  }

  /** Element index of a streamed row, clamped to the last one. */
  #from(row: string): string {
    const { length, strides } = this.shape;
    return `base + min(${row}, ${length - 1}u) * ${strides.row}u`;
  }

  #streamed(sources: readonly Streamed[], body: string): string {
    const loads = times(this.group, (g) =>
      `let from${g} = ${this.#from(`j + ${g}u`)};\n` +
      sources.map(({ name, load }) => this.load(`${name}${g}_`, load, `from${g}`)).join(""));
    return `for (var j = start; j < end; j += ${this.group}u) {\n${loads}${body}}\n`;
  }

  #stagedStream(sources: readonly Streamed[], body: string): string {
    const { parts, group } = this;
    const staged = this.#staged;
    const fill = sources.map(({ load }, s) => `staged${s}[i] = ${this.#partAt(load, "place", "first")};\n`).join("");
    const loads = times(
      group,
      (g) =>
        sources.map(({ name }, s) =>
          times(parts, (c) => `let ${name}${g}_${c} = staged${s}[(j - slab + ${g}u) * ${parts}u + ${c}u];\n`)
        ).join(""),
    );
    return `for (var slab = start; slab < end; slab += ${staged}u) {\nworkgroupBarrier();\n` +
      `for (var i = lane; i < ${staged * parts}u; i += ${this.#lanes}u) {\n` +
      `let place = ${this.#from(`slab + i / ${parts}u`)};\nlet first = i % ${parts}u * 4u;\n${fill}}\n` +
      `workgroupBarrier();\nlet stop = min(slab + ${staged}u, end);\n` +
      `for (var j = slab; j < stop; j += ${group}u) {\n${loads}${body}}\n}\n`;
  }

  /** Channels 4c .. 4c + 3 of a row, zero past the head. */
  #part(load: string, base: string, c: number): string {
    if (this.#vector) return `${load}v(${base} + ${c * 4}u)`;
    const element = (j: number) => c * 4 + j < this.shape.channels ? `${load}(${base} + ${c * 4 + j}u)` : "0.0";
    return `vec4<f32>(${[0, 1, 2, 3].map(element).join(", ")})`;
  }

  /** The same at a channel known only when the kernel runs. */
  #partAt(load: string, base: string, first: string): string {
    if (this.#vector) return `${load}v(${base} + ${first})`;
    const last = `${this.shape.channels - 1}u`;
    // Clamped, so that the load stays inside the row, then zeroed.
    const element = (j: number) =>
      `select(0.0, ${load}(${base} + min(${first} + ${j}u, ${last})), ${first} + ${j}u <= ${last})`;
    return `vec4<f32>(${[0, 1, 2, 3].map(element).join(", ")})`;
  }
}
