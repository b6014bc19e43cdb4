/**
 * What the kernels of causal attention share: a lane owns rows of one side, queries or keys, and streams those of the
 * other. How lanes, rows and memory lie differs between adapters: `attention_lanes.ts` is for software,
 * `attention_staged.ts` for hardware.
 *
 * Letters: B batches, H heads, S positions, C channels of a head. Queries, keys, values and their gradients are read and
 * written by strides, so heads may lie inside [B, S, H · C] and nothing is copied. Rows by head are [B, H, S].
 * Hazards: rows past the end read clamped and mask the store; what a row may not see is selected away, never computed
 * from a lowest value.
 *
 * @module
 */
import { type AttentionShape, isAligned, type RowPlace } from "./attention_shape.ts";
import { ceilDiv, COMPONENTS, type KernelText, times } from "./kernel_text.ts";
import { forEachRow } from "./tile_store.ts";

/** An operand streamed past the lanes: its name in the body and its number among the kernel's inputs. */
export interface Streamed {
  /** Prefix of the WGSL names of its parts. */
  readonly name: string;
  /** Number of the input. */
  readonly input: number;
}

/** Which rows a lane owns; it streams those of the other side. */
export type Side = "query" | "key";

/** What a kernel reads and writes, by the numbers of its accessors. */
export interface AttentionAccess {
  /** Which rows a lane owns. */
  readonly side: Side;
  /** Where the rows of inputs are; null for inputs that are no rows of channels. */
  readonly inputs: readonly (RowPlace | null)[];
  /** The same for outputs. */
  readonly outputs: readonly (RowPlace | null)[];
  /** Inputs with cosines and sines [S, C / 2] of the angles of positions, for rows that turn. */
  readonly tables: { readonly cos: number; readonly sin: number };
}

/** What a kernel computes, for a walk to put into its frame. */
export interface AttentionBody {
  /** Names of the inputs. */
  readonly inputs: readonly string[];
  /** Names of the outputs. */
  readonly outputs: readonly string[];
  /** The statements. */
  readonly text: string;
}

/** Text of one attention kernel; no state but sizes. */
export abstract class AttentionWalk {
  /** Rows a lane owns. */
  abstract readonly rows: number;
  /** Streamed rows in an iteration. */
  abstract readonly group: number;
  /** vec4 groups of a head. */
  readonly parts: number;
  /** Whether rows are loaded and stored four elements at a time. */
  protected readonly vector: boolean;

  /** Which rows a lane owns. */
  readonly side: Side;

  /** @param access What the kernel reads and writes. */
  constructor(readonly shape: AttentionShape, protected readonly access: AttentionAccess) {
    this.side = access.side;
    this.parts = ceilDiv(shape.channels, 4);
    this.vector = isAligned(shape);
  }

  /** Declares `batch` and `head`, `headRow` (this head's first row), and `row0`, `row1`, … (this lane's rows). */
  abstract open(): string;

  /** A lane's row `r`, a u32 expression that may be past the end. */
  protected abstract at(r: string): string;

  /** Whether rows may be past the end. */
  protected abstract readonly hasEdge: boolean;

  /**
   * Walks the streamed side in groups. The body sees `${source}${g}_${c}` for each source, and `at(g)`, the row's number.
   * The range is cut to what any row of the workgroup may see, which is the same for all lanes: barriers stay uniform.
   */
  abstract stream(sources: readonly Streamed[], body: (at: (g: number) => string) => string): string;

  /** Puts a body into its frame. */
  abstract kernel(body: AttentionBody): KernelText;

  /** vec4 expression of channels 4c .. 4c + 3 of a row of an input, zero past the head; c is a u32 expression. */
  abstract part(input: number, row: string, c: string): string;

  /** Whether own row `r` and the streamed row `other` see each other; rows past the end never do. */
  visible(r: number, other: string): string {
    if (this.side === "query") return `(${other} <= row${r})`;
    const isInside = this.shape.length % this.group === 0 ? "" : ` && ${other} < ${this.shape.length}u`;
    return `(row${r} <= ${other}${isInside})`;
  }

  /** Declares `${name}0`, `${name}1`, … with the vec4 groups of a row, each with `suffix` behind. */
  load(name: string, input: number, row: string, suffix = ""): string {
    return times(this.parts, (c) => `let ${name}${c} = ${this.part(input, row, `${c}u`)}${suffix};\n`);
  }

