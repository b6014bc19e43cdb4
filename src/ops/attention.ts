/**
 * Causal scaled dot-product attention: over whole sequences, and for one new token against a cache.
 *
 * Letters: S sequence, H heads, C channels of a head, M room in a cache. Heads and batch are leading axes here;
 * projections and rotary positions belong to the layer.
 *
 * @module
 */
import { castTo, iota } from "../core/arithmetic.ts";
import { DTypeError, ShapeError } from "../core/errors.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { type Aval, formatAval, sameShape } from "../core/shape.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { spread } from "../core/vmap.ts";
import { mul } from "./binary.ts";
import { lessEqual } from "./compare.ts";
import { matmul } from "./matmul.ts";
import { expectFloat, expectInteger } from "./operand.ts";
import { where } from "./select.ts";
import { softmax } from "./softmax.ts";
import { reshape, unsqueeze } from "./view.ts";

interface AttentionAttrs {
  /** Factor of the scores. */
  readonly scale: number;
}

/** Mixes values by the softmax of masked, scaled scores: q [..., R, C], k and v [..., M, C], visible [..., R, M]. */
function mix(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: number): Tensor {
  const scores = mul(matmul(q, k, { transposeB: true }), scale); // [..., R, M]
  return matmul(softmax(where(visible, scores, -Infinity)), v); // [..., R, C]
}

function shapeRule([q, k, v]: readonly Aval[]): readonly Aval[] {
  const operands = [["q", q!], ["k", k!], ["v", v!]] as const;
  const facts = [
    ["op", "causalAttention(q, k, v)"] as const,
    ...operands.map(([name, aval]) => [name, formatAval(aval)] as const),
  ];
  if (q!.shape.length < 2 || !sameShape(q!.shape, k!.shape) || !sameShape(q!.shape, v!.shape)) {
    throw new ShapeError("shape/attention", {
      summary: "Cannot attend: queries, keys and values need one shape [..., S, C]",
      facts,
      fix: "project all three to the same number of heads and channels",
      details: { q: q!.shape, k: k!.shape, v: v!.shape },
    });
  }
  if (q!.dtype !== k!.dtype || q!.dtype !== v!.dtype) {
    throw new DTypeError("dtype/attention", {
      summary: "Cannot attend: queries, keys and values need one type",
      facts,
      fix: "cast them to one type",
      details: { q: q!.dtype, k: k!.dtype, v: v!.dtype },
    });
  }
  return [q!];
}

/** Primitive behind {@linkcode causalAttention}: q, k, v [..., S, C] of one float type. */
export const causalAttentionPrimitive: Primitive = definePrimitive<AttentionAttrs>({
  name: "causalAttention",
  kind: "composite",
  shape: shapeRule,
  expand([q, k, v], { scale }) {
    const length = q!.shape.at(-2)!;
    const visible = lessEqual(iota([length, length], "u32", 1), iota([length, length], "u32", 0));
    // Scores and sums in f32 whatever the operands are, rounded once.
    const [wideQ, wideK, wideV] = [q!, k!, v!].map((x) => castTo(x, "f32")) as [Tensor, Tensor, Tensor];
    return [castTo(mix(wideQ, wideK, wideV, visible, scale), q!.dtype)];
  },
  batch(inputs, mapped, attrs, batchSize) {
    const operands = inputs.map((input, i) => mapped[i] ? input : spread(input, batchSize));
    return [apply(causalAttentionPrimitive, operands, attrs)];
  },
  lower: { as: "inline" },
});

/** Options of the attention ops. */
export interface AttentionOptions {
  /** Factor of the scores, by default one over the root of the channels of a head. */
  readonly scale?: number;
}

/**
 * Lets every position look at itself and at what came before it.
 *
 * Shapes: `q`, `k`, `v` [..., S, C] -> [..., S, C]; leading axes are batch and heads. Row s of the result is the mean
 * of v[0..s] weighted by softmax(q[s] · k[0..s] · scale). Computed in f32 for every float type and rounded once.
 *
 * @returns A tensor like `q`.
 * @throws {ShapeError} If the three differ in shape or have fewer than two axes.
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
 * Source: Vaswani et al. 2017.
 */
export function causalAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  for (const operand of [q, k, v]) expectFloat("causalAttention", operand);
  const { scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1) } = options;
  return apply(causalAttentionPrimitive, [q, k, v], { scale } satisfies AttentionAttrs);
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
