/**
 * What is decided by measuring: the choices of an adapter's class, the kernels to choose from and the work to time them on.
 *
 * @module
 */
import type { AdapterTraits, KernelTuning, SharedTileName, TileChoice, WorkClass } from "../core/kernel.ts";
import { realizeTree } from "../core/realize.ts";
import type { Tensor } from "../core/tensor.ts";
import { vjp } from "../core/vjp.ts";
import { NEVER } from "../gpu/tuning_file.ts";
import { key, matmul, mul, uniform } from "../ops/mod.ts";
import { EXPERT_TEXTURE_WORK } from "../routing/execute_textures.ts";
import { execute, planOfEvenBlocks } from "../routing/mod.ts";
import { TEXTURE_WORK } from "../ops/matmul_lowering.ts";

/** Some work, of which any tensor that is not computed yet gives a graph. */
export interface Work {
  /** Sizes, for people. */
  readonly shapes: string;
  /** Arithmetic of its products. */
  readonly flop: number;
  /** Least traffic with memory. */
  readonly bytes: number;
  /** Makes inputs and returns what is to be computed from them, as often as it is called. */
  prepare(): readonly Tensor[];
}

/** A way to do the work. */
export interface Candidate {
  /** Short name. */
  readonly name: string;
  /** What it chooses; empty for the built-in choice. */
  readonly tuning: KernelTuning;
}

/** Several kernels, one of which is to be used. */
export interface PickQuestion {
  /** Tells it from a threshold. */
  readonly kind: "pick";
  /** What is chosen, such as `textureTiles.large`. */
  readonly name: string;
  /** What they are timed on. */
  readonly work: Work;
  /** What makes the compiler use the kernels in question at all. */
  readonly forced: KernelTuning;
  /** The kernels, the built-in choice first. */
  readonly candidates: readonly [Candidate, ...Candidate[]];
}

/** A size from which on one way is used instead of another. */
export interface ThresholdQuestion {
  /** Tells it from a pick. */
  readonly kind: "threshold";
  /** Which threshold. */
  readonly name: "textureWork" | "expertTextureWork";
  /** The built-in one. */
  readonly standard: number;
  /** Work of several sizes, ascending. */
  readonly probes: readonly (Work & { readonly size: number })[];
}

/** A choice to be made. */
export type CalibrationQuestion = PickQuestion | ThresholdQuestion;

/** Sizes M = K = N that stand for a class. */
const SOFTWARE_SIZES: Readonly<Record<WorkClass, number>> = { small: 128, medium: 256, large: 512 };
const HARDWARE_SIZES: Readonly<Record<WorkClass, number>> = { small: 128, medium: 384, large: 2048 };
const CLASSES: readonly WorkClass[] = ["small", "medium", "large"];

/** Tiles by the rows, columns and lanes that differ in what they load and how many workgroups they make. */
const TILES: readonly TileChoice[] = [
  { rows: 4, columns: 4, lanesN: 4 },
  { rows: 8, columns: 2, lanesN: 4 },
  { rows: 8, columns: 2, lanesN: 8 },
  { rows: 8, columns: 4, lanesN: 4 },
  { rows: 8, columns: 4, lanesN: 8 },
  { rows: 16, columns: 2, lanesN: 4 },
  { rows: 16, columns: 2, lanesN: 8 },
  { rows: 16, columns: 4, lanesN: 4 },
  { rows: 16, columns: 4, lanesN: 8 },
];

/** Largest tile in vec4 that a class admits: 16 x 4 runs a little faster than 8 x 4 and takes twice as long to compile. */
const MOST_OF_A_TILE: Readonly<Record<WorkClass, number>> = { small: 32, medium: 32, large: 64 };

const BUILT_IN: Candidate = { name: "built-in", tuning: {} };

function tileName({ rows, columns, lanesN }: TileChoice): string {
  return `${rows} x ${columns} vec4 by ${lanesN} lanes`;
}

/** A product of square matrices, the right one stored transposed or not. */
function product(size: number, { transposeB = false }: { readonly transposeB?: boolean } = {}): Work {
  return {
    shapes: `${size} x ${size} x ${size}${transposeB ? ", B transposed" : ""}`,
    flop: 2 * size ** 3,
    bytes: 12 * size ** 2,
    prepare() {
      const [a, b] = realizeTree([1, 2].map((seed) => uniform(key(seed), [size, size], { min: -1, max: 1 })));
      return [matmul(a!, b!, { transposeB })];
    },
  };
}

