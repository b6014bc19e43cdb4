/**
 * Causal attention over one joint projection, with rotary positions: as far as kernels take it, nothing is cut apart,
 * turned or put together in memory.
 *
 * Letters: S sequence, H heads, C channels of a head.
 *
 * @module
 */
import { alias, castTo, fullLike, iota, reshapeTo, zerosLike } from "../core/arithmetic.ts";
import type { AdapterTraits } from "../core/kernel.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, type Shape, sizeOf } from "../core/shape.ts";
import { apply, applyAll, type Tensor } from "../core/tensor.ts";
import { pullback } from "../core/vjp.ts";
import { spread } from "../core/vmap.ts";
import { bytesInBuffer, windowsOf } from "../core/windows.ts";
import { causalAttentionPrimitive } from "./attention.ts";
import { attentionFits, buildAttention, buildAttentionGrad } from "./attention_kernel.ts";
import type { AttentionShape } from "./attention_shape.ts";
import { attentionTexture } from "./attention_textures.ts";
import { add, mul, sub } from "./binary.ts";
import { flip, sliceAxis } from "./slice.ts";
import { reshape, squeeze, unsqueeze } from "./view.ts";

/** Cosines and sines of the angles of positions, f32 [..., S, C / 2] each. */
export interface AngleTables {
  /** Cosines. */
  readonly cos: Tensor;
  /** Sines. */
  readonly sin: Tensor;
}

/**
 * Turns pairs of channels i and i + C/2.
 *
 * @param x [..., S, H, C] with an even C.
 * @param tables [..., S, C / 2], shared by the heads, and by leading axes that they lack.
 * @returns A tensor like `x`, computed in f32 and rounded once.
 */
export function turn(x: Tensor, { cos, sin }: AngleTables): Tensor {
  const half = x.shape.at(-1)! / 2;
  const [cosines, sines] = [cos, sin].map((table) => unsqueeze(table, [-3, -2])) as [Tensor, Tensor];
  const pairs = reshapeTo(castTo(x, "f32"), [...x.shape.slice(0, -1), 2, half]); // [..., S, H, 2, half]
  // The first of a pair takes minus the second's share, the second plus the first's.
  const sign = reshapeTo(sub(mul(iota([2], "f32", 0), 2), fullLike([2], "f32", 1)), [2, 1]);
  const turned = add(mul(pairs, cosines), mul(flip(pairs, { axis: -2 }), mul(sines, sign)));
  return castTo(reshapeTo(turned, x.shape), x.dtype);
}

/** Queries, keys and values [..., S, H, C] of a projection [..., S, 3, H, C], not turned. */
export function partsOf(joint: Tensor): [Tensor, Tensor, Tensor] {
  const part = (i: number) => squeeze(sliceAxis(joint, -3, { start: i, stop: i + 1 }), { axis: -3 });
  return [part(0), part(1), part(2)];
}

interface RotaryAttentionAttrs {
  /** Factor of the scores. */
  readonly scale: number;
}

/** [..., S, H, C] of a projection [..., S, 3, H, C]. */
function resultShape(joint: Shape): Shape {
  return [...joint.slice(0, -3), joint.at(-2)!, joint.at(-1)!];
}

function rotaryAttentionShape(joint: Shape, scale: number): AttentionShape {
  const [length, , heads, channels] = joint.slice(-4) as [number, number, number, number];
  const width = heads * channels;
  const part = (i: number, turned: boolean) =>
    ({ start: i * width, batch: 3 * length * width, head: channels, row: 3 * width, turned }) as const;
  return {
    batch: sizeOf(joint.slice(0, -4)),
    heads,
    length,
    channels,
    scale,
    operands: [part(0, true), part(1, true), part(2, false)],
    result: { start: 0, batch: length * width, head: channels, row: width, turned: false },
  };
}

/** The meaning: cut apart, turned, attended. */
function attendInSteps([joint, cos, sin]: readonly Tensor[], { scale }: RotaryAttentionAttrs): readonly Tensor[] {
  const [queries, keys, values] = partsOf(joint!);
  const tables = { cos: cos!, sin: sin! };
  const operands = [turn(queries, tables), turn(keys, tables), values];
  return applyAll(causalAttentionPrimitive, operands, { scale, layout: "rowMajor" });
}

/**
 * Whether kernels take a projection: pairs of whole vec4s, in a buffer that one binding shows, and on software adapters
 * the way to textures.
 */
function accepts([joint]: readonly Aval[], { scale }: RotaryAttentionAttrs, adapter: AdapterTraits): boolean {
  const shape = rotaryAttentionShape(joint!.shape, scale);
  // The parts are three times as large together, and a kernel has no bindings to spare.
  if (windowsOf(bytesInBuffer(joint!), adapter) > 1) return false;
  if (shape.channels % 8 !== 0 || !attentionFits(shape)) return false;
  return !adapter.software || attentionTexture(shape, adapter) !== null;
}

