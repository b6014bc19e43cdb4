/**
 * One text for kernels that differ in sizes only, so that the driver compiles it once.
 *
 * A software driver takes a tenth of a second and more for a large kernel, and layers of different widths have kernels that
 * are equal up to a few numbers. Those numbers are moved into a small uniform buffer. Divisors stay where they are: a
 * division by a number that is known is several times cheaper. Loops whose lengths are not known are not unrolled either,
 * which here is a gain: what should be unrolled was written out.
 *
 * @module
 */
import type { AdapterTraits } from "../core/kernel.ts";
import type { Dispatch } from "./dispatch.ts";
import type { BufferRef } from "./module.ts";

/** A whole number in a kernel's text. */
const NUMBER = /\b\d+u\b/g;
/** What a number must not follow: it would have to be constant, or is worth more where it is known. */
const FIXED = /(?:\bcase |[%/] ?\(*|\barray<.*|@\w+\()$/;
/** Lines whose numbers have to be constant. */
const CONSTANT_LINE = /^\s*(?:const|override|var<private>|@group)/;
/** Numbers that kernels of one text may differ in. */
const MOST_SIZES = 16;
/** Characters before a number that are looked at. */
const LOOK_BEHIND = 48;
/** Name of the uniform buffer in kernels. */
const NAME = "sizes";
/** How the names of uniform buffers of sizes begin. */
const PREFIX = "sizes ";

/**
 * Rewrites kernels of a program that differ in sizes only. The others stay as they are, and so do all of an adapter that
 * compiles quickly.
 */
export function shareTexts(
  dispatches: readonly Dispatch[],
  { software }: Pick<AdapterTraits, "software">,
): readonly Dispatch[] {
  if (!software) return dispatches;
  const shared = new Map<string, Pick<Dispatch, "wgsl"> & { readonly sizes: readonly number[] }>();
  const texts = new Map(dispatches.map((dispatch) => [dispatch.wgsl, dispatch]));
  const alike = Map.groupBy(texts.values(), ({ wgsl, bindings }) => `${bindings.length} ${skeletonOf(wgsl)}`);
  for (const kernels of alike.values()) {
    if (kernels.length < 2) continue;
    const numbers = kernels.map(({ wgsl }) => movableNumbers(wgsl));
    const { columns, places } = distinctColumns(numbers);
    if (columns.length > MOST_SIZES) continue;
    const wgsl = withSizes(kernels[0]!, places, columns.length);
    kernels.forEach((kernel, i) => shared.set(kernel.wgsl, { wgsl, sizes: columns.map((column) => column[i]!) }));
  }
  return dispatches.map((dispatch) => {
    const found = shared.get(dispatch.wgsl);
    if (found === undefined) return dispatch;
    const sizes = { buffer: `${PREFIX}${found.sizes.join(" ")}`, access: "read", uniform: true } as const;
    return { ...dispatch, wgsl: found.wgsl, bindings: [...dispatch.bindings, sizes] };
  });
}

/** The sizes in a uniform buffer that {@linkcode shareTexts} added, padded to whole vectors; null for other buffers. */
export function sizesIn(buffer: BufferRef): Uint32Array<ArrayBuffer> | null {
  if (!buffer.startsWith(PREFIX)) return null;
  const sizes = buffer.slice(PREFIX.length).split(" ").map(Number);
  const words = new Uint32Array(Math.ceil(sizes.length / 4) * 4);
  words.set(sizes);
  return words;
}

/** Whether the number at a place of a text may become a variable. */
function isMovable(text: string, at: number): boolean {
  const line = text.lastIndexOf("\n", at) + 1;
  const before = text.slice(Math.max(line, at - LOOK_BEHIND), at);
  return !FIXED.test(before) && !CONSTANT_LINE.test(text.slice(line, at));
}

/** A text without the numbers that may become variables. */
function skeletonOf(text: string): string {
  return text.replace(NUMBER, (number, at: number) => isMovable(text, at) ? "#" : number);
}

function movableNumbers(text: string): readonly number[] {
  return [...text.matchAll(NUMBER)].filter(({ index }) => isMovable(text, index)).map(([number]) =>
    Number.parseInt(number)
  );
}

/** The columns of a table that are not the same everywhere, each once, and which of them each place of a row is. */
function distinctColumns(
  rows: readonly (readonly number[])[],
): { readonly columns: readonly (readonly number[])[]; readonly places: readonly (number | null)[] } {
  const known = new Map<string, number>();
  const columns: (readonly number[])[] = [];
  const places = rows[0]!.map((first, place) => {
    const column = rows.map((row) => row[place]!);
    if (column.every((value) => value === first)) return null;
    const key = column.join();
    const found = known.get(key);
    if (found !== undefined) return found;
    known.set(key, columns.length);
    return columns.push(column) - 1;
  });
  return { columns, places };
}

/** The text with sizes for the numbers in question. */
function withSizes({ wgsl, bindings }: Dispatch, places: readonly (number | null)[], count: number): string {
  let next = 0;
  const body = wgsl.replace(NUMBER, (number, at: number) => {
    const size = isMovable(wgsl, at) ? places[next++]! : null;
    return size === null ? number : `${NAME}[${size >> 2}].${"xyzw"[size & 3]}`;
  });
  const type = `array<vec4<u32>, ${Math.ceil(count / 4)}>`;
  // At the end, because directives such as `enable f16` have to come first.
  return `${body}\n@group(0) @binding(${bindings.length}) var<uniform> ${NAME}: ${type};\n`;
}
