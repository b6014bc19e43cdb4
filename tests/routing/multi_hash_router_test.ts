import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { multiHashRouter } from "../../src/routing/multi_hash_router.ts";
import { checkRouter, readPlan } from "../support/check_router.ts";
import { oracleTest } from "../support/runtimes.ts";

checkRouter({
  name: "multiHashRouter()",
  router: multiHashRouter({ experts: 3, segments: 2, vocabulary: 8 }),
  width: 2,
  vocabulary: 8,
});

oracleTest("multiHashRouter() numbers the segments of each token's experts", async () => {
  const tables = [[0, 1, 2, 0], [2, 2, 0, 1], [1, 0, 1, 0]];
  const router = multiHashRouter({ experts: 3, segments: 3, vocabulary: 4, tables });
  assertEquals([router.name, router.experts, router.segments], ["multiHash(3 x 3)", 9, 3]);
  const ids = [3, 0, 9, 1];
  const tokens = { hidden: zeros([4, 2]), ids: tensor(ids, { dtype: "u32" }) };
  const plan = await readPlan(router.route(router.init(key(0)), tokens));
  const expected = [0, 1, 3].flatMap((token) =>
    tables.map((table, m) => ({ expert: m * 3 + table[ids[token]!]!, assignment: token * 3 + m }))
  ).sort((a, b) => a.expert - b.expert || a.assignment - b.assignment);
  assertEquals(plan.rowAssign.slice(0, 9), expected.map(({ assignment }) => assignment));
  assertEquals(plan.counts, Array.from({ length: 9 }, (_, e) => expected.filter(({ expert }) => expert === e).length));
  assertEquals(plan.weight, [1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1]);
});

oracleTest("multiHashRouter() draws another table for each segment", async () => {
  const data = [...await multiHashRouter({ experts: 8, segments: 2, vocabulary: 50 }).init(key(0)).tables.data()];
  const agreements = data.slice(0, 50).filter((expert, id) => expert === data[50 + id]).length;
  assertEquals([data.length, agreements < 20], [100, true]);
});

oracleTest("multiHashRouter() refuses invalid options when it is built, and tokens without ids", () => {
  const error = assertThrows(
    () => multiHashRouter({ experts: 2, segments: 3, vocabulary: 2, tables: [[0, 1], [0, 1, 1, 5]] }),
    ConfigError,
  );
  assertEquals(
    error.message,
    `Cannot build multiHashRouter: 3 options are invalid
  tables.length    2  must be 3, one for each segment (segments is 3)
  tables.1.length  4  must be 2, one for each id (vocabulary is 2)
  tables.1.3       5  must be a whole number in 0..1 (experts is 2)`,
  );
  assertThrows(() => multiHashRouter({ experts: 0, segments: 0.5, vocabulary: 2 }), ConfigError, "2 options");
  const router = multiHashRouter({ experts: 2, segments: 2, vocabulary: 3 });
  const hidden = zeros([2, 2]);
  assertThrows(() => router.route(router.init(key(0)), { hidden }), ConfigError, "the tokens have no ids");
  const tables = zeros([2, 4], { dtype: "u32" });
  const ids = zeros([2], { dtype: "u32" });
  assertThrows(() => router.route({ tables }, { hidden, ids }), ShapeError, "its shape should be [2, 3]");
});