function shapeOf(joint: Shape): readonly [Aval["shape"], Aval["shape"]] {
  const [length, , heads] = joint.slice(-4) as [number, number, number];
  return [resultShape(joint), [...joint.slice(0, -4), heads, length]];
}

/** Inputs of a batch: tables stay shared where they are, and miss the axes between otherwise. */
function batched(inputs: readonly Tensor[], mapped: readonly boolean[], batch: number): Tensor[] {
  const [joint, ...others] = inputs.map((input, i) => mapped[i] || i === 1 || i === 2 ? input : spread(input, batch));
  if (!mapped[1] && !mapped[2]) return [joint!, ...others];
  const between = joint!.shape.slice(1, -4).map(() => 1);
  const [cos, sin, ...rest] = others.map((table, i) => {
    if (i > 1) return table;
    const whole = mapped[i + 1] ? table : spread(table, batch);
    return reshape(whole, [batch, ...between, ...whole.shape.slice(1)]);
  });
  return [joint!, cos!, sin!, ...rest];
}

/**
 * Primitive behind {@linkcode rotaryAttention}: the projection and the tables -> the result, and the logarithm of each
 * query's sum of exponentials in f32, which only the backward reads. The tables are constants: they get no cotangent.
 */
export const rotaryAttentionPrimitive: Primitive = definePrimitive<RotaryAttentionAttrs>({
  name: "rotaryAttention",
  kind: "composite",
  shape([joint]) {
    const [out, lse] = shapeOf(joint!.shape);
    return [{ shape: out, dtype: joint!.dtype }, { shape: lse, dtype: "f32" }];
  },
  expand: attendInSteps,
  vjp: ([dOut], operands, results, attrs) => [
    apply(rotaryAttentionGradPrimitive, [...operands, ...results, dOut!], attrs),
    null,
    null,
  ],
  batch: (inputs, mapped, attrs, batch) =>
    mapped[1] || mapped[2]
      ? attendInSteps(batched(inputs, mapped, batch), attrs)
      : applyAll(rotaryAttentionPrimitive, batched(inputs, mapped, batch), attrs),
  lower: {
    as: "kernel",
    build: (kernel, { scale }) => buildAttention(kernel, rotaryAttentionShape(kernel.inputs[0]!.shape, scale)),
    accepts,
    packs: () => true,
  },
});

/** Primitive behind the gradient: projection, tables, the forward's two results and the cotangent -> the projection's. */
export const rotaryAttentionGradPrimitive: Primitive = definePrimitive<RotaryAttentionAttrs>({
  name: "rotaryAttentionGrad",
  kind: "composite",
  shape: ([joint]) => [joint!],
  expand: (inputs, attrs) => [gradientInSteps(inputs, attrs)],
  batch: (inputs, mapped, attrs, batch) => {
    const all = batched(inputs, mapped, batch);
    return [
      mapped[1] || mapped[2] ? gradientInSteps(all, attrs) : apply(rotaryAttentionGradPrimitive, all, attrs),
    ];
  },
  lower: {
    as: "kernel",
    build: (kernel, { scale }) => buildAttentionGrad(kernel, rotaryAttentionShape(kernel.inputs[0]!.shape, scale)),
    accepts,
    packs: () => true,
  },
});

/** By definition the pullback of the meaning, a function of the projection and the cotangent alone. */
function gradientInSteps(inputs: readonly Tensor[], attrs: RotaryAttentionAttrs): Tensor {
  const joint = alias(inputs[0]!);
  const [found] = pullback([attendInSteps([joint, inputs[1]!, inputs[2]!], attrs)[0]!], [inputs[5]!], [joint]);
  return found ?? zerosLike(joint);
}

/**
 * Lets every position look at itself and at what came before it, queries and keys turned by their position.
 *
 * Shapes: `joint` [..., S, 3, H, C] with queries, keys and values in this order and an even C, `tables` [S, C / 2] ->
 * [..., S, H, C]. The same as `causalAttention` over {@linkcode turn}ed parts; half precision is rounded once less.
 *
 * @returns A tensor of the projection's type. Its gradient is that of the projection; the tables are constants.
 */
export function rotaryAttention(joint: Tensor, { cos, sin }: AngleTables): Tensor {
  if (joint.size === 0) return zerosLike(partsOf(joint)[2]);
  const attrs: RotaryAttentionAttrs = { scale: 1 / Math.sqrt(joint.shape.at(-1)!) };
  return apply(rotaryAttentionPrimitive, [joint, cos, sin], attrs);
}
