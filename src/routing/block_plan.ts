/**
 * Plans where whole blocks of consecutive tokens share an expert: built from the blocks, without sorting tokens.
 *
 * Letters: T tokens, P blocks of T / P tokens, E experts.
 *
 * @module
 */
import { castTo, expandTo, fullLike, iota, reshapeTo } from "../core/arithmetic.ts";
import { expectNoProblems } from "../core/errors.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, div, mul, remainder } from "../ops/binary.ts";
import { equal, greater } from "../ops/compare.ts";
import { group, type Grouping } from "../ops/group.ts";
import { takeRows } from "../ops/rows.ts";
import { entropyOf } from "./aux_losses.ts";
import { planFromTopK } from "./plan.ts";
import type { DispatchPlan } from "./plan_types.ts";
import { expectArgument } from "./tokens.ts";

/** Options of {@linkcode planFromBlocks}. */
export interface BlockPlanOptions {
  /** T, a multiple of the number of blocks. */
  readonly tokens: number;
  /** Number of experts. */
  readonly experts: number;
  /** Expert of each block, u32[P], below `experts`. */
  readonly blockExperts: Tensor;
  /** Which tokens are real, bool[T]; padding gets no row. With a mask the tokens are sorted after all. */
  readonly mask?: Tensor | undefined;
}

/** One block needs no sort at all: its place is 0 and its expert has everything. */
function groupBlocks(blockExperts: Tensor, experts: number): Grouping {
  if (blockExperts.size !== 1) return group(blockExperts, experts);
  const zero = fullLike([1], "u32", 0);
  return {
    order: zero,
    rank: zero,
    offsets: castTo(greater(iota([experts + 1], "u32", 0), blockExperts), "u32"),
    counts: castTo(equal(iota([experts], "u32", 0), blockExperts), "u32"),
  };
}

/**
 * Builds a plan where each block of T / P consecutive tokens goes to one expert, with weight 1 and nothing dropped.
 *
 * It equals `planFromTopK` of the same choices, but sorts the P blocks instead of the T tokens, and a single block not at
 * all.
 *
 * @returns A plan with `assignments` = T.
 * @throws {ShapeError} If `blockExperts` or the mask have other shapes.
 * @throws {DTypeError} If the experts are not u32, or the mask not bool.
 * @throws {ConfigError} If the blocks do not divide the tokens.
 *
 * @example Two sequences of three tokens
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, planFromBlocks, read, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const blockExperts = tensor([1, 0], { dtype: "u32" });
 * const { expertOffsets, rowToken } = await read(planFromBlocks({ tokens: 6, experts: 2, blockExperts }));
 * assertEquals([...expertOffsets], [0, 3, 6]);
 * assertEquals([...rowToken], [3, 4, 5, 0, 1, 2]);
 * ```
 */
export function planFromBlocks({ tokens, experts, blockExperts, mask }: BlockPlanOptions): DispatchPlan {
  const blocks = blockExperts.size;
  expectArgument("planFromBlocks", "blockExperts", blockExperts, [blocks], "u32");
  const size = tokens / blocks;
  expectNoProblems(
    "planFromBlocks",
    Number.isInteger(size) ? [] : [["tokens", tokens, `must be a multiple of ${blocks}, the number of blocks`]],
  );
  if (mask !== undefined || tokens === 0) return sortedPlan({ tokens, experts, blockExperts, mask });
  const { order, rank, offsets, counts } = groupBlocks(blockExperts, experts);
  const rowToken = spreadBlocks(order, tokens);
  const load = mul(counts, size);
  return {
    tokens,
    experts,
    assignments: tokens,
    expertOffsets: mul(offsets, size),
    rowToken,
    rowAssign: rowToken,
    assignRow: spreadBlocks(rank, tokens),
    weight: fullLike([tokens], "f32", 1),
    scaleAt: "output",
    aux: {},
    stats: {
      load,
      counts: load,
      dropped: fullLike([], "u32", 0),
      entropy: entropyOf(div(castTo(counts, "f32"), blocks)),
    },
  };
}

/** Moves whole blocks: element i of block b becomes element i of block `places[b]`, u32[T]. */
function spreadBlocks(places: Tensor, tokens: number): Tensor {
  const size = tokens / places.size;
  const token = iota([tokens], "u32", 0);
  return add(mul(takeRows(places, div(token, size)), size), remainder(token, size));
}

function sortedPlan({ tokens, experts, blockExperts, mask }: BlockPlanOptions): DispatchPlan {
  const blocks = blockExperts.size;
  const byBlock = expandTo(reshapeTo(blockExperts, [blocks, 1]), [blocks, tokens / blocks]);
  return planFromTopK({
    experts,
    indices: reshapeTo(byBlock, [tokens, 1]),
    weights: fullLike([tokens, 1], "f32", 1),
    mask,
  });
}

/**
 * Builds a plan where every token visits every expert with the weight 1 / E: the mean of all experts. Rows need no sort.
 *
 * @param mask Which tokens are real, bool[T]; padding gets no row, and the rows are sorted after all.
 * @returns A plan with `assignments` = T · E.
 */
export function planOfAll(tokens: number, experts: number, mask?: Tensor): DispatchPlan {
  const assignments = tokens * experts;
  if (mask !== undefined || tokens === 0) {
    return planFromTopK({
      experts,
      indices: iota([tokens, experts], "u32", 1),
      weights: fullLike([tokens, experts], "f32", 1 / experts),
      mask,
    });
  }
  const row = iota([assignments], "u32", 0);
  const rowToken = remainder(row, tokens);
  const load = fullLike([experts], "u32", tokens);
  return {
    tokens,
    experts,
    assignments,
    expertOffsets: mul(iota([experts + 1], "u32", 0), tokens),
    rowToken,
    rowAssign: add(mul(rowToken, experts), div(row, tokens)),
    assignRow: add(mul(remainder(row, experts), tokens), div(row, experts)),
    weight: fullLike([assignments], "f32", 1 / experts),
    scaleAt: "output",
    aux: {},
    stats: { load, counts: load, dropped: fullLike([], "u32", 0), entropy: fullLike([], "f32", Math.log(experts)) },
  };
}