/** `execute` with its gradients: E experts of R rows each, width D, inner width F. */
function experts(count: number, rows: number, width: number, inner: number): Work {
  return {
    shapes: `${count} experts, ${rows} rows each, ${width} x ${inner}, with gradients`,
    // Two products forward and twice as many backward; each array is read or written in either.
    flop: 12 * count * rows * width * inner,
    bytes: 16 * count * width * (rows + inner),
    prepare() {
      const plan = realizeTree(planOfEvenBlocks({ experts: count, rows }));
      const draw = (seed: number, ...shape: number[]) =>
        mul(uniform(key(seed), shape, { min: -1, max: 1 }), 1 / Math.sqrt(shape.at(-2)!));
      const [hidden, up, down, cotangent] = realizeTree([
        draw(1, count * rows, width),
        draw(2, count, width, inner),
        draw(3, count, inner, width),
        draw(4, count * rows, width),
      ]) as [Tensor, Tensor, Tensor, Tensor];
      const [out, pull] = vjp(
        (hidden: Tensor, up: Tensor, down: Tensor) => execute(plan, hidden, { up, down }),
        hidden,
        up,
        down,
      );
      return [out, ...pull(cotangent)];
    },
  };
}

function textureTiles(size: WorkClass): PickQuestion {
  return {
    kind: "pick",
    name: `textureTiles.${size}`,
    work: product(SOFTWARE_SIZES[size]),
    forced: { textureWork: 0 },
    candidates: [
      BUILT_IN,
      ...TILES.filter(({ rows, columns }) => rows * columns <= MOST_OF_A_TILE[size])
        .map((tile) => ({ name: tileName(tile), tuning: { textureTiles: { [size]: tile } } })),
    ],
  };
}

function bufferTiles(form: "plain" | "transposed"): PickQuestion {
  return {
    kind: "pick",
    name: `bufferTiles.${form}`,
    work: product(SOFTWARE_SIZES.medium, { transposeB: form === "transposed" }),
    forced: { textureWork: Infinity },
    candidates: [
      BUILT_IN,
      ...TILES.map((tile) => ({ name: tileName(tile), tuning: { bufferTiles: { [form]: tile } } })),
    ],
  };
}

function sharedTiles(size: WorkClass): PickQuestion {
  const tiles: readonly SharedTileName[] = ["32x64", "64x64", "64x128", "128x128"];
  return {
    kind: "pick",
    name: `sharedTiles.${size}`,
    work: product(HARDWARE_SIZES[size]),
    forced: {},
    candidates: [
      BUILT_IN,
      ...tiles.map((tile) => ({ name: `tile ${tile}`, tuning: { sharedTiles: { [size]: tile } } })),
    ],
  };
}

const TEXTURE_THRESHOLDS: readonly ThresholdQuestion[] = [
  {
    kind: "threshold",
    name: "textureWork",
    standard: TEXTURE_WORK,
    // The driver copies none of these: its copies have a threshold of their own that follows this one.
    probes: [84, 100, 116, 132, 164, 196, 260].map((size) => ({ size: size ** 3, ...product(size) })),
  },
  {
    kind: "threshold",
    name: "expertTextureWork",
    standard: EXPERT_TEXTURE_WORK,
    probes: ([[32, 64, 64], [32, 64, 128], [32, 128, 128], [32, 128, 256], [64, 256, 256]] as const)
      .map(([rows, width, inner]) => ({ size: 8 * rows * width * inner, ...experts(8, rows, width, inner) })),
  },
];

/** The choices that kernels for an adapter depend on, in the order in which they are made. */
export function questionsFor({ software, textureSide }: AdapterTraits): readonly CalibrationQuestion[] {
  if (!software) return CLASSES.map(sharedTiles);
  const buffers = [bufferTiles("plain"), bufferTiles("transposed")];
  // A threshold is between the best of both ways, so their tiles come first.
  return textureSide === 0 ? buffers : [...buffers, ...CLASSES.map(textureTiles), ...TEXTURE_THRESHOLDS];
}

/** Name of a threshold for people. */
export function thresholdName(work: number): string {
  return work === NEVER ? "never" : `from ${work.toLocaleString("en-US")} multiply-adds`;
}

/** Choices of which later ones replace earlier ones. */
export function mergeTuning(earlier: KernelTuning, later: KernelTuning): KernelTuning {
  const merged: Record<string, unknown> = { ...earlier };
  for (const [name, value] of Object.entries(later)) {
    const before = merged[name];
    merged[name] = typeof value === "object" && typeof before === "object" ? { ...before, ...value } : value;
  }
  return merged;
}
