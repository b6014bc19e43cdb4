import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul, sub } from "../../src/ops/binary.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { idLookup } from "../../src/routing/id_lookup.ts";
import { lshLookup } from "../../src/routing/lsh_lookup.ts";
import { valueRows } from "../../src/routing/memory_lookup.ts";
import { softmaxLookup } from "../../src/routing/softmax_lookup.ts";
import { checkRouter } from "../support/check_router.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { normalTensor } from "../support/draw.ts";

checkRouter({ name: "idLookup()", router: idLookup({ rows: 6 }), width: 3, vocabulary: 8 });
checkRouter({
  name: "lshLookup()",
  router: lshLookup({ width: 3, rows: 8 }),
  width: 3,
  frozen: ["directions"],
});
checkRouter({
  name: "lshLookup() by cross-polytope",
  router: lshLookup({ width: 3, rows: 6, family: "crossPolytope" }),
  width: 3,
  frozen: ["directions"],
});
checkRouter({
  name: "softmaxLookup()",
  router: softmaxLookup({ width: 3, rows: 5, k: 2, jitter: 0.1, gateStd: 1 }),
  width: 3,
});

const POINTS = [[1, 2], [-1, 0.5], [2, 1], [0, -3]];

async function checkSpecifiedRows(): Promise<void> {
  const signs = lshLookup({ width: 2, rows: 8 });
  const cross = lshLookup({ width: 2, rows: 4, family: "crossPolytope" });
  const hidden = tensor(POINTS);
  const { bits, nearest } = await read({
    bits: signs.find({ directions: tensor([[1, 0, 1], [0, 1, -1]]) }, { hidden }).rows,
    nearest: cross.find({ directions: tensor([[1, -0.2], [0.3, 1]]) }, { hidden }).rows,
  });
  // The specification prints the bits of [1, 2] as 1, 1, 0 (its third projection is -1), which makes 3.
  assertEquals([...bits], [3, 2, 7, 4]);
  assertEquals([...nearest], [1, 2, 0, 3]);
}

oracleTest("lshLookup() finds the rows of the specification's example", checkSpecifiedRows);
gpuTest("lshLookup() finds the rows of the specification's example", checkSpecifiedRows);

oracleTest("lshLookup() ignores positive factors and gives opposite vectors opposite rows", async () => {
  const hidden = normalTensor([40, 5], 1);
  for (const family of ["signBits", "crossPolytope"] as const) {
    const lookup = lshLookup({ width: 5, rows: 16, family });
    const params = lookup.init(key(1));
    const rowsOf = (x: Tensor, directions = params.directions) => lookup.find({ directions }, { hidden: x }).rows;
    const { rows, scaled, decayed, opposite } = await read({
      rows: rowsOf(hidden),
      scaled: rowsOf(mul(hidden, 7.5)),
      decayed: rowsOf(hidden, mul(params.directions, 0.5)),
      opposite: rowsOf(sub(0, hidden)),
    });
    assertEquals([...scaled], [...rows]);
    assertEquals([...decayed], [...rows]);
    assertEquals([...opposite], Array.from(rows, (row) => family === "signBits" ? 15 - row : (row + 8) % 16));
    assert(new Set(rows).size > 4);
  }
});

oracleTest("lshLookup() is a loop over tokens and directions", async () => {
  const hidden = normalTensor([30, 5], 6);
  for (const family of ["signBits", "crossPolytope"] as const) {
    const lookup = lshLookup({ width: 5, rows: 16, family });
    const params = lookup.init(key(2));
    const data = await read({ hidden, directions: params.directions, rows: lookup.find(params, { hidden }).rows });
    const count = params.directions.shape[1]!;
    for (let t = 0; t < 30; t++) {
      const projections = Array.from({ length: count }, (_, j) => {
        let total = 0;
        for (let d = 0; d < 5; d++) total += data.hidden[t * 5 + d]! * data.directions[d * count + j]!;
        return total;
      });
      const both = [...projections, ...projections.map((value) => -value)];
      const expected = family === "signBits"
        ? projections.reduce((row, value, j) => row + (value > 0 ? 2 ** j : 0), 0)
        : both.indexOf(Math.max(...both));
      assertEquals(data.rows[t], expected, `${family}, token ${t}`);
    }
  }
});

oracleTest("lshLookup() takes a projection of 0 as bit 0 and ties as the lower row", async () => {
  const zero = { hidden: zeros([1, 2]) };
  const signs = lshLookup({ width: 2, rows: 4 });
  const cross = lshLookup({ width: 2, rows: 4, family: "crossPolytope" });
  assertEquals(await signs.find(signs.init(key(0)), zero).rows.item(), 0);
  assertEquals(await cross.find(cross.init(key(0)), zero).rows.item(), 0);
});

