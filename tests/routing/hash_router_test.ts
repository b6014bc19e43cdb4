import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError, ShapeError } from "../../src/core/errors.ts";
import { arange, ones, tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { balancedHashTable, hashRouter, type HashRouterOptions } from "../../src/routing/hash_router.ts";
import { hashToBuckets, mixBits, mixPair } from "../../src/routing/integer_hash.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const COUNTS = [50, 30, 20, 20, 10, 10, 5, 5];

/** Eight ids in three clusters: 0 to 3, 4 to 6 and 7. */
const EMBEDDINGS = [[0, 0], [0.1, 0], [0, 0.2], [0.1, 0.1], [5, 5], [5, 5.1], [5.2, 5], [-9, 4]];

for (const table of ["random", "hashed", "balanced"] as const) {
  checkRouter({
    name: `hashRouter() with a ${table} table`,
    router: hashRouter({ experts: 3, vocabulary: 8, table, ...(table === "balanced" && { counts: COUNTS }) }),
    width: 2,
    vocabulary: 8,
  });
}

for (const table of ["clustered", "dispersed"] as const) {
  const routerOf = () => hashRouter({ experts: 3, vocabulary: 8, table, embeddings: tensor(EMBEDDINGS) });
  checkRouter({
    name: `hashRouter() with a ${table} table`,
    router: routerOf(),
    // Tensors belong to the runtime that computed them, so each runtime gets its own embeddings.
    params: () => routerOf().init(key(0)),
    width: 2,
    vocabulary: 8,
  });
}

const MIXED = [[0, 0], [1, 1364076727], [2, 821347078], [3, 2247144487], [42, 142593372], [50256, 3560162814]];

async function checkMixer(): Promise<void> {
  const ids = tensor(MIXED.map(([id]) => id!), { dtype: "u32" });
  assertEquals([...await mixBits(ids).data()], MIXED.map(([, mixed]) => mixed!));
}

oracleTest("mixBits() has the published values", checkMixer);
gpuTest("mixBits() has the published values", checkMixer);

async function checkPairs(): Promise<void> {
  const [first, second] = [[0, 1, 1, 7], [1, 0, 1, 3]].map((ids) => tensor(ids, { dtype: "u32" }));
  assertEquals([...await mixPair(first!, second!).data()], [1863002342, 1895220952, 3530840802, 2405328001]);
}

oracleTest("mixPair() has the published values", checkPairs);
gpuTest("mixPair() has the published values", checkPairs);

async function checkBuckets(): Promise<void> {
  for (const buckets of [1, 3, 16, 65_535, 65_536]) {
    const mixed = await mixBits(
      tensor([0, 1, 2, 50256, 4294967295].map((id) => id + 0x9e3779b9 >>> 0), { dtype: "u32" }),
    )
      .data();
    const found = await hashToBuckets(tensor([0, 1, 2, 50256, 4294967295], { dtype: "u32" }), buckets).data();
    assertEquals([...found], Array.from(mixed, (value) => Number((BigInt(value) * BigInt(buckets)) >> 32n)));
  }
}

oracleTest("hashToBuckets() takes the high half of the product", checkBuckets);
gpuTest("hashToBuckets() takes the high half of the product", checkBuckets);

Deno.test("balancedHashTable() evens out the tokens of the corpus", () => {
  const table = balancedHashTable(COUNTS, 3);
  assertEquals(table, [0, 1, 2, 2, 1, 1, 2, 2]);
  const loads = [0, 0, 0];
  table.forEach((expert, id) => loads[expert]! += COUNTS[id]!);
  assertEquals(loads, [50, 50, 50]);
  const cyclic = [0, 0, 0];
  COUNTS.forEach((count, id) => cyclic[id % 3]! += count);
  assertEquals(cyclic, [75, 45, 30], "what the remainder of the id would give");
});

oracleTest("hashRouter() draws its table with the key of init, and hashes without one", async () => {
  const tableOf = async (table: "random" | "hashed", seed: number) => [
    ...await hashRouter({ experts: 5, vocabulary: 400, table }).init(key(seed)).table.data(),
  ];
  const random = await tableOf("random", 1);
  assertEquals(await tableOf("random", 1), random);
  assert(String(await tableOf("random", 2)) !== String(random));
  const hashed = await tableOf("hashed", 1);
  assertEquals(await tableOf("hashed", 2), hashed);
  for (const table of [random, hashed]) {
    for (let expert = 0; expert < 5; expert++) {
      const share = table.filter((each) => each === expert).length;
      assert(share > 50 && share < 110, `expert ${expert} has ${share} of 400 ids`);
    }
  }
});

oracleTest("hashRouter() gives every token the expert of its id, with weight 1 and no losses", async () => {
  const router = hashRouter({ experts: 3, vocabulary: 8, table: "balanced", counts: COUNTS });
  const ids = tensor([0, 1, 7, 0, 3, 1], { dtype: "u32" });
  const mask = tensor([true, true, true, true, true, false]);
  const plan = await readPlan(router.route(router.init(key(0)), { hidden: ones([6, 2]), ids, mask }));
  assertEquals(plan.expertOffsets, [0, 2, 3, 5]);
  assertEquals(plan.rowToken.slice(0, 5), [0, 3, 1, 2, 4]);
  assertEquals(plan.weight, [1, 1, 1, 1, 1, 0]);
  assertEquals(plan.aux, {});
  assertEquals([plan.load, plan.dropped], [[2, 1, 2], 1]);
});

oracleTest("hashRouter() gives no expert to an id outside the vocabulary", async () => {
  const router = hashRouter({ experts: 2, vocabulary: 4, table: "hashed" });
  const ids = tensor([4, 4294967295], { dtype: "u32" });
  const plan = await readPlan(router.route(router.init(key(0)), { hidden: ones([2, 2]), ids }));
  assertEquals([plan.counts, plan.weight, plan.entropy], [[0, 0], [0, 0], 0]);
});

oracleTest("hashRouter() refuses tokens without ids and tables of another vocabulary", () => {
  const router = hashRouter({ experts: 2, vocabulary: 4 });
  const { table } = router.init(key(0));
  const hidden = zeros([3, 2]);
  const missing = assertThrows(() => router.route({ table }, { hidden }), ConfigError);
  assertEquals(
    missing.message,
    `Cannot route with hash(random, 2): the tokens have no ids
  tokens.hidden  f32[3, 2]
Fix: pass the token ids beside the hidden states: { hidden, ids }`,
  );
  const other = assertThrows(() => router.route({ table: arange(5) }, { hidden, ids: arange(3) }), ShapeError);
  assertEquals(
    other.message,
    `Cannot route: params.table is u32[5], its shape should be [4]
  op  hash(random, 2)
Fix: pass params.table with the shape [4]`,
  );
  const float = { hidden, ids: zeros([3]) };
  assertThrows(() => router.route({ table }, float), DTypeError, "tokens.ids is f32[3], its type should be u32");
});

Deno.test("hashRouter() reports all invalid options at once", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const options: any = { experts: 0, vocabulary: 4.5, table: "balance", count: [1] };
  const error = assertThrows(() => hashRouter(options), ConfigError);
  assertEquals(
    error.message,
    `Cannot build hashRouter: 4 options are invalid
  experts     0          must be a whole number in 1..65536
  vocabulary  4.5        must be a whole number from 1 up
  table       "balance"  must be one of random, hashed, balanced, clustered, dispersed; did you mean balanced?
  count       [1]        unknown option; did you mean counts?`,
  );
});

