/**
 * The frame of attention's kernels on hardware adapters: 64 lanes own one row each, or two where their channels leave
 * registers enough; streamed rows are staged in workgroup memory, from which all lanes read them.
 *
 * In numbers: a vec4 from workgroup memory serves 4 FMA of one row or 8 of two. A row of 64 channels takes 128 registers for
 * itself and its sum. Rows of 128 channels do not fit, and go through memory: a frame in which several lanes share a row
 * would have to come first. Not timed on hardware yet.
 *
 * @module
 */
import type { AttentionShape } from "./attention_shape.ts";
import { type AttentionAccess, type AttentionBody, AttentionWalk, type Streamed } from "./attention_walk.ts";
import { ceilDiv, type KernelText, linearGrid, times } from "./kernel_text.ts";

/** Lanes of a workgroup. */
const LANES = 64;
/** Workgroup memory every WebGPU adapter has. */
const WORKGROUP_BYTES = 16384;
/** Streamed rows staged at once, at most. */
const MAX_STAGED = 32;
/** Channels up to which two rows fit in registers. */
const TWO_ROW_CHANNELS = 32;
/** Workgroups that should be left for a lane to own two rows: a GPU is busy with as many. */
const WANTED_WORKGROUPS = 128;

/** A row or two of each lane, and slabs of streamed rows that all lanes share. */
export class StagedWalk extends AttentionWalk {
  /** Rows a lane owns, {@linkcode LANES} apart. */
  readonly rows: 1 | 2;
  protected readonly hasEdge: boolean;
  readonly #staged: number;

  /** @param group Streamed rows in an iteration. */
  constructor(shape: AttentionShape, access: AttentionAccess, readonly group: number) {
    super(shape, access);
    const { batch, heads, length, channels } = shape;
    const pairs = batch * heads * ceilDiv(length, 2 * LANES);
    this.rows = channels <= TWO_ROW_CHANNELS && length > LANES && pairs >= WANTED_WORKGROUPS ? 2 : 1;
    this.hasEdge = length % (LANES * this.rows) !== 0;
    const fit = Math.floor(WORKGROUP_BYTES / (2 * 16 * this.parts) / group) * group;
    this.#staged = Math.max(group, Math.min(MAX_STAGED, fit));
  }

  open(): string {
    const { heads, length } = this.shape;
    const tiles = this.#tiles();
    return linearGrid(this.#workgroups(), "tile").text +
      `let head = tile / ${tiles}u % ${heads}u;\nlet batch = tile / ${tiles * heads}u;\n` +
      `let origin = tile % ${tiles}u * ${LANES * this.rows}u;\n` +
      `let headRow = (batch * ${heads}u + head) * ${length}u;\n` +
      times(this.rows, (r) => `let row${r} = min(${this.at(`${r}u`)}, ${length - 1}u);\n`);
  }

  protected at(r: string): string {
    return `(origin + ${r} * ${LANES}u + lane)`;
  }

  part(input: number, row: string, c: string): string {
    return this.partInBuffer(input, row, c);
  }

  stream(sources: readonly Streamed[], body: (at: (g: number) => string) => string): string {
    const { parts, group, shape: { length } } = this;
    const staged = this.#staged;
    const [start, end] = this.side === "query"
      ? ["0u", `min(${length}u, origin + ${LANES * this.rows}u)`]
      : [`origin / ${group}u * ${group}u`, `${length}u`];
    const row = `min(slab + i / ${parts}u, ${length - 1}u)`;
    const fill = times(sources.length, (s) => {
      return `staged${s}[i] = ${this.part(sources[s]!.input, "row", `i % ${parts}u`)};\n`;
    });
    const loads = times(
      group,
      (g) =>
        sources.map(({ name }, s) =>
          times(parts, (c) => `let ${name}${g}_${c} = staged${s}[(j - slab + ${g}u) * ${parts}u + ${c}u];\n`)
        ).join(""),
    );
    return `let end = ${end};\nfor (var slab = ${start}; slab < end; slab += ${staged}u) {\nworkgroupBarrier();\n` +
      `for (var i = lane; i < ${staged * parts}u; i += ${LANES}u) {\nlet row = ${row};\n${fill}}\n` +
      `workgroupBarrier();\nlet stop = min(slab + ${staged}u, end);\n` +
      `for (var j = slab; j < stop; j += ${group}u) {\n${loads}${body((g) => `(j + ${g}u)`)}}\n}\n`;
  }

  kernel({ inputs, outputs, text }: AttentionBody): KernelText {
    const size = this.#staged * this.parts;
    return {
      inputs: inputs.map((name) => ({ name, kind: "f32" })),
      outputs: outputs.map((name) => ({ name, kind: "f32" })),
      preludes:
        `var<workgroup> staged0: array<vec4<f32>, ${size}>;\nvar<workgroup> staged1: array<vec4<f32>, ${size}>;\n`,
      body: text,
      workgroupSize: [LANES, 1, 1],
      workgroups: linearGrid(this.#workgroups(), "tile").workgroups,
    };
  }

  #tiles(): number {
    return ceilDiv(this.shape.length, LANES * this.rows);
  }

  #workgroups(): number {
    return this.#tiles() * this.shape.batch * this.shape.heads;
  }
}
