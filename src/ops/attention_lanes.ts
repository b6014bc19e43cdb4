/**
 * The frame of attention's kernels on software adapters: workgroups of 8 lanes that own several rows each, so that each
 * load of a streamed row serves all of them. Operands are read from textures, or from their buffers.
 *
 * Lanes belong to different heads as far as there are enough: then a workgroup owns few neighboring positions, and walks
 * hardly any pair that does not see each other. Loads cost the same wherever the lanes read.
 *
 * @module
 */
import type { AttentionShape } from "./attention_shape.ts";
import { type AttentionTexture, headInTexture, texelOf } from "./attention_textures.ts";
import { type AttentionAccess, type AttentionBody, AttentionWalk, type Streamed } from "./attention_walk.ts";
import { ceilDiv, type KernelText, linearGrid, times } from "./kernel_text.ts";

/** Lanes of a workgroup: one SIMD group of llvmpipe. */
const LANES = 8;

/** How many rows meet in an iteration. */
export interface LaneTile {
  /** Rows a lane owns, where there are enough; a power of two. */
  readonly rows: number;
  /** Streamed rows in an iteration. */
  readonly group: number;
}

/** Lanes own rows, of several heads where that divides them evenly. */
export class LaneWalk extends AttentionWalk {
  /** Rows a lane owns. */
  readonly rows: number;
  /** Streamed rows in an iteration. */
  readonly group: number;
  protected readonly hasEdge: boolean;
  readonly #texture: AttentionTexture | null;
  readonly #inTexture: ReadonlySet<number>;
  /** Heads side by side, and lanes of each. */
  readonly #heads: number;
  readonly #lanes: number;

  /**
   * @param texture How operands lie in textures, if they do.
   * @param inTexture Numbers of the inputs that do.
   */
  constructor(
    shape: AttentionShape,
    access: AttentionAccess,
    { rows, group }: LaneTile,
    texture: AttentionTexture | null,
    inTexture: readonly number[],
  ) {
    super(shape, access);
    const { batch, heads, length } = shape;
    this.#heads = [8, 4, 2, 1].find((n) => batch * heads % n === 0)!;
    this.#lanes = LANES / this.#heads;
    while (rows > 1 && rows / 2 * this.#lanes >= length) rows /= 2;
    this.rows = rows;
    this.group = Math.min(group, length);
    this.hasEdge = length % (rows * this.#lanes) !== 0;
    this.#texture = texture;
    this.#inTexture = new Set(texture === null ? [] : inTexture);
  }

  open(): string {
    const { batch, heads, length } = this.shape;
    const tiles = this.#tiles();
    const [inner, own] = [this.#heads, this.rows * this.#lanes];
    // Rows that see most come first, so that no thread ends with the longest.
    const tile = this.side === "query" ? `${tiles - 1}u - task % ${tiles}u` : `task % ${tiles}u`;
    return linearGrid(tiles * batch * heads / inner, "task").text +
      `let origin = (${tile}) * ${own}u;\nlet mine = origin + lane / ${inner}u;\n` +
      `let number = task / ${tiles}u * ${inner}u + lane % ${inner}u;\n` +
      `let batch = number / ${heads}u;\nlet head = number % ${heads}u;\n` +
      `let headRow = number * ${length}u;\n` +
      (this.#texture ? headInTexture(this.#texture, this.shape) : "") +
      times(this.rows, (r) => {
        const at = this.at(`${r}u`);
        return `let row${r} = ${this.hasEdge ? `min(${at}, ${length - 1}u)` : at};\n`;
      });
  }

  protected at(r: string): string {
    return `(mine + ${r} * ${this.#lanes}u)`;
  }

  part(input: number, row: string, c: string): string {
    if (this.#texture === null || !this.#inTexture.has(input)) {
      return this.partInBuffer(input, row, c);
    }
    return `tx${input}v(${texelOf(this.#texture, this.shape.channels, row, c)})`;
  }

  stream(sources: readonly Streamed[], body: (at: (g: number) => string) => string): string {
    const { length } = this.shape;
    const { group } = this;
    const [start, end] = this.side === "query"
      ? ["0u", `min(${length}u, origin + ${this.rows * this.#lanes}u)`]
      : [`origin / ${group}u * ${group}u`, `${length}u`];
    const place = (g: number) => length % group === 0 ? `(j + ${g}u)` : `min(j + ${g}u, ${length - 1}u)`;
    const loads = times(
      group,
      (g) => sources.map(({ name, input }) => this.load(`${name}${g}_`, input, place(g))).join(""),
    );
    return `let end = ${end};\nfor (var j = ${start}; j < end; j += ${group}u) {\n${loads}` +
      `${body((g) => `(j + ${g}u)`)}}\n`;
  }

  kernel({ inputs, outputs, text }: AttentionBody): KernelText {
    const { batch, heads } = this.shape;
    return {
      inputs: inputs.map((name) => ({ name, kind: "f32" })),
      outputs: outputs.map((name) => ({ name, kind: "f32" })),
      preludes: "",
      body: text,
      workgroupSize: [LANES, 1, 1],
      workgroups: linearGrid(this.#tiles() * batch * heads / this.#heads, "task").workgroups,
    };
  }

  #tiles(): number {
    return ceilDiv(this.shape.length, this.rows * this.#lanes);
  }
}
