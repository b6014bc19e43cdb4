import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { hashRouter } from "../../src/routing/hash_router.ts";
import { bucketOf, mixPair } from "../../src/routing/integer_hash.ts";
import { type CarriedHistory, nextIds, previousIds } from "../../src/routing/neighbor_ids.ts";
import type { Tokens } from "../../src/routing/plan_types.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const VOCABULARY = 7;
const NONE = VOCABULARY;

for (const reads of ["previous", "bigram", "position", "next"] as const) {
  const hasEntries = reads === "bigram" || reads === "position";
  checkRouter({
    name: `hashRouter() of the ${reads}`,
    router: hashRouter({ experts: 3, vocabulary: VOCABULARY, reads, ...(hasEntries && { entries: 40 }) }),
    width: 2,
    vocabulary: VOCABULARY,
    sequenceLength: 6,
  });
}

/** Two sequences of five; the second holds two documents and ends in padding. */
const IDS = [3, 1, 4, 1, 5, 2, 6, 0, 6, 9];
const POSITIONS = [0, 1, 2, 3, 4, 7, 8, 0, 1, 2];
const MASK = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0];

function unsigned(values: readonly number[]): Tensor {
  return tensor(values, { dtype: "u32" });
}

function documents(): Tokens & { readonly ids: Tensor } {
  const mask = tensor(MASK.map(Boolean), { dtype: "bool" });
  return { hidden: zeros([10, 2]), ids: unsigned(IDS), positions: unsigned(POSITIONS), mask, sequenceLength: 5 };
}

async function checkNeighbors(): Promise<void> {
  const tokens = documents();
  const { previous, history } = previousIds("test", tokens, tokens.ids, VOCABULARY);
  const found = await read({ previous, history, next: nextIds("test", tokens, tokens.ids, VOCABULARY) });
  assertEquals([...found.previous], [NONE, 3, 1, 4, 1, NONE, 2, NONE, 0, 6]);
  assertEquals([...found.next], [1, 4, 1, 5, NONE, 6, NONE, 6, NONE, NONE]);
  const { start, before, end, last } = found.history;
  assertEquals([[...start], [...before]], [[0, 7], [NONE, NONE]]);
  assertEquals([[...end], [...last]], [[5, 2], [5, 6]]);
}

oracleTest("previousIds() and nextIds() stop at documents, sequences and padding", checkNeighbors);
gpuTest("previousIds() and nextIds() stop at documents, sequences and padding", checkNeighbors);

oracleTest("previousIds() finds none behind padding, and goes on where a history ends", async () => {
  const ids = unsigned([1, 2, 3, 4]);
  const mask = tensor([true, false, true, true]);
  const piece = { hidden: zeros([4, 2]), ids, mask, positions: unsigned([5, 6, 7, 8]) };
  const at = (value: number) => unsigned([value]);
  const previousAfter = async (start: number, end: number) => [
    ...await previousIds("test", piece, ids, VOCABULARY, {
      start: at(start),
      before: at(0),
      end: at(end),
      last: at(6),
    }).previous.data(),
  ];
  assertEquals(await previousAfter(2, 5), [6, 1, NONE, 3], "the step before ends here");
  assertEquals(await previousAfter(5, 9), [0, 1, NONE, 3], "the layer before read the same piece");
  assertEquals(await previousAfter(1, 4), [NONE, 1, NONE, 3], "another place");
});

oracleTest("previousIds() keeps the history of a piece that is all padding", async () => {
  const tokens = { hidden: zeros([2, 2]), mask: tensor([false, false]), positions: unsigned([3, 4]) };
  const [start, before, end, last] = [1, 5, 3, 2].map((value) => unsigned([value])) as [Tensor, Tensor, Tensor, Tensor];
  const { history } = previousIds("test", tokens, unsigned([1, 1]), VOCABULARY, { start, before, end, last });
  const found = await read({ ...history });
  assertEquals([found.start, found.before, found.end, found.last].map((each) => each[0]), [3, 2, 3, 2]);
});

oracleTest("hashRouter() looks up what it is told to read", async () => {
  const tokens = documents();
  const expertOf = async (reads: "bigram" | "position") => {
    const router = hashRouter({ experts: 3, vocabulary: VOCABULARY, reads, entries: 11 });
    const params = router.init(key(0));
    const experts = expertsOf(await readPlan(router.route(params, tokens)));
    return { experts, table: [...await params.table.data()] };
  };
  const pairs = [[NONE, 3], [3, 1], [1, 4], [4, 1], [1, 5], [NONE, 2], [2, 6], [NONE, 0], [0, 6]];
  const [first, second] = [0, 1].map((i) => unsigned(pairs.map((pair) => pair[i]!)));
  const bigram = await expertOf("bigram");
  const entries = [...await bucketOf(mixPair(first!, second!), 11).data()];
  assertEquals(bigram.experts, [...entries.map((entry) => bigram.table[entry]!), 3]);
  const position = await expertOf("position");
  assertEquals(position.experts, [...POSITIONS.slice(0, 9).map((place) => position.table[place]!), 3]);
});

