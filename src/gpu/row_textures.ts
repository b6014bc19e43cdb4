/**
 * Operands of row kernels in textures. On software adapters a kernel reads four elements from a texture for a sixth of what
 * a load from a buffer takes, and the driver copies a buffer to a texture at the speed of memory, so that rows which are
 * worth a kernel are worth a copy.
 *
 * A buffer lies in a texture as it is, line behind line, so that rows of any length may be read. A line is a power of two
 * of texels, because places are found by shifting.
 *
 * @module
 */
import type { Graph } from "../core/graph.ts";
import { type AdapterTraits, COPIED_ELEMENTS, type TextureOperand, type TextureRegion } from "../core/kernel.ts";
import { sizeOf } from "../core/shape.ts";
import { bufferOf, type Dispatch } from "./dispatch.ts";
import type { Group } from "./fuse.ts";
import type { Textures } from "./lower.ts";
import type { Binding, BufferRef, TexelSource } from "./module.ts";

/** An operand that may be read from a texture, and how it gets there. */
export interface RowTexture extends TexelSource {
  /** The texture. */
  readonly operand: TextureOperand;
  /** What the driver copies. */
  readonly regions: readonly TextureRegion[];
}

/** How a buffer lies in a texture line behind line. */
type LinearTexture = Pick<RowTexture, "line" | "regions"> & Omit<TextureOperand, "name">;

/** Elements of an operand from which a copy pays: below, interrupting a pass takes as long as the kernel gains. */
const LEAST_ELEMENTS = 2 ** 18;
/** Elements up to which a copy pays: 16 MiB stay in caches if each is loaded once; above 64 MiB memory is worth more. */
const MOST_ELEMENTS: Readonly<Record<"once" | "often", number>> = { once: 2 ** 22, often: 2 ** 24 };
/** Textures of a kernel at most, which is what every adapter has. */
const MOST_TEXTURES = 4;
/** Texels of a line of the driver's copies at least. */
const COPIED_TEXELS = COPIED_ELEMENTS / 4;
/** Texels of a line, where rows have no power of two of them. */
const LINE_TEXELS = 1024;
/** Side of a texture at least, which is no power of two. */
const LEAST_SIDE = 3;
/** Texels between two lines: a line of the cache, because lines a large power of two apart compete for the same one. */
const PADDING_TEXELS = 4;

/**
 * Buffers that a row group could read from textures, and the textures to be: those with as many elements as its rows, and
 * those with as many as one row. Each kernel has its own: one that others read too would have to be kept from the forward
 * to the backward pass.
 *
 * @param textures What kernels of the program have filled, so that names are new.
 * @param loads Whether the kernel loads an element once, or again for each of several passes.
 */
export function rowTextures(
  graph: Graph,
  { rows, inner, reads }: Pick<Group, "rows" | "inner" | "reads">,
  { adapter, textures, loads }: {
    readonly adapter: Pick<AdapterTraits, "software" | "textureSide" | "tuning">;
    readonly textures: Textures;
    readonly loads: keyof typeof MOST_ELEMENTS;
  },
): ReadonlyMap<BufferRef, RowTexture> {
  const { software, textureSide, tuning } = adapter;
  const elements = rows * inner;
  const least = tuning?.rowTextureElements ?? LEAST_ELEMENTS;
  if (!software || elements < least || elements > MOST_ELEMENTS[loads]) return new Map();
  const sizes = inner % 4 === 0 ? [elements, inner] : [elements];
  const read = [...reads.keys()]
    .map((id) => ({ id, size: sizeOf(graph.avals[id]!.shape) }))
    .filter(({ id, size }) => graph.avals[id]!.dtype === "f32" && sizes.includes(size))
    .slice(0, MOST_TEXTURES);
  return new Map(read.flatMap(({ id, size }, i) => {
    const layout = linearTexture(size, inner, textureSide);
    if (layout === null) return [];
    const { line, regions, ...sides } = layout;
    const operand = { ...sides, name: `${bufferOf(id)}:rows ${textures.size + i}` };
    return [[bufferOf(id), { texture: operand.name, line, operand, regions }]];
  }));
}

/**
 * Lays a buffer out in a texture.
 *
 * @param side Largest side of a texture.
 * @returns The layout; null if the texture would be too large.
 */
export function linearTexture(
  elements: number,
  inner: number,
  side: number,
): LinearTexture | null {
  const texels = Math.ceil(elements / 4);
  const ofRow = inner / 4;
  // Rows that begin with a line meet the padding between lines.
  const lines = isPowerOfTwo(ofRow) && ofRow >= COPIED_TEXELS && ofRow < LINE_TEXELS
    ? [ofRow, LINE_TEXELS]
    : [LINE_TEXELS];
  return lines.map((line) => inLines(texels, line)).find(({ width, height }) => Math.max(width, height) <= side) ??
    null;
}

function inLines(texels: number, line: number): LinearTexture {
  const whole = Math.floor(texels / line);
  const rest = texels - whole * line;
  const lines = whole + (rest > 0 ? 1 : 0);
  const width = lines === 1 ? Math.max(texels, LEAST_SIDE) : line + PADDING_TEXELS;
  const regions = [
    { start: 0, x: 0, y: 0, width: line, height: whole },
    { start: whole * line * 4, x: 0, y: whole, width: rest, height: 1 },
  ].filter((region) => region.width * region.height > 0);
  return {
    width: unlike(width),
    height: unlike(Math.max(lines, LEAST_SIDE)),
    line: lines === 1 ? Infinity : line,
    regions,
  };
}

/** The software driver compiles a kernel once for textures whose sides are powers of two and once for others. */
function unlike(side: number): number {
  return isPowerOfTwo(side) ? side + 1 : side;
}

function isPowerOfTwo(size: number): boolean {
  return Number.isInteger(Math.log2(size));
}

/** Copies the buffers that a kernel reads from textures, and adds the textures to those of the program. */
export function copiesFor(
  bindings: readonly Binding[],
  sources: ReadonlyMap<BufferRef, RowTexture>,
  textures: Textures,
): readonly Dispatch[] {
  const bound = new Set(bindings.map(({ buffer }) => buffer));
  return [...sources].filter(([, { texture }]) => bound.has(texture)).map(([from, { operand, regions }]) => {
    textures.set(operand.name, operand);
    return {
      label: `rows to texture ${operand.width}x${operand.height}`,
      wgsl: "",
      bindings: [{ buffer: from, access: "read" }, { buffer: operand.name, access: "read_write", texture: true }],
      workgroups: [1, 1, 1],
      copy: { from, to: operand.name, regions },
    };
  });
}