Deno.test("hashRouter() refuses tables of another vocabulary and options that do not go together", () => {
  const refusals: readonly (readonly [Omit<HashRouterOptions, "experts" | "vocabulary">, string])[] = [
    [{ table: "balanced", counts: [1, 2] }, "counts.length  2  must be 3, one for each id (vocabulary is 3)"],
    [{ table: "balanced" }, "counts  undefined  must be given for a balanced table"],
    [{ counts: [1, 2, 3] }, `table  "random"  must be balanced where counts are given`],
    [{ table: [0, 1] }, "table.length  2  must be 3, one for each id (vocabulary is 3)"],
    [{ table: [0, 1, 2] }, "table.2  2  must be a whole number in 0..1 (experts is 2)"],
    [{ table: "clustered" }, "embeddings  undefined  must be given for a clustered table"],
    [
      { table: "dispersed", embeddings: zeros([4, 2]) },
      "embeddings.shape.0  4  must be 3, one row for each id (vocabulary is 3)",
    ],
    [{ embeddings: zeros([3, 2]) }, `table  "random"  must be clustered or dispersed where embeddings are given`],
    [{ entries: 8 }, "entries  8  must be left out where the table is of ids (reads is token)"],
  ];
  for (const [options, message] of refusals) {
    assertThrows(() => hashRouter({ experts: 2, vocabulary: 3, ...options }), ConfigError, message);
  }
  const error = assertThrows(
    () =>
      hashRouter({ experts: 4, vocabulary: 3, reads: "previous", table: "clustered", entries: 8, counts: [1, 1, 1] }),
    ConfigError,
  );
  assertEquals(
    error.message,
    `Cannot build hashRouter: 4 options are invalid
  table       "clustered"  must be random or hashed where the table is not of tokens (reads is previous)
  entries     8            must be left out where the table is of ids (reads is previous)
  table       "clustered"  must be balanced where counts are given
  embeddings  undefined    must be given for a clustered table`,
  );
});

oracleTest("hashRouter() takes a table as it is given", async () => {
  const router = hashRouter({ experts: 3, vocabulary: 4, table: [2, 0, 0, 1] });
  assertEquals(router.name, "hash(given, 3)");
  assertEquals([...await router.init(key(0)).table.data()], [2, 0, 0, 1]);
});
