import { assertAlmostEquals, assertEquals, assertNotEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { Key } from "../../src/core/key.ts";
import { dropoutLayer } from "../../src/layers/dropout.ts";
import { ones } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { checkLayer } from "../support/check_layer.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const layer = dropoutLayer({ rate: 0.25 });

checkLayer({
  layer,
  name: "dropout(0.25)",
  params: {},
  inputs: [{ shape: [4, 9] }],
  context: () => ({ key: key(2), train: true }),
});

oracleTest("dropoutLayer() drops the given share and keeps the mean", async () => {
  const values = Array.from(await layer.apply({}, ones([200, 100]), { key: key(1), train: true }).data());
  const dropped = values.filter((value) => value === 0).length / values.length;
  assertAlmostEquals(dropped, 0.25, 0.01);
  assertAlmostEquals(values.reduce((sum, value) => sum + value, 0) / values.length, 1, 0.015);
  assertEquals(new Set(values.map((value) => value.toFixed(5))), new Set(["0.00000", "1.33333"]));
});

oracleTest("dropoutLayer() draws by its key alone", async () => {
  const draw = (seed: number) => layer.apply({}, ones([50]), { key: key(seed), train: true }).data();
  assertEquals(await draw(1), await draw(1));
  assertNotEquals(await draw(1), await draw(2));
});

gpuTest("dropoutLayer() draws the same numbers under jit", async () => {
  const draw = (from: Key) => layer.apply({}, ones([50]), { key: from, train: true });
  assertEquals(await jit(draw)(key(3)).data(), await draw(key(3)).data());
});

Deno.test("dropoutLayer() passes its input through outside training and at rate 0", () => {
  const x = ones([3]);
  assertStrictEquals(layer.apply({}, x), x);
  assertStrictEquals(layer.apply({}, x, { key: key(0) }), x);
  assertStrictEquals(dropoutLayer({ rate: 0 }).apply({}, x, { train: true }), x);
});

Deno.test("dropoutLayer() says that training needs a key", () => {
  const error = assertThrows(() => layer.apply({}, ones([3]), { train: true }), ConfigError);
  assertEquals(
    error.message,
    [
      "Cannot train dropout(0.25): it draws at random and the context has no key",
      "  context  { train: true }",
      "Fix: pass { key, train: true } with a new key for each step, or leave train out",
    ].join("\n"),
  );
});
