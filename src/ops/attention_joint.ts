/**
 * Queries, keys and values of one joint projection [B, S, 3, H, C], on their way to textures: one kernel takes the three
 * apart, turns queries and keys with their position, and widens half precision.
 *
 * @module
 */
import type { KernelContext, Operand, TextureOperand } from "../core/kernel.ts";
import type { AttentionShape, RowPlace } from "./attention_shape.ts";
import type { AttentionTexture } from "./attention_textures.ts";
import { ceilDiv, dispatchKernelText, type KernelText, linearGrid } from "./kernel_text.ts";
import { textureLine, textureToFill } from "./texture_matrix.ts";

/** Names of the three textures of a projection, by which later kernels find them. */
const LAYOUTS = ["turned queries", "turned keys", "values"] as const;
/** Invocations of a workgroup. */
const GROUP = 64;

/**
 * The textures of turned queries, turned keys, and values; filled here unless another kernel of the program has done so.
 *
 * @param joint The projection.
 * @param tables Cosines and sines [S, C / 2].
 * @param use `"again"` makes others, so that the first need not be kept until here.
 */
export function jointTextures(
  kernel: KernelContext,
  joint: Operand,
  tables: readonly [Operand, Operand],
  shape: AttentionShape,
  { matrix }: AttentionTexture,
  use: "shared" | "again",
): readonly TextureOperand[] {
  const made = LAYOUTS.map((name) => textureToFill(kernel, joint, `${name}${use === "again" ? " again" : ""}`, matrix));
  const textures = made.map(({ texture }) => texture);
  if (made.some(({ isNew }) => isNew)) {
    const { batch, heads, length, channels } = shape;
    const label = `turned to textures ${batch * heads}x${length}x${channels}`;
    dispatchKernelText(kernel, label, jointFill(shape, matrix), [joint, ...tables], [], textures);
  }
  return textures;
}

/** Inputs: projection, cosines, sines. Textures: queries, keys, values. An invocation has four pairs of channels. */
function jointFill(shape: AttentionShape, matrix: AttentionTexture["matrix"]): KernelText {
  const { batch, heads, length, channels, operands } = shape;
  const half = channels / 8; // texels
  const count = batch * length * heads * half;
  const grid = linearGrid(ceilDiv(count, GROUP), "group");
  const line = textureLine(matrix, `batch * ${matrix.lines}u + row`);
  const load = (place: RowPlace, part: "first" | "second"): string =>
    `ld0v(${place.start + (part === "first" ? 0 : channels / 2)}u + at)`;
  const put = (texture: number, first: string, second: string): string =>
    `tw${texture}v(x, y, ${first});\ntw${texture}v(x + ${half}u, y, ${second});\n`;
  const turn = (i: number): string =>
    `{\nlet a = ${load(operands[i]!, "first")};\nlet b = ${load(operands[i]!, "second")};\n` +
    put(i, "a * cosine - b * sine", "b * cosine + a * sine") + "}\n";
  return {
    inputs: ["joint", "cos", "sin"].map((name) => ({ name, kind: "f32" })),
    outputs: [],
    preludes: "",
    body: `${grid.text}let item = group * ${GROUP}u + lane;\nif (item >= ${count}u) { return; }\n` +
      `let c = item % ${half}u;\nlet head = item / ${half}u % ${heads}u;\n` +
      `let row = item / ${half * heads}u % ${length}u;\nlet batch = item / ${half * heads * length}u;\n` +
      `let at = batch * ${operands[0].batch}u + row * ${operands[0].row}u + head * ${operands[0].head}u + c * 4u;\n` +
      `let angle = row * ${channels / 2}u + c * 4u;\nlet cosine = ld1v(angle);\nlet sine = ld2v(angle);\n` +
      `let x = ${line.x} + head * ${channels / 4}u + c;\nlet y = ${line.y};\n` +
      turn(0) + turn(1) + put(2, load(operands[2], "first"), load(operands[2], "second")),
    workgroupSize: [GROUP, 1, 1],
    workgroups: grid.workgroups,
  };
}