oracleTest("hashRouter() reads neighbors from a table with an entry for none", async () => {
  const tokens = documents();
  const expected = { previous: [NONE, 3, 1, 4, 1, NONE, 2, NONE, 0], next: [1, 4, 1, 5, NONE, 6, NONE, 6, NONE] };
  for (const reads of ["previous", "next"] as const) {
    const router = hashRouter({ experts: 8, vocabulary: VOCABULARY, reads });
    const table = unsigned([0, 1, 2, 3, 4, 5, 6, 7]);
    const { load } = await readPlan(router.route({ table }, tokens));
    assertEquals(load, [0, 1, 2, 3, 4, 5, 6, 7].map((entry) => countOf(expected[reads], entry)));
    assertEquals(router.causal, reads === "previous");
    assertThrows(() => router.route({ table: zeros([7], { dtype: "u32" }) }, tokens), ShapeError, "[8]");
  }
});

function countOf(values: readonly number[], value: number): number {
  return values.filter((each) => each === value).length;
}

/** Experts by token of a plan for one expert each. */
function expertsOf({ expertOffsets, rowToken, tokens }: Awaited<ReturnType<typeof readPlan>>): number[] {
  return Array.from({ length: tokens }, (_, token) => {
    const row = rowToken.indexOf(token);
    return expertOffsets.findLastIndex((offset) => offset <= row);
  });
}

for (const reads of ["previous", "bigram"] as const) {
  oracleTest(`hashRouter() of the ${reads} routes token by token as all at once, through every layer`, async () => {
    const router = hashRouter({ experts: 5, vocabulary: VOCABULARY, reads });
    const params = router.init(key(3));
    const random = randomSource(1);
    const [batch, length] = [2, 6];
    const ids = Array.from({ length: batch * length }, () => random.integer(0, VOCABULARY));
    const piece = (from: number, to: number): Tokens => {
      const columns = Array.from({ length: to - from }, (_, i) => from + i);
      const places = Array.from({ length: batch }, () => columns).flat();
      return {
        hidden: zeros([batch * columns.length, 2]),
        ids: unsigned(Array.from({ length: batch }, (_, b) => columns.map((s) => ids[b * length + s]!)).flat()),
        positions: unsigned(places),
        sequenceLength: columns.length,
      };
    };
    const whole = expertsOf(await readPlan(router.route(params, piece(0, length))));
    let carry: unknown = { other: "kept" };
    for (const [from, to] of [[0, 2], [2, 3], [3, 4], [4, 6]] as const) {
      for (let layer = 0; layer < 2; layer++) {
        const plan = router.route(params, piece(from, to), { carry });
        const expected = Array.from({ length: batch }, (_, b) => whole.slice(b * length + from, b * length + to));
        assertEquals(expertsOf(await readPlan(plan)), expected.flat(), `tokens ${from} to ${to}, layer ${layer}`);
        carry = plan.carry;
        assertEquals((carry as { other: string }).other, "kept");
      }
    }
    assert((carry as CarriedHistory).idHistory !== undefined);
  });
}

oracleTest("hashRouter() makes tables of pairs and positions like those of ids", async () => {
  const tableOf = async (reads: "bigram" | "next", table: "random" | "hashed", seed: number) => [
    ...await hashRouter({ experts: 5, vocabulary: 9, reads, table }).init(key(seed)).table.data(),
  ];
  const bigram = await tableOf("bigram", "hashed", 1);
  const next = await tableOf("next", "hashed", 2);
  assertEquals([bigram.length, next.length], [16384, 10]);
  assertEquals(next, bigram.slice(0, 10));
  assertEquals(await tableOf("next", "random", 1), await tableOf("next", "random", 1));
  assert(String(await tableOf("next", "random", 1)) !== String(await tableOf("next", "random", 2)));
});

oracleTest("hashRouter() refuses a carry without positions, and one of another batch", () => {
  const router = hashRouter({ experts: 2, vocabulary: VOCABULARY, reads: "previous" });
  const params = router.init(key(0));
  const { positions, ...tokens } = documents();
  const { carry } = router.route(params, { ...tokens, positions: positions! });
  const error = assertThrows(() => router.route(params, tokens, { carry }), ConfigError);
  assertEquals(
    error.message,
    `Cannot route with hash(previous, random, 2): the context carries the ids before, and the tokens have no positions
Fix: pass the positions of the tokens in their sequences: { hidden, ids, positions }`,
  );
  const one = { hidden: zeros([5, 2]), ids: unsigned([1, 2, 3, 4, 5]), positions: unsigned([0, 1, 2, 3, 4]) };
  assertThrows(
    () => router.route(params, one, { carry }),
    ShapeError,
    "context.carry.idHistory.start is u32[2], its shape should be [1]",
  );
  assertThrows(() => router.route(params, { hidden: zeros([5, 2]) }), ConfigError, "the tokens have no ids");
});
