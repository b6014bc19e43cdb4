/**
 * What must hold for every Program, whatever it computes.
 *
 * @module
 */
import { sizeBuffers } from "../../../src/gpu/bind.ts";
import type { Program } from "../../../src/gpu/program.ts";
import { sizesIn } from "../../../src/gpu/share.ts";

/** Everything wrong with a program's buffers and kernels, as sentences; none for a good one without empty values. */
export function programProblems(program: Program, maxBuffers: number): string[] {
  return [
    ...overlaps(program, "buffers"),
    ...overlaps(program, "textures"),
    ...unwrittenReads(program),
    ...program.dispatches.flatMap(({ bindings, label }) => {
      const { length } = bindings.filter(({ buffer }) => sizesIn(buffer) === null);
      return length > maxBuffers ? [`${label} binds ${length} buffers, more than ${maxBuffers}`] : [];
    }),
    ...doubleUses(program),
    ...program.dispatches.flatMap(({ wgsl, label }) =>
      isGenerated(wgsl) && loopDepth(wgsl) > 1 ? [`${label} has a loop inside a loop`] : []
    ),
  ];
}

/** The first and last dispatch that binds each temporary: buffers, or textures. */
export function lifetimes(
  { dispatches, slotOf, textures }: Program,
  kind: "buffers" | "textures" = "buffers",
): Map<string, { first: number; last: number }> {
  const planned = kind === "buffers" ? slotOf : textures.slotOf;
  const found = new Map<string, { first: number; last: number }>();
  dispatches.forEach(({ bindings }, time) => {
    for (const { buffer } of bindings) {
      if (!planned.has(buffer)) continue;
      const known = found.get(buffer);
      if (known) known.last = time;
      else found.set(buffer, { first: time, last: time });
    }
  });
  return found;
}

function overlaps(program: Program, kind: "buffers" | "textures"): string[] {
  const slotOf = kind === "buffers" ? program.slotOf : program.textures.slotOf;
  const alive = [...lifetimes(program, kind)];
  return alive.flatMap(([a, mine], i) =>
    alive.slice(i + 1).flatMap(([b, other]) =>
      slotOf.get(a) === slotOf.get(b) && mine.first <= other.last && other.first <= mine.last
        ? [`${a} and ${b} share slot ${slotOf.get(a)} of the ${kind} while both are alive`]
        : []
    )
  );
}

function unwrittenReads(program: Program): string[] {
  const { arguments: args, dispatches, results } = program;
  // Sizes of kernels that share a text are written when the program is made.
  const written = new Set([...args, ...sizeBuffers(program)]);
  const problems = dispatches.flatMap(({ bindings, label }) => {
    const unknown = bindings.filter(({ access, buffer }) => access === "read" && !written.has(buffer));
    for (const { access, buffer } of bindings) if (access === "read_write") written.add(buffer);
    return unknown.map(({ buffer }) => `${label} reads ${buffer} before any kernel writes it`);
  });
  const unmade = results.flatMap((result) =>
    result.from === "kernel" && !written.has(result.buffer) ? [`no kernel writes the result ${result.buffer}`] : []
  );
  return [...problems, ...unmade];
}

/** One buffer bound for reading and, under another name, for writing: WebGPU rejects that. */
function doubleUses({ arguments: args, dispatches, results, slotOf }: Program): string[] {
  const takenOver = new Map(
    results.flatMap((result) =>
      result.from === "kernel" && result.takes !== null ? [[result.buffer, args[result.takes]!]] : []
    ),
  );
  const memoryOf = (buffer: string) =>
    takenOver.get(buffer) ?? (slotOf.has(buffer) ? `slot ${slotOf.get(buffer)}` : buffer);
  return dispatches.flatMap(({ bindings, label }) => {
    const read = new Set(bindings.filter(({ access }) => access === "read").map(({ buffer }) => memoryOf(buffer)));
    const writes = bindings.filter(({ access }) => access === "read_write").map(({ buffer }) => memoryOf(buffer));
    const twice = writes.filter((buffer, i) => read.has(buffer) || writes.indexOf(buffer) !== i);
    return twice.map((buffer) => `${label} binds ${buffer} twice, once for writing`);
  });
}

/** Kernels the compiler writes name their variables v0, v1, …; hand-written ones may nest loops as they like. */
function isGenerated(wgsl: string): boolean {
  return !/fn (ld|st|pull_|finish_)/.test(wgsl) && /for \(var v\d+ = /.test(wgsl);
}

function loopDepth(wgsl: string): number {
  const open: boolean[] = [];
  let deepest = 0;
  for (const line of wgsl.split("\n")) {
    const isLoop = line.startsWith("for (");
    for (const brace of line.match(/[{}]/g) ?? []) {
      if (brace === "{") open.push(isLoop);
      else open.pop();
    }
    deepest = Math.max(deepest, open.filter(Boolean).length);
  }
  return deepest;
}
