/**
 * Indices as texts: linear ones, coordinates, and the way between them.
 *
 * Equal text means equal element. So splitting an index into coordinates and joining them again gives back the text it came
 * from, and a place inside the row of a row kernel is recognized wherever it turns up.
 *
 * @module
 */
import type { Index } from "../core/kernel.ts";
import { type Shape, sizeOf } from "../core/shape.ts";

/** Where a coordinate came from: it is that of `position` among the coordinates of `source` over some sizes. */
interface Origin {
  readonly source: string;
  readonly sizes: readonly number[];
  readonly position: number;
}

function significant(shape: Shape): number[] {
  return shape.filter((n) => n !== 1);
}

/** Makes indices, and remembers where their texts came from. */
export class Indices {
  readonly #bind: (expression: string) => string;
  readonly #origins = new Map<string, Origin>();
  #row: { readonly row: string; readonly inner: number } | null = null;
  /** Places inside the row of a row kernel, by the text of their linear index, and the reverse. */
  readonly #inRow = new Map<string, string>();
  readonly #ofRow = new Map<string, string>();

  /** @param bind Names an expression; equal expressions share a name. */
  constructor(bind: (expression: string) => string) {
    this.#bind = bind;
  }

  /** Declares the running index of a row kernel, row · inner + at. A kernel of one row says row "0u", as views of it do. */
  enterRow(row: string, at: string, inner: number): string {
    const text = row === "0u" ? at : this.#bind(`${row} * ${inner}u + ${at}`);
    this.#row = { row, inner };
    this.#inRow.set(text, at);
    this.#ofRow.set(at, text);
    return text;
  }

  /** The index `steps` elements behind another. If that one is a place in the row, so is this one. */
  behind(start: string, steps: number): string {
    const place = this.#bind(`${start} + ${steps}u`);
    const at = this.#inRow.get(start);
    if (at !== undefined) {
      const placeInRow = this.#bind(`${at} + ${steps}u`);
      this.#inRow.set(place, placeInRow);
      this.#ofRow.set(placeInRow, place);
    }
    return place;
  }

  /** An index from a linear expression. */
  linear(shape: Shape, expression: string): Index {
    return { shape, linear: () => expression, coords: () => this.split(expression, shape) };
  }

  /** An index from coordinates. */
  at(shape: Shape, coords: readonly string[]): Index {
    // An axis of size 1 has one coordinate: a guarded view may ask outside it, and memoizing by text must not notice.
    const inside = coords.map((coord, axis) => shape[axis] === 1 ? "0u" : coord);
    return { shape, linear: () => this.#join(inside, shape), coords: () => inside };
  }

  /** The coordinates of a linear index. */
  split(expression: string, shape: Shape): string[] {
    const sizes = significant(shape);
    const row = this.#row;
    const inRow = this.#inRow.get(expression);
    let parts: string[] | null = null;
    if (row !== null && inRow !== undefined) {
      let cut = sizes.length;
      let tail = 1;
      while (cut > 0 && tail < row.inner) tail *= sizes[--cut]!;
      if (tail === row.inner) {
        parts = [...this.#divide(row.row, sizes.slice(0, cut)), ...this.#divide(inRow, sizes.slice(cut))];
      }
    }
    parts ??= this.#divide(expression, sizes);
    let next = 0;
    return shape.map((n) => n === 1 ? "0u" : parts[next++]!);
  }

  #divide(expression: string, sizes: readonly number[]): string[] {
    if (sizes.length === 0) return [];
    if (sizes.length === 1 || expression === "0u") return sizes.map(() => expression);
    const source = this.#bind(expression);
    const parts: string[] = [];
    let rest = source;
    for (let i = sizes.length - 1; i > 0; i--) {
      parts.unshift(this.#bind(`${rest} % ${sizes[i]}u`));
      rest = this.#bind(`${rest} / ${sizes[i]}u`);
    }
    parts.unshift(rest);
    // Remembered by name: #join recognizes the coordinates of one index and gives back the index.
    parts.forEach((part, position) =>
      this.#origins.set(`${part}/${sizes.join("x")}`, { source: expression, sizes, position })
    );
    return parts;
  }

  #join(coords: readonly string[], shape: Shape): string {
    const parts = coords.map((coord, axis) => ({ coord, size: shape[axis]! })).filter(({ size }) => size !== 1);
    const joined: { coord: string; size: number }[] = [];
    for (let i = 0; i < parts.length;) {
      const run = this.#runAt(parts, i);
      joined.push(run ?? parts[i]!);
      i += run?.length ?? 1;
    }
    const row = this.#row;
    if (row !== null && joined.length >= 2) {
      const [last, before] = [joined.at(-1)!, joined.at(-2)!];
      const text = this.#ofRow.get(last.coord);
      if (text !== undefined && last.size === row.inner && before.coord === row.row) {
        joined.splice(-2, 2, { coord: text, size: last.size * before.size });
      }
    }
    let text = "0u";
    for (const { coord, size } of joined) {
      const scaled = text === "0u" ? "" : `${text} * ${size}u`;
      if (coord === "0u") text = scaled === "" ? "0u" : `(${scaled})`;
      else text = scaled === "" ? coord : `(${scaled} + ${coord})`;
    }
    return text;
  }

  /** If the coordinates from `start` on are all the coordinates of one index, that index. */
  #runAt(
    parts: readonly { coord: string; size: number }[],
    start: number,
  ): { coord: string; size: number; length: number } | null {
    for (let length = parts.length - start; length > 1; length--) {
      const run = parts.slice(start, start + length);
      const sizes = run.map(({ size }) => size);
      const origins = run.map(({ coord }) => this.#origins.get(`${coord}/${sizes.join("x")}`));
      const source = origins[0]?.source;
      if (source !== undefined && origins.every((origin, i) => origin?.source === source && origin.position === i)) {
        return { coord: source, size: sizeOf(sizes), length };
      }
    }
    return null;
  }
}
