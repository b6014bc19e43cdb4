import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { linear } from "../../src/layers/linear.ts";
import { key } from "../../src/ops/random.ts";
import { checkLayer } from "../support/check_layer.ts";
import { oracleTest } from "../support/runtimes.ts";

checkLayer({
  layer: linear({ inputs: 3, outputs: 5 }),
  name: "linear(3 -> 5)",
  params: { ".weight": "f32[3, 5]", ".bias": "f32[5]" },
  inputs: [{ shape: [2, 7, 3] }],
});

checkLayer({
  layer: linear({ inputs: 4, outputs: 1, bias: false }),
  name: "linear(4 -> 1)",
  params: { ".weight": "f32[4, 1]" },
  inputs: [{ shape: [4] }],
});

oracleTest("linear() starts with weights of variance scale / inputs and biases of 0", async () => {
  const params = linear({ inputs: 64, outputs: 100, scale: 0.25 }).init(key(4));
  const weights = Array.from(await params.weight.data());
  const mean = weights.reduce((sum, w) => sum + w, 0) / weights.length;
  const variance = weights.reduce((sum, w) => sum + (w - mean) ** 2, 0) / weights.length;
  assertAlmostEquals(mean, 0, 0.003);
  assertAlmostEquals(variance, 0.25 / 64, 0.0002);
  assertEquals([...await params.bias!.data()], new Array(100).fill(0));
});

Deno.test("linear() names every invalid option", () => {
  const error = assertThrows(
    () => linear({ inputs: 0, outputs: 2.5, biass: true } as unknown as Parameters<typeof linear>[0]),
    ConfigError,
  );
  assertEquals(
    error.message,
    [
      "Cannot build linear: 3 options are invalid",
      "  inputs   0     must be a whole number from 1 up",
      "  outputs  2.5   must be a whole number from 1 up",
      "  biass    true  unknown option; did you mean bias?",
    ].join("\n"),
  );
});
