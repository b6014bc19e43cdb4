/**
 * Causal scaled dot-product attention: over whole sequences, and for one new token against a cache.
 *
 * Letters: S sequence, H heads, C channels of a head, M room in a cache. Projections and rotary positions belong to the
 * layer.
 *
 * @module
 */
import { alias, castTo, iota, transposeTo, zerosLike } from "../core/arithmetic.ts";
import { DTypeError, ShapeError } from "../core/errors.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, formatAval, sameShape, type Shape, sizeOf } from "../core/shape.ts";
import { apply, applyAll, type Tensor } from "../core/tensor.ts";
import { pullback } from "../core/vjp.ts";
import { spread } from "../core/vmap.ts";
import { attentionFits, buildAttention, buildAttentionGrad } from "./attention_kernel.ts";
import { type AttentionShape, isAligned } from "./attention_shape.ts";
import { mul } from "./binary.ts";
import { lessEqual } from "./compare.ts";
import { matmul } from "./matmul.ts";
import { expectFloat, expectInteger } from "./operand.ts";
import { logSumExp } from "./reduce.ts";
import { where } from "./select.ts";
import { softmax } from "./softmax.ts";
import { reshape, unsqueeze } from "./view.ts";

/** Where the heads are: `"headMajor"` is [..., S, C] with heads among the leading axes, `"rowMajor"` [..., S, H, C]. */
export type AttentionLayout = "headMajor" | "rowMajor";

interface AttentionAttrs {
  /** Factor of the scores. */
  readonly scale: number;
  /** Layout of all three operands. */
  readonly layout: AttentionLayout;
}

/** Mixes values by the softmax of masked, scaled scores: q [..., R, C], k and v [..., M, C], visible [..., R, M]. */
function mix(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: number): Tensor {
  return matmul(softmax(visibleScores(q, k, visible, scale)), v); // [..., R, C]
}

/** Scaled scores [..., R, M], minus infinity where nothing is to be seen. */
function visibleScores(q: Tensor, k: Tensor, visible: Tensor, scale: number): Tensor {
  return where(visible, mul(matmul(q, k, { transposeB: true }), scale), -Infinity);
}

function expectOperands(q: Aval, k: Aval, v: Aval, layout: AttentionLayout): void {
  const facts = [
    ["op", "causalAttention(q, k, v)"] as const,
    ...([["q", q], ["k", k], ["v", v]] as const).map(([name, aval]) => [name, formatAval(aval)] as const),
  ];
  const axes = layout === "rowMajor" ? "[..., S, H, C]" : "[..., S, C]";
  const isRanked = q.shape.length >= (layout === "rowMajor" ? 3 : 2);
  if (!isRanked || !sameShape(q.shape, k.shape) || !sameShape(q.shape, v.shape)) {
    throw new ShapeError("shape/attention", {
      summary: `Cannot attend: queries, keys and values need one shape ${axes}`,
      facts,
      fix: "project all three to the same number of heads and channels",
      details: { q: q.shape, k: k.shape, v: v.shape },
    });
  }
  if (q.dtype === k.dtype && q.dtype === v.dtype) return;
  throw new DTypeError("dtype/attention", {
    summary: "Cannot attend: queries, keys and values need one type",
    facts,
    fix: "cast them to one type",
    details: { q: q.dtype, k: k.dtype, v: v.dtype },
  });
}

/** Sizes and places of operands of a shape. */
function attentionShape(shape: Shape, { scale, layout }: AttentionAttrs): AttentionShape {
  const isRowMajor = layout === "rowMajor";
  const channels = shape.at(-1)!;
  const heads = isRowMajor ? shape.at(-2)! : 1;
  const length = shape.at(isRowMajor ? -3 : -2)!;
  const batch = sizeOf(shape.slice(0, isRowMajor ? -3 : -2));
  const rows = {
    start: 0,
    batch: length * heads * channels,
    head: channels,
    row: heads * channels,
    turned: false,
  };
  return { batch, heads, length, channels, scale, operands: [rows, rows, rows], result: rows };
}

/** Shape of one number for each query: [..., S] or [..., H, S]. */
function rowShape(shape: Shape, layout: AttentionLayout): Shape {
  if (layout === "headMajor") return shape.slice(0, -1);
  return [...shape.slice(0, -3), shape.at(-2)!, shape.at(-3)!];
}

