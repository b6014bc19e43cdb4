/**
 * An auction that deals out tokens to experts of limited capacity, in whole numbers and a fixed number of rounds.
 *
 * In each round every token without a place bids for the expert it values most, score less price, and offers as much as
 * that one is worth to it above its second best, and a little more. Every expert keeps the highest bids it has room for;
 * once full, its price is the lowest it keeps. In whole numbers the result is the same on every device.
 *
 * Kernel: three dispatches a round. Bidding has one invocation for each token, which walks the E experts. Then strips of
 * tokens count who has bid. Ranking has one invocation for each token again, which walks the N bids of its batch four at
 * a time, unless nobody has bid: then the auction is over and the other rounds cost next to nothing. All loops stay far
 * below the 65,535 iterations that a software adapter allows. Memory: three numbers a token and one an expert.
 *
 * Source: Bertsekas and Castañon 1989 (similar objects share a price); Lewis et al. 2021 for its use in routing.
 *
 * @module
 */
import { reshapeTo } from "../core/arithmetic.ts";
import { hostFill } from "../core/host.ts";
import { type KernelContext, type Operand, wgsl } from "../core/kernel.ts";
import { definePrimitive, type HostArray, type Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { spread } from "../core/vmap.ts";

/** Static parameters of an auction. */
export interface AuctionAttrs {
  /** Rounds, whoever is left over. */
  readonly rounds: number;
  /** How much a bid exceeds what the expert is worth at least, from 1 up. */
  readonly increment: number;
}

/** Experts by token of one batch element on the host. */
function auctionOnHost(scores: Float64Array, experts: number, capacity: number, attrs: AuctionAttrs): Uint32Array {
  const tokens = scores.length / experts;
  const prices = new Array<number>(experts).fill(0);
  const held = new Uint32Array(tokens).fill(experts);
  const wanted = new Uint32Array(tokens).fill(experts);
  const bids = new Array<number>(tokens).fill(0);
  for (let round = 0; round < attrs.rounds; round++) {
    for (let t = 0; t < tokens; t++) {
      if (held[t] !== experts || scores[t * experts]! < 0) continue;
      const values = prices.map((price, e) => scores[t * experts + e]! - price);
      const best = values.indexOf(Math.max(...values));
      const second = experts === 1 ? values[0]! : Math.max(...values.filter((_, e) => e !== best));
      wanted[t] = best;
      bids[t] = scores[t * experts + best]! - second + attrs.increment;
    }
    for (let e = 0; e < experts; e++) {
      const bidders = [...wanted.keys()].filter((t) => wanted[t] === e).sort((a, b) => bids[b]! - bids[a]! || a - b);
      bidders.forEach((t, rank) => held[t] = rank < capacity ? e : experts);
      if (capacity >= 1 && bidders.length >= capacity) prices[e] = bids[bidders[capacity - 1]!]!;
    }
  }
  return held;
}

/** Tokens that one invocation looks through for bids. */
const STRIP = 64;

function build(kernel: KernelContext, { rounds, increment }: AuctionAttrs): void {
  const [scores, capacity] = kernel.inputs as [Operand, Operand];
  const [held] = kernel.outputs as [Operand];
  const [batch, tokens, experts] = scores.shape as [number, number, number];
  if (batch * tokens === 0) return;
  const prices = kernel.scratch([batch, experts], "i32");
  // Padded to a multiple of four, so that ranking can load four at a time; what is past the end wants nobody.
  const stride = Math.ceil(tokens / 4) * 4;
  const wanted = kernel.scratch([batch, stride], "u32");
  const bids = kernel.scratch([batch, stride], "i32");
  const strips = Math.ceil(batch * tokens / STRIP);
  const bidders = kernel.scratch([strips], "u32");
  kernel.dispatch({
    label: "auction: open",
    grid: { threads: batch * Math.max(stride, experts) },
    reads: [],
    writes: [held, prices, wanted, bids],
    body: (code) =>
      wgsl`
    if (id < ${batch * tokens}u) { ${code.store(held, "id", `${experts}u`)} }
    if (id < ${batch * experts}u) { ${code.store(prices, "id", "0")} }
    if (id < ${batch * stride}u) { ${code.store(wanted, "id", `${experts}u`)} ${code.store(bids, "id", "0")} }`,
  });
  for (let round = 0; round < rounds; round++) {
    kernel.dispatch({
      label: "auction: bid",
      grid: { threads: batch * tokens },
      reads: [scores, held, prices],
      writes: [wanted, bids],
      body: (code) =>
        wgsl`
    let own = id * ${experts}u;
    if (${code.load(held, "id")} == ${experts}u && ${code.load(scores, "own")} >= 0) {
      let price = (id / ${tokens}u) * ${experts}u;
      let at = (id / ${tokens}u) * ${stride}u + id % ${tokens}u;
      var best = ${code.load(scores, "own")} - ${code.load(prices, "price")};
      var second = ${experts === 1 ? "best" : "-2147483647"};
      var choice = 0u;
      for (var e = 1u; e < ${experts}u; e++) {
        let value = ${code.load(scores, "own + e")} - ${code.load(prices, "price + e")};
        if (value > best) { second = best; best = value; choice = e; } else { second = max(second, value); }
      }
      ${code.store(wanted, "at", "choice")}
      ${code.store(bids, "at", `${code.load(scores, "own + choice")} - second + ${increment}`)}
    }`,
    });
    kernel.dispatch({
      label: "auction: count bidders",
      grid: { threads: strips },
      reads: [held, wanted],
      writes: [bidders],
      body: (code) =>
        wgsl`
    var count = 0u;
    for (var i = id * ${STRIP}u; i < min(id * ${STRIP}u + ${STRIP}u, ${batch * tokens}u); i++) {
      let choice = ${code.load(wanted, `(i / ${tokens}u) * ${stride}u + i % ${tokens}u`)};
      count += select(0u, 1u, ${code.load(held, "i")} == ${experts}u && choice < ${experts}u);
    }
    ${code.store(bidders, "id", "count")}`,
    });
    kernel.dispatch({
      label: "auction: rank",
      grid: { threads: batch * tokens },
      reads: [wanted, bids, bidders, capacity],
      writes: [held, prices],
      body: (code) =>
        wgsl`
    let b = id / ${tokens}u;
    let t = id % ${tokens}u;
    let choice = ${code.load(wanted, `b * ${stride}u + t`)};
    let bid = ${code.load(bids, `b * ${stride}u + t`)};
    var bidder_count = 0u;
    for (var strip = 0u; strip < ${strips}u; strip++) { bidder_count += ${code.load(bidders, "strip")}; }
    if (choice < ${experts}u && bidder_count > 0u) {
      var rank = 0u;
      for (var u = 0u; u < ${stride}u; u += 4u) {
        let place = vec4<u32>(u, u + 1u, u + 2u, u + 3u);
        let other = ${code.load(bids, `b * ${stride}u + u`, 4)};
        let is_rival = ${code.load(wanted, `b * ${stride}u + u`, 4)} == vec4<u32>(choice);
        let is_ahead = (other > vec4<i32>(bid)) | ((other == vec4<i32>(bid)) & (place < vec4<u32>(t)));
        let ahead = select(vec4<u32>(0u), vec4<u32>(1u), is_rival & is_ahead);
        rank += ahead.x + ahead.y + ahead.z + ahead.w;
      }
      let slots = ${code.load(capacity, "b")};
      ${code.store(held, "id", `select(${experts}u, choice, rank < slots)`)}
      // One token has this rank, so one invocation writes the price.
      if (rank + 1u == slots) { ${code.store(prices, `b * ${experts}u + choice`, "bid")} }
    }`,
    });
  }
}

/**
 * Primitive behind {@linkcode auction}: scores i32[B, N, E] from 0 up and capacities u32[B] -> u32[B, N]. A token whose
 * first score is negative takes no part.
 */
export const auctionPrimitive: Primitive = definePrimitive<AuctionAttrs>({
  name: "auction",
  kind: "discrete",
  shape: ([scores]) => [{ shape: scores!.shape.slice(0, 2), dtype: "u32" }],
  host([scores, capacity]: readonly HostArray[], attrs) {
    const [batch, tokens, experts] = scores!.shape as [number, number, number];
    const size = tokens * experts;
    const rows = Array.from(
      { length: batch },
      (_, b) => auctionOnHost(scores!.data.subarray(b * size, (b + 1) * size), experts, capacity!.data[b]!, attrs),
    );
    return [
      hostFill({ shape: [batch, tokens], dtype: "u32" }, (i) => rows[Math.floor(i / tokens)]![i % tokens]!),
    ];
  },
  batch([scores, capacity], mapped, attrs, size) {
    const all = mapped[0] ? scores! : spread(scores!, size);
    const slots = mapped[1] ? capacity! : spread(capacity!, size);
    const [count, batch, tokens, experts] = all.shape as [number, number, number, number];
    const found = apply(
      auctionPrimitive,
      [reshapeTo(all, [count * batch, tokens, experts]), reshapeTo(slots, [count * batch])],
      attrs,
    );
    return [reshapeTo(found, [count, batch, tokens])];
  },
  lower: { as: "kernel", build },
});

/**
 * Deals out tokens to experts by auction.
 *
 * @param scores i32[N, E] from 0 up, below 2^24; a token whose first score is negative takes no part.
 * @param capacity u32 scalar: slots of each expert.
 * @returns u32[N]: expert of each token; E for those that take no part or are left over after the last round.
 */
export function auction(scores: Tensor, capacity: Tensor, attrs: AuctionAttrs): Tensor {
  const [tokens, experts] = scores.shape as [number, number];
  const found = apply(auctionPrimitive, [reshapeTo(scores, [1, tokens, experts]), reshapeTo(capacity, [1])], attrs);
  return reshapeTo(found, [tokens]);
}