oracleTest("idLookup() gives each id its row, and none to an id past the memory or to padding", async () => {
  const ids = tensor([2, 0, 5, 3, 2], { dtype: "u32" });
  const mask = tensor([true, true, true, false, true]);
  const found = idLookup({ rows: 4 }).find({}, { hidden: zeros([5, 3]), ids, mask });
  assertEquals([...await found.rows.data()], [2, 0, 4, 4, 2]);
  const values = tensor([[1, 10], [2, 20], [3, 30], [4, 40]]);
  assertEquals([...await valueRows(values, found).data()], [3, 30, 1, 10, 0, 0, 0, 0, 3, 30]);
});

oracleTest("idLookup() hashes ids to all rows, equal ids to equal ones", async () => {
  const ids = tensor([...Array.from({ length: 200 }, (_, id) => id), 7], { dtype: "u32" });
  const data = await idLookup({ rows: 10, ids: "hashed" }).find({}, { hidden: zeros([201, 1]), ids }).rows.data();
  assertEquals(new Set(data), new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
  assertEquals(data[200], data[7]);
});

oracleTest("softmaxLookup() is a loop over tokens", async () => {
  const lookup = softmaxLookup({ width: 3, rows: 5, k: 2 });
  const [hidden, gate, values] = [normalTensor([7, 3], 2), normalTensor([3, 5], 3), normalTensor([5, 4], 4)];
  const found = lookup.find({ gate }, { hidden });
  const data = await read({ found: { rows: found.rows, weights: found.weights }, hidden, gate, values });
  const actual = await valueRows(values, found).data();
  for (let t = 0; t < 7; t++) {
    const logits = Array.from(
      { length: 5 },
      (_, m) => [0, 1, 2].reduce((sum, d) => sum + data.hidden[t * 3 + d]! * data.gate[d * 5 + m]!, 0),
    );
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const best = [0, 1, 2, 3, 4].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, 2);
    const weights = best.map((row) => Math.exp(logits[row]!) / total);
    assertEquals([...data.found.rows.slice(t * 2, t * 2 + 2)], best);
    const tolerance = { relative: 1e-6, absolute: 1e-6 };
    assertClose(data.found.weights.slice(t * 2, t * 2 + 2), weights, tolerance, "weights");
    const mixed = [0, 1, 2, 3].map((w) =>
      best.reduce((sum, row, choice) => sum + weights[choice]! * data.values[row * 4 + w]!, 0)
    );
    assertClose(actual.slice(t * 4, t * 4 + 4), mixed, tolerance, "read");
  }
});

Deno.test("lookups tell their settings and refuse bad options, all at once", () => {
  assertEquals(idLookup({ rows: 6 }).name, "idLookup(6)");
  assertEquals(idLookup({ rows: 6, ids: "hashed" }).name, "idLookup(hashed, 6)");
  assertEquals(lshLookup({ width: 3, rows: 8 }).name, "lshLookup(signBits, 8)");
  assertEquals(softmaxLookup({ width: 3, rows: 5, k: 2 }).name, "softmaxLookup(2/5)");
  const messageOf = (build: () => unknown) => assertThrows(build, ConfigError).message;
  assertEquals(
    messageOf(() => idLookup({ rows: 0, ids: "hash" as "hashed" })),
    `Cannot build idLookup: 2 options are invalid
  rows  0       must be a whole number from 1 up
  ids   "hash"  must be one of own, hashed; did you mean hashed?`,
  );
  assertEquals(
    messageOf(() => idLookup({ rows: 100_000, ids: "hashed" })),
    `Cannot build idLookup: 1 option is invalid
  rows  100000  must be a whole number in 1..65536 where ids are hashed`,
  );
  assertEquals(
    messageOf(() => lshLookup({ width: 3, rows: 12 })),
    `Cannot build lshLookup: 1 option is invalid
  rows  12  must be a power of two from 2 up (family is signBits)`,
  );
  assertEquals(
    messageOf(() => lshLookup({ width: 3, rows: 7, family: "crossPolytope" })),
    `Cannot build lshLookup: 1 option is invalid
  rows  7  must be even (family is crossPolytope)`,
  );
  assertEquals(
    messageOf(() => softmaxLookup({ width: 3, rows: 2, k: 3 })),
    `Cannot build softmaxLookup: 1 option is invalid
  k  3  must be a whole number in 1..2 (rows is 2)`,
  );
});

oracleTest("lookups refuse tokens without what they read", () => {
  assertThrows(() => idLookup({ rows: 6 }).find({}, { hidden: zeros([2, 3]) }), ConfigError, "the tokens have no ids");
  const lookup = softmaxLookup({ width: 3, rows: 2, jitter: 0.1 });
  const call = () => lookup.find(lookup.init(key(0)), { hidden: zeros([2, 3]) }, { train: true });
  assertThrows(call, ConfigError, "has no key");
});