/** The meaning in small ops: the result, and the logarithm of each query's sum. Computed in f32, rounded once. */
function attendInSteps(operands: readonly Tensor[], { scale, layout }: AttentionAttrs): readonly [Tensor, Tensor] {
  const wide = operands.map((x) => castTo(x, "f32"));
  const [q, k, v] = wide.map((x) => layout === "rowMajor" ? swapHeads(x) : x) as [Tensor, Tensor, Tensor];
  const length = q.shape.at(-2)!;
  const visible = lessEqual(iota([length, length], "u32", 1), iota([length, length], "u32", 0));
  const mixed = mix(q, k, v, visible, scale);
  return [
    castTo(layout === "rowMajor" ? swapHeads(mixed) : mixed, operands[0]!.dtype),
    logSumExp(visibleScores(q, k, visible, scale), { axis: -1 }),
  ];
}

/** [..., S, H, C] <-> [..., H, S, C]. */
function swapHeads(x: Tensor): Tensor {
  const rank = x.shape.length;
  return transposeTo(x, x.shape.map((_, axis) => axis === rank - 3 ? rank - 2 : axis === rank - 2 ? rank - 3 : axis));
}

/**
 * Primitive behind {@linkcode causalAttention}: q, k, v of one float type in a layout -> the result, and the logarithm of
 * each query's sum of exponentials in f32, which only the backward reads.
 */
export const causalAttentionPrimitive: Primitive = definePrimitive<AttentionAttrs>({
  name: "causalAttention",
  kind: "composite",
  shape: ([q], { layout }) => [q!, { shape: rowShape(q!.shape, layout), dtype: "f32" }],
  expand: attendInSteps,
  // The second result stays inside this file, so it has no cotangent.
  vjp: ([dOut], operands, results, attrs) =>
    applyAll(causalAttentionGradPrimitive, [...operands, ...results, dOut!], attrs),
  batch: (inputs, mapped, attrs, batch) => applyAll(causalAttentionPrimitive, batched(inputs, mapped, batch), attrs),
  lower: {
    as: "kernel",
    build: (kernel, attrs) => buildAttention(kernel, attentionShape(kernel.inputs[0]!.shape, attrs)),
    accepts: ([q], attrs) => attentionFits(attentionShape(q!.shape, attrs)),
    packs: ([q], attrs) => isAligned(attentionShape(q!.shape, attrs)),
  },
});

/**
 * Primitive behind the gradient: q, k, v, the forward's two results and the cotangent -> dq, dk, dv. It is by definition
 * the pullback of the meaning in small ops, a function of q, k, v and the cotangent alone, so it differentiates again.
 */
export const causalAttentionGradPrimitive: Primitive = definePrimitive<AttentionAttrs>({
  name: "causalAttentionGrad",
  kind: "composite",
  shape: ([q, k, v]) => [q!, k!, v!],
  expand(inputs, attrs) {
    const operands = inputs.slice(0, 3).map(alias);
    const found = pullback([attendInSteps(operands, attrs)[0]], [inputs[5]!], operands);
    return found.map((cotangent, i) => cotangent ?? zerosLike(operands[i]!));
  },
  batch: (inputs, mapped, attrs, batch) =>
    applyAll(causalAttentionGradPrimitive, batched(inputs, mapped, batch), attrs),
  lower: {
    as: "kernel",
    build: (kernel, attrs) => buildAttentionGrad(kernel, attentionShape(kernel.inputs[0]!.shape, attrs)),
    accepts: ([q], attrs) => attentionFits(attentionShape(q!.shape, attrs)),
    packs: ([q], attrs) => isAligned(attentionShape(q!.shape, attrs)),
  },
});

function batched(inputs: readonly Tensor[], mapped: readonly boolean[], batch: number): Tensor[] {
  return inputs.map((input, i) => mapped[i] ? input : spread(input, batch));
}

/** Options of the attention ops. */
export interface AttentionOptions {
  /** Factor of the scores, by default one over the root of the channels of a head. */
  readonly scale?: number;
}

/** Options of {@linkcode causalAttention}. */
export interface CausalAttentionOptions extends AttentionOptions {
  /** Layout of all operands and of the result, `"headMajor"` by default. Neither is copied. */
  readonly layout?: AttentionLayout;
}

