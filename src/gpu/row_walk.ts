/**
 * How the body of a row kernel goes over its row, step by step.
 *
 * @module
 */
import type { Emitter } from "./emit.ts";
import type { Group } from "./fuse.ts";
import { hasSpareRows, type RowLayout } from "./row_layout.ts";

/** Which elements of a step exist, where not all do. */
export interface Inside {
  /** A condition for the step, or one for each of its four elements. */
  readonly condition: string;
  /** Whether it is one for each. */
  readonly each: boolean;
}

/** How a body goes over its row. */
export interface Walk {
  /** Number of the row. */
  readonly row: string;
  /** Visits each step of this invocation: its linear index, and which of it exists; null for all. */
  overRow(visit: (index: string, inside: Inside | null) => void): void;
  /** Runs statements in one invocation of the row. */
  once(emit: () => void): void;
  /** Runs statements where a step exists. */
  guarded(inside: Inside | null, emit: () => void): void;
}

/** The walk of a group in a layout. */
export function walkOf({ rows, inner }: Group, layout: RowLayout, emitter: Emitter): Walk {
  const { width, ragged, lanes, steps, unrolled } = layout;
  const row = rows === 1 ? "0u" : lanes === 1 ? "id" : "row";
  const isPartial = lanes > 1 && hasSpareRows(rows, layout);
  // Steps of a ragged row begin at whole groups of the buffer, the first of them up to three elements before the row.
  const shift = !ragged ? null : rows === 1 ? "0u" : emitter.bind(`(${row} * ${inner}u) & 3u`);
  function place(step: number): string {
    const from = step * lanes * width;
    // By name, not as a literal: WGSL refuses constants that wrap around, as places before a view's start do.
    if (lanes === 1) return before(emitter.bind(`u32(${from})`));
    const scaled = width === 1 ? "share" : emitter.bind(`share * ${width}u`);
    return before(from === 0 ? scaled : emitter.bind(`${scaled} + ${from}u`));
  }
  function before(at: string): string {
    return shift === null || shift === "0u" ? at : emitter.bind(`${at} - ${shift}`);
  }
  function enter(at: string): string {
    return emitter.enterRow(row, at, inner);
  }
  /** Elements of a step that are in the row. Places before it have wrapped around, and are past its end too. */
  function eachInside(at: string): Inside {
    const places = emitter.bind(`vec4<u32>(${at}) + vec4<u32>(0u, 1u, 2u, 3u)`);
    return { condition: emitter.bind(`${places} < vec4<u32>(${inner}u)`), each: true };
  }
  const guarded = (inside: Inside | null, emit: () => void) => {
    const conditions = [inside?.condition, isPartial ? "live" : undefined].filter((text) => text !== undefined);
    if (conditions.length === 0) emit();
    else emitter.when(conditions.join(" && "), emit);
  };
  function overLoop(visit: (index: string, inside: Inside | null) => void): void {
    const loop = (start: string, end: string) =>
      emitter.loop(start, end, lanes * width, (at) => visit(enter(at), null));
    if (shift === null) return loop(lanes === 1 ? "0u" : place(0), `${inner}u`);
    // The groups that may lie across the ends of the row by themselves, so that the others need no conditions.
    const [first, last] = [place(0), before(emitter.bind(`(${shift} + ${inner}u) & ${0xfffffffc}u`))];
    visit(enter(first), eachInside(first));
    loop(place(1), last);
    visit(enter(last), eachInside(last));
  }
  return {
    row,
    overRow(visit) {
      if (!unrolled) return overLoop(visit);
      for (let step = 0; step < steps; step++) {
        const at = place(step);
        const isWhole = (step + 1) * lanes * width <= inner;
        if (shift !== null) {
          visit(enter(at), isWhole && step > 0 ? null : eachInside(at));
        } else if (isWhole) {
          visit(enter(at), null);
        } else {
          // Past the end of the row: some element of it, which is left out of sums and not stored.
          const inside = emitter.bind(`${at} < ${inner}u`);
          visit(enter(emitter.bind(`min(${at}, ${inner - width}u)`)), { condition: inside, each: false });
        }
      }
    },
    once: (emit) => guarded(lanes === 1 ? null : { condition: "share == 0u", each: false }, emit),
    guarded,
  };
}