  /** Stores `${name}_${row}_${c}`, each with `suffix` behind, to an output's rows. */
  storeRows(name: string, output: number, suffix = ""): string {
    const to = this.access.outputs[output]!;
    return forEachRow({ name, rows: this.rows, columns: this.parts, unrolled: false }, (r, accumulators) => {
      const at = this.at(r);
      const values = to.turned ? this.#turnedBack(accumulators) : accumulators;
      const stores = (to.turned ? this.#angles(at) : "") + `let place = ${placeOf(to, at)};\n` +
        values.map((value, c) => this.#put(`st${output}`, c, `(${value})${suffix}`)).join("");
      return this.hasEdge ? `if (${at} < ${this.shape.length}u) {\n${stores}}\n` : `{\n${stores}}\n`;
    });
  }

  /** Declares `cos0`, `sin0`, … of a position. */
  #angles(row: string): string {
    const { cos, sin } = this.access.tables;
    return `let angle = ${row} * ${this.parts * 2}u;\n` +
      times(
        this.parts / 2,
        (c) => `let cos${c} = ld${cos}v(angle + ${c * 4}u);\nlet sin${c} = ld${sin}v(angle + ${c * 4}u);\n`,
      );
  }

  /** Gradients of channels before they turned, from those after. */
  #turnedBack(values: readonly string[]): string[] {
    const half = this.parts / 2;
    return values.map((value, c) =>
      c < half
        ? `${value} * cos${c} + ${values[c + half]!} * sin${c}`
        : `${value} * cos${c - half} - ${values[c - half]!} * sin${c - half}`
    );
  }

  /** Stores one number for each own row to an output of such numbers. */
  storeNumbers(output: number, value: (r: number) => string): string {
    return times(this.rows, (r) => {
      const store = `st${output}(headRow + row${r}, ${value(r)});\n`;
      return this.hasEdge ? `if (${this.at(`${r}u`)} < ${this.shape.length}u) {\n${store}}\n` : store;
    });
  }

  /** The product of two rows declared by {@linkcode load}. */
  dot(a: string, b: string): string {
    return Array.from({ length: this.parts }, (_, c) => `dot(${a}${c}, ${b}${c})`).join(" + ");
  }

  #put(stem: string, c: number, value: string): string {
    if (this.vector) return `${stem}v(place + ${c * 4}u, ${value});\n`;
    const count = Math.min(4, this.shape.channels - c * 4);
    return `{\nlet value = ${value};\n` +
      times(count, (j) => `${stem}(place + ${c * 4 + j}u, value.${COMPONENTS[j]});\n`) + "}\n";
  }

  /** {@linkcode part} from the input's buffer. */
  protected partInBuffer(input: number, row: string, c: string): string {
    const from = this.access.inputs[input]!;
    const place = placeOf(from, row);
    if (from.turned) {
      const { cos, sin } = this.access.tables;
      const half = `${this.parts / 2}u`;
      const angle = `${row} * ${this.parts * 2}u + ${c} % ${half} * 4u`;
      // Channels i and i + C/2 are a pair.
      return `(ld${input}v(${place} + ${c} * 4u) * ld${cos}v(${angle}) + select(-1.0, 1.0, ${c} >= ${half}) * ` +
        `ld${input}v(${place} + (${c} + ${half}) % ${this.parts}u * 4u) * ld${sin}v(${angle}))`;
    }
    if (this.vector) return `ld${input}v(${place} + ${c} * 4u)`;
    // Clamped, so that the load stays inside the row, then zeroed.
    const last = `${this.shape.channels - 1}u`;
    const element = (j: number) =>
      `select(0.0, ld${input}(${place} + min(${c} * 4u + ${j}u, ${last})), ${c} * 4u + ${j}u <= ${last})`;
    return `vec4<f32>(${[0, 1, 2, 3].map(element).join(", ")})`;
  }
}

/** Element at which a row starts, of the head given by `batch` and `head`. */
function placeOf({ start, batch, head, row }: RowPlace, at: string): string {
  return `${start}u + batch * ${batch}u + head * ${head}u + ${at} * ${row}u`;
}