/**
 * Lets every position look at itself and at what came before it.
 *
 * Shapes: `q`, `k`, `v` [..., S, C] -> [..., S, C]; leading axes are batch and heads. With `layout: "rowMajor"` all are
 * [..., S, H, C], as projections leave them. Row s of the result is the mean of v[0..s] weighted by
 * softmax(q[s] · k[0..s] · scale). Computed in f32 for every float type and rounded once; repeats bit for bit. Memory
 * grows with S, in the gradient too, for heads of up to 128 channels and sequences of up to 60,000 positions; beyond
 * them, and in derivatives of the gradient, it grows with S².
 *
 * @returns A tensor like `q`.
 * @throws {ShapeError} If the three differ in shape or have too few axes.
 * @throws {DTypeError} If they differ in type or are not floats.
 *
 * @example The first position sees only itself
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { causalAttention, init, tensor, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const attended = causalAttention(zeros([2, 1]), zeros([2, 1]), tensor([[1], [3]]));
 * assertEquals([...await attended.data()], [1, 2]);
 * ```
 *
 * Source: Vaswani et al. 2017; Dao et al. 2022 for the kernels.
 */
export function causalAttention(q: Tensor, k: Tensor, v: Tensor, options: CausalAttentionOptions = {}): Tensor {
  for (const operand of [q, k, v]) expectFloat("causalAttention", operand);
  const { scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1), layout = "headMajor" } = options;
  expectOperands(q, k, v, layout);
  if (q.size === 0) return zerosLike(q);
  return apply(causalAttentionPrimitive, [q, k, v], { scale, layout } satisfies AttentionAttrs);
}

/**
 * Lets one new token of each sequence look at a cache of keys and values, its own included.
 *
 * Shapes: `q` [B, H, C], `keys` and `values` [B, H, M, C], `positions` u32 [B] -> [B, H, C]. Sequence b sees the cache's
 * places 0..positions[b]; what later places hold does not matter. Computed in f32 for every float type and rounded
 * once. Meant for decoding: it has derivatives, but no fused backward.
 *
 * @returns A tensor like `q`.
 * @throws {ShapeError} If the shapes do not fit.
 * @throws {DTypeError} If q, keys or values are not floats, or positions not integers.
 *
 * @example Two of three places are in use
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { cachedAttention, init, tensor, zeros } from "@switchyard/switchyard";
 *
 * await init();
 * const values = tensor([[[[1], [3], [50]]]]);
 * const positions = tensor([1], { dtype: "u32" });
 * const attended = cachedAttention(zeros([1, 1, 1]), zeros([1, 1, 3, 1]), values, positions);
 * assertEquals([...await attended.data()], [2]);
 * ```
 */
export function cachedAttention(
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  positions: Tensor,
  options: AttentionOptions = {},
): Tensor {
  for (const operand of [q, keys, values]) expectFloat("cachedAttention", operand);
  expectInteger("cachedAttention", positions);
  const [batch, heads, channels] = q.shape;
  const room = keys.shape[2];
  const fits = q.shape.length === 3 && sameShape(keys.shape, [batch!, heads!, room!, channels!]) &&
    sameShape(values.shape, keys.shape) && sameShape(positions.shape, [batch!]);
  if (!fits) {
    throw new ShapeError("shape/attention", {
      summary: "Cannot attend to the cache: it does not fit the queries",
      facts: [
        ["op", "cachedAttention(q, keys, values, positions)"],
        ["q", formatAval(q)],
        ["keys", formatAval(keys)],
        ["values", formatAval(values)],
        ["positions", formatAval(positions)],
      ],
      fix: "use q [B, H, C], keys and values [B, H, M, C], positions [B]",
      details: { q: q.shape, keys: keys.shape, values: values.shape, positions: positions.shape },
    });
  }
  const { scale = 1 / Math.sqrt(channels!) } = options;
  const last = reshape(castTo(positions, "u32"), [batch!, 1, 1, 1]);
  const visible = lessEqual(iota([batch!, heads!, 1, room!], "u32", 3), last); // [B, H, 1, M]
  const [wideQ, wideKeys, wideValues] = [unsqueeze(q, 2), keys, values].map((x) => castTo(x, "f32")) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  return castTo(reshape(mix(wideQ, wideKeys, wideValues, visible, scale), q.shape), q.dtype);
}
